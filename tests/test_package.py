"""The package as it is installed: public names, version, weight of the import, what is in the wheel."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib import import_module
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest
from commands import commands
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

import ko_cpt_callbacks

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ko_cpt_callbacks"
HEAVY = ("torch", "transformers", "peft", "accelerate", "datasets", "numpy", "pandas", "pydantic", "typer")


def _typed_names() -> set[str]:
    """What a type checker sees: the imports under TYPE_CHECKING in ``__init__.py``."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in imports for alias in node.names}


def test_import_is_light() -> None:
    """Importing the package in a fresh process loads nothing but the standard library and itself."""
    code = f"import sys, json, ko_cpt_callbacks; print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert json.loads(found.stdout) == []


def test_public_names_are_sorted_and_complete() -> None:
    """``__all__`` is sorted, and is what is offered, what a type checker sees and what ``dir`` lists."""
    assert ko_cpt_callbacks.__all__ == sorted(ko_cpt_callbacks.__all__)
    assert {*ko_cpt_callbacks._HOMES, "__version__"} == set(ko_cpt_callbacks.__all__)
    assert {*_typed_names(), "__version__"} == set(ko_cpt_callbacks.__all__)
    assert dir(ko_cpt_callbacks) == ko_cpt_callbacks.__all__


@pytest.mark.parametrize("name", ko_cpt_callbacks.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Each name can be had from the package and is the object of its home module."""
    found = getattr(ko_cpt_callbacks, name)

    if name != "__version__":
        assert found is getattr(import_module(ko_cpt_callbacks._HOMES[name]), name)
        assert found.__doc__


def test_unknown_name() -> None:
    """A name that is not there is an AttributeError that says so."""
    with pytest.raises(AttributeError, match="module 'ko_cpt_callbacks' has no attribute 'nothing'"):
        _ = ko_cpt_callbacks.nothing


def test_version_is_the_newest_of_the_changelog() -> None:
    """The newest section of CHANGELOG.md is this version."""
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)

    assert newest is not None
    assert newest[1] == ko_cpt_callbacks.__version__


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy of the sources, without network."""
    copy = tmp_path_factory.mktemp("source") / "tree"
    copy.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, copy)
    for name in ("ko_cpt_callbacks", "recipes"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    code = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    built = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=copy)
    assert built.returncode == 0, built.stderr
    return zipfile.ZipFile(copy / "dist" / built.stdout.split()[-1])


def test_wheel_has_every_file(wheel: zipfile.ZipFile) -> None:
    """Every module and data file of the package, and the recipes with their texts; nothing else."""
    own = {path.relative_to(ROOT) for path in PACKAGE.rglob("*") if path.is_file() and "recipes" not in path.parts}
    recipes = {path.relative_to(ROOT) for path in (ROOT / "recipes").rglob("*") if path.is_file()}
    wanted = {path.as_posix() for path in own if "__pycache__" not in path.parts}
    wanted |= {f"ko_cpt_callbacks/{path.as_posix()}" for path in recipes}
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert found == wanted
    assert len([name for name in wanted if "/recipes/text/" in name]) >= 6
    assert sum(item.compress_size for item in wheel.infolist()) < 4_000_000  # the reference text is most of it
    assert {"ko_cpt_callbacks/py.typed", "ko_cpt_callbacks/schemas/run.schema.json"} <= wanted
    assert wheel.read("ko_cpt_callbacks/recipes/text/ko_udhr.txt") == (ROOT / "recipes/text/ko_udhr.txt").read_bytes()


