"""``examples/plugin``, built and installed into an environment of its own: what it adds is there, live and offline."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from commands import commands

from ko_cpt_callbacks.run.finding import Finding

ROOT = Path(__file__).resolve().parents[2]
CODE = "gradient-clipped"

TRAIN = """
import sys
import tiny
from ko_cpt_callbacks import KoCPTCallback, MemoryOutput

memory = MemoryOutput()
watcher = KoCPTCallback(
    stop_on=["gradient-clipped"], rules={"gradient-clipped": {"norm": 1e-9, "rows": 3}}, baseline="clipping-example",
    outputs=["files", "findings-csv", memory],
)
rows = tiny.uneven_rows(12)
trainer = tiny.trainer(
    tiny.llama(600), sys.argv[1], rows[:9], rows[9:], callbacks=[watcher], max_steps=8, eval_strategy="epoch"
)
trainer.train()
found = [one for one in memory.findings if one.code == "gradient-clipped"]
print([(one.step, one.split, watcher.stop_reason == one, trainer.state.global_step) for one in found])

from ko_cpt_callbacks.messages.catalogue import catalogue
print(catalogue("ko").detail("gradient-clipped", "", {"rows": 3, "grad_norm": 2.5, "norm": 1.0}))
"""


class Environment:
    """A fresh environment that has the plugin, and by a path file what this one has.

    Args:
        folder: Where to make it.
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        scheme = {"base": str(folder), "platbase": str(folder)}
        site = Path(sysconfig.get_path("purelib", "venv", scheme))
        # addsitedir, so that path files in there count too, such as that of an editable installation
        paths = [path for path in sys.path if path.endswith("site-packages")]
        (site / "shared.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in paths))
        source = folder / "source"
        shutil.copytree(ROOT / "examples" / "plugin", source)
        install = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", site, source]
        subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *install], check=True)
        shutil.rmtree(source)
        self._python = Path(sysconfig.get_path("scripts", "venv", scheme)) / "python"
        self._folder = folder

    def __call__(self, *arguments: str | Path, installed: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Python in it, or in the environment of this test, which has no plugin."""
        variables = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [self._python if installed else sys.executable, *arguments],
            cwd=self._folder, env=variables, capture_output=True, text=True, encoding="utf-8", check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    def ko_cpt(self, *words: Sequence[str | Path], installed: bool = True) -> list[str]:
        """Run commands of ``ko-cpt``; what each prints."""
        python = self._python if installed else sys.executable
        ended = commands(*([str(word) for word in each] for each in words), python=python, folder=self._folder)
        assert not any(one.returncode for one in ended), ended
        return [one.stdout for one in ended]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The environment with the plugin."""
    return Environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def trained(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that the plugin's rule stopped: its folder, and what the script printed."""
    folder = tmp_path_factory.mktemp("run")
    script = folder / "train.py"
    script.write_text(TRAIN, "utf-8")
    printed = environment("-X", "utf8", script, folder).stdout.splitlines()
    return folder, [line for line in printed if not line.startswith("{")]


def _judged(text: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    judged: dict[str, Any] = json.loads(text)
    return judged["run"], judged["findings"]


def test_live(trained: tuple[Path, list[str]]) -> None:
    """The rule speaks at its third row with its limits and stops the run there; the output has its line."""
    folder, printed = trained
    assert printed[-2] == "[(3, 'train', True, 3)]"
    with (folder / "findings.csv").open(encoding="utf-8", newline="") as file:
        assert [CODE, "warning", "3", "train"] in list(csv.reader(file))
    run = json.loads((folder / "ko_cpt" / "run.json").read_text("utf-8"))
    assert run["stop"]["code"] == CODE
    assert run["watch"]["baseline"]["id"] == "clipping-example"
    assert run["watch"]["outputs"] == ["files", "findings-csv", "memory"]


def test_in_korean(trained: tuple[Path, list[str]]) -> None:
    """Its sentence in Korean, from its own file, with its values."""
    assert "기울기 노름이 연속 3 학습 행 동안 1.000보다 컸고, 지금은 2.500입니다." in trained[1][-1]


@pytest.fixture(scope="module")
def shown(environment: Environment, trained: tuple[Path, list[str]]) -> dict[str, str]:
    """What commands print that judge the run, or list or explain what there is."""
    asked = ["explain", f"explain {CODE}", "recipes --json", "validate clipping-example", "baselines"]
    asked += ["baselines show clipping-example", "check RUN --json", f"check RUN --json --rule {CODE}.norm=1e9"]
    words = ([str(trained[0]) if word == "RUN" else word for word in command.split()] for command in asked)
    return dict(zip(asked, environment.ko_cpt(*words), strict=True))


def test_check_where_it_is_installed(shown: dict[str, str], trained: tuple[Path, list[str]]) -> None:
    """The same finding as live, from the rows; another limit as an option silences it."""
    folder, _ = trained
    run, findings = _judged(shown["check RUN --json"])
    quiet = shown[f"check RUN --json --rule {CODE}.norm=1e9"]
    live = [json.loads(line) for line in (folder / "ko_cpt" / "findings.jsonl").read_text("utf-8").splitlines()]
    (found,) = (item for item in findings if item["code"] == CODE)
    assert [item["values"] for item in live if item["code"] == CODE] == [found["values"]]
    assert CODE in run["rules"]
    assert run["unknown_rules"] == []
    assert [item for item in _judged(quiet)[1] if item["code"] == CODE] == []


def test_check_where_it_is_not_installed(environment: Environment, trained: tuple[Path, list[str]]) -> None:
    """The run is judged all the same; the rule and its limits are named as unknown, and a finding of it read
    from its file has its code and values."""
    folder, _ = trained
    judged, page = environment.ko_cpt(["check", folder, "--json"], ["check", folder], installed=False)
    run, findings = _judged(judged)
    assert run["unknown_rules"] == [CODE, f"{CODE}.norm", f"{CODE}.rows"]
    assert run["baseline"] == "clipping-example"
    assert CODE not in [item["code"] for item in findings]
    assert CODE in page
    lines = (folder / "ko_cpt" / "findings.jsonl").read_text("utf-8").splitlines()
    (found,) = (Finding.from_dict(item) for item in map(json.loads, lines) if item["code"] == CODE)
    assert f"The rule {CODE} is another package's" in found.message()
    assert f"grad_norm = {found.values['grad_norm']}" in found.message()


def test_explain(shown: dict[str, str]) -> None:
    """It is listed and explained as the package's own, with its limits and whose it is."""
    assert CODE in shown["explain"].split()
    said = shown[f"explain {CODE}"]
    assert said.startswith(f"{CODE} (warning; may stop a run (stop_on); since 1.0)\n")
    assert "Every step is clipped" in said
    assert "norm=1 rows=20" in said
    assert "ko-cpt-clipping 1.0" in said


def test_recipes_and_baselines(shown: dict[str, str]) -> None:
    """Both are listed, and the recipe, which names the rule and the baseline, is right."""
    recipes = {item["id"]: item for item in json.loads(shown["recipes --json"])}
    assert recipes["clipping-example"]["baselines"] == ["clipping-example"]
    assert "recipe clipping-example, 1 stage" in shown["validate clipping-example"]
    assert "clipping-example" in shown["baselines"]
    assert "An invented run" in shown["baselines show clipping-example"]
