"""What Windows lacks, taken away here: ``os.pread``, ``fcntl``, and symbolic links in a checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import pytest
from e2e import job, run_files

from ko_cpt_callbacks.errors import RecipeError
from ko_cpt_callbacks.recipe import bundle
from ko_cpt_callbacks.recipe.bundle import find_recipe
from ko_cpt_callbacks.recipe.reading import read_recipe
from ko_cpt_callbacks.run import file

ROOT = Path(__file__).resolve().parents[1]
PLAN: dict[str, Any] = {"changes": {"max_steps": 8, "logging_steps": 1}}


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """No ``os.pread``, no ``fcntl``, text mode unless O_BINARY is given; where ``msvcrt`` locked a byte."""
    locked: list[int] = []
    monkeypatch.delattr(os, "pread", raising=False)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    locking = SimpleNamespace(LK_NBLCK=2, locking=lambda fd, *_: locked.append(os.lseek(fd, 0, os.SEEK_CUR)))
    monkeypatch.setitem(sys.modules, "msvcrt", locking)
    opened, binary = os.open, 1 << 30

    def opening(path: Any, flags: int, *more: Any) -> int:
        ours = str(path).endswith(".jsonl")
        assert flags & binary or not ours, "a file opened in text mode ends its lines with \\r\\n"
        return opened(path, flags & ~binary, *more)

    monkeypatch.setattr(file.os, "O_BINARY", binary, raising=False)
    monkeypatch.setattr(file.os, "open", opening)
    return locked


def _numbers(folder: Path) -> list[dict[str, Any]]:
    clock = ("runtime", "per_second", "per_gpu_hour")
    return [
        {name: value for name, value in line.items() if not name.endswith(clock)} for line in run_files.rows(folder)
    ]


def test_the_record_is_whole(windows: list[int], tmp_path: Path) -> None:
    """Every row of a training and of a resume, as where nothing is missing; half a line is cut off; the folder is
    locked."""
    result = job.train(str(tmp_path / "run"), **PLAN)
    assert [row["step"] for row in run_files.rows(tmp_path / "run") if row["kind"] == "train"] == list(range(1, 9))
    rows = tmp_path / "run" / "ko_cpt" / "rows.jsonl"
    rows.write_bytes(rows.read_bytes() + '{"kind": "한'.encode()[:-1])
    resumed = job.train(str(tmp_path / "run"), resume=str(tmp_path / "run" / "checkpoint-4"), **PLAN)
    assert resumed["findings"] == result["findings"] == run_files.findings(tmp_path / "run")
    assert run_files.double(run_files.rows(tmp_path / "run")) == []
    assert set(windows) == {1 << 30}


def test_rows_are_those_of_other_systems(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The record of one training is the same with and without what Windows lacks."""
    job.train(str(tmp_path / "here"), **PLAN)
    request.getfixturevalue("windows")
    job.train(str(tmp_path / "there"), **PLAN)
    assert _numbers(tmp_path / "there") == _numbers(tmp_path / "here")


def _checkout(folder: Path, link: bytes, *, recipes: bool = True) -> Path:
    """The repository as git writes it where it may make no symbolic links."""
    copy = folder / "checkout"
    shutil.copytree(ROOT / "ko_cpt_callbacks", copy / "ko_cpt_callbacks", symlinks=True)
    (copy / "ko_cpt_callbacks" / "recipes").unlink()
    (copy / "ko_cpt_callbacks" / "recipes").write_bytes(link)
    if recipes:
        shutil.copytree(ROOT / "recipes", copy / "recipes")
    return copy


def _ko_cpt(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ko_cpt_callbacks", *words],
        env={**os.environ, "PYTHONPATH": str(checkout)},
        cwd=checkout.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_checkout_without_links_has_its_recipes(tmp_path: Path) -> None:
    """The text file in the link's place is followed, with the line end that an editor may have added: every recipe is
    listed."""
    listed = _ko_cpt(_checkout(tmp_path, b"../recipes\r\n"), "recipes", "--json")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert [item["id"] for item in json.loads(listed.stdout)] == sorted(
        path.stem for path in (ROOT / "recipes").glob("*.yaml")
    )


def test_recipes_that_are_not_there_are_one_sentence(tmp_path: Path) -> None:
    """Installed from such a checkout, so that the text file leads nowhere: one line that says what to do."""
    checkout = _checkout(tmp_path, b"../recipes", recipes=False)
    listed = _ko_cpt(checkout, "recipes")
    assert (listed.returncode, listed.stdout) == (2, "")
    (line,) = listed.stderr.splitlines()
    assert "found a text file, expected the folder of bundled recipes; install the wheel" in line


@pytest.mark.parametrize("link", [b"", b"x" * 5000, b"../recipes\nmore", b"\xff\xfe", b"no/where"])
def test_what_is_no_link(link: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with anything else in it leads nowhere; a recipe of the user's own is found and read all the same."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "recipes").write_bytes(link)
    monkeypatch.setattr(bundle, "files", lambda name: package)
    own = tmp_path / "mine.yaml"
    text = (ROOT / "recipes" / "quickstart.yaml").read_text("utf-8").replace("id: quickstart", "id: mine")
    own.write_text(text, "utf-8")
    with pytest.raises(RecipeError, match="found a text file, expected the folder of bundled recipes"):
        find_recipe("quickstart")
    assert find_recipe(str(own)) == own
    with pytest.raises(RecipeError, match="install the wheel"):  # it names bundled texts
        read_recipe(own)
    (package / "recipes").unlink()
    with pytest.raises(RecipeError, match="found nothing, expected the bundled recipes"):
        find_recipe("quickstart")


def test_names_are_files_of_windows_too() -> None:
    """No name of a file of sums holds what Windows reserves, and none is too long."""
    from ko_cpt_callbacks import keys

    for prefix in ("eval_a:b", "eval_a\\b/c", 'eval_"?*<>|', "eval_" + "가" * 85, "eval_con"):
        name = keys.eval_rows_file(prefix, 10)
        assert PureWindowsPath(name).name == name
        assert not set(name) & set('<>:"/\\|?*')
        assert len(name.encode()) <= 255