def test_wheel_finds_its_recipes(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """Unpacked somewhere else, where no link leads to the repository: recipes are listed, read and copied."""
    wheel.extractall(tmp_path / "site")
    listed, copied, checked = commands(
        ["recipes", "--json"], ["recipes", "copy", "redwhale", "mine.yaml"], ["validate", "mine.yaml"],
        folder=tmp_path, PYTHONPATH=str(tmp_path / "site"),
    )  # fmt: skip

    assert (listed.stderr, copied.stderr, checked.stderr) == ("", "", "")
    found = json.loads(listed.stdout)
    assert [item["id"] for item in found] == sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml")) != []
    assert all(item["file"].startswith(str(tmp_path)) for item in found)


LIGHT = ("numpy", "pydantic", "rich", "ruamel.yaml", "typer")
"""What `pip install --no-deps` of the package needs beside it to judge a finished run: README names them."""


def _distributions(names: Iterable[str]) -> set[str]:
    """These distributions with all that they require here, extras aside."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        wanted = (Requirement(text) for text in requires(name) or ())
        waiting += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


@pytest.mark.parametrize("name", ["README.md", "README.ko.md", ".ci/install"])
def test_what_an_install_without_torch_needs(name: str) -> None:
    """README's line and the script that tries the wheel out name the same libraries as the test below."""
    text = (ROOT / name).read_text("utf-8")

    assert re.search(rf"pip install (-c \S+ )?{re.escape(' '.join(LIGHT))}", text)


def test_check_in_an_environment_without_torch(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """The wheel beside five light libraries, nothing else installed: it imports, and judges README's example log."""
    site = tmp_path / "site"
    wheel.extractall(site)
    for name in _distributions(LIGHT):
        installed = distribution(name)
        for top in {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}:
            if not (site / top).is_symlink():
                (site / top).symlink_to(Path(str(installed.locate_file(top))))
    environment = {"PYTHONPATH": str(site), "PATH": os.environ["PATH"], "COLUMNS": "100"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", *words]  # -S: no other site-packages
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "No module named 'torch'" in run("-c", "import torch").stderr
    assert run("-c", "import ko_cpt_callbacks; print(ko_cpt_callbacks.__version__)").stderr == ""
    log = ROOT / "examples" / "padding" / "trainer_state.json"
    found = run("-m", "ko_cpt_callbacks", "check", str(log), "--json")

    assert found.stderr == ""
    assert "padding-in-loss" in {one["code"] for one in json.loads(found.stdout)["findings"]}


def test_a_source_distribution_has_everything() -> None:
    """MANIFEST.in names every file and folder of the repository."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    lines = [line.split() for line in (ROOT / "MANIFEST.in").read_text("utf-8").splitlines()]
    files = [pattern for line in lines if line[:1] == ["include"] for pattern in line[1:]]
    folders = {line[1] for line in lines if line[:1] == ["graft"]} | {"ko_cpt_callbacks"}
    left_out = {".gitignore", "MANIFEST.in", "pyproject.toml", "setup.cfg"}  # the last three are always in it

    missing = [
        name for name in listed.stdout.splitlines()
        if name.partition("/")[0] not in folders | left_out | {".github"}
        and not any(fnmatch(name, pattern) for pattern in files)
    ]  # fmt: skip
    assert missing == []


def test_citation() -> None:
    """CITATION.cff has this version, and the licence of setup.cfg."""
    text = (ROOT / "CITATION.cff").read_text("utf-8")

    assert f"\nversion: {ko_cpt_callbacks.__version__}\n" in text
    assert "\nlicense: Apache-2.0\n" in text and "license = Apache-2.0" in (ROOT / "setup.cfg").read_text("utf-8")


def test_publishing_needs_no_token() -> None:
    """The workflow publishes by its identity, from one environment, what it has built and tried out."""
    jobs = YAML(typ="safe").load(ROOT / ".github" / "workflows" / "publish.yml")["jobs"]
    commands = [step.get("run", "") for step in jobs["build"]["steps"]]

    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert (jobs["publish"]["needs"], jobs["publish"]["environment"]) == ("build", "pypi")
    assert "secrets." not in (ROOT / ".github" / "workflows" / "publish.yml").read_text("utf-8")
    assert any(command.startswith(".ci/install ") for command in commands)


def test_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    """Name, version, licence, Python, console script; the extras are there."""
    version = ko_cpt_callbacks.__version__
    info = f"ko_cpt_callbacks-{version}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()

    assert f"\nVersion: {version}\n" in metadata
    assert re.search(r"^License(-Expression)?: Apache-2\.0$", metadata, re.MULTILINE)
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "\nProvides-Extra: dev\n" in metadata
    assert "ko-cpt = ko_cpt_callbacks.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    # Some of the reference text is under the GPL, which wants its text passed on with it.
    assert {"ko_cpt_callbacks/reference/GPL-2.txt", f"{info}/licenses/ko_cpt_callbacks/reference/GPL-2.txt"} <= {
        *wheel.namelist()
    }
