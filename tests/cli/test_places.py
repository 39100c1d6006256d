"""A folder in place of a file, and the other way round: what was found, what is expected, and what to name instead."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from check.command import write_state
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.recipe.bundle import recipe_path

# A command, and what its error has behind "ko-cpt COMMAND: ".
PLACES = {
    "validate empty": "recipe empty: found a folder, expected a file, or one of dag-sft, ",
    "validate one": "thunder. Did you mean one/mine.yaml?",
    "validate two": "thunder. Name one of its files: a.yaml, b.yml.",
    "validate run": "thunder. It is a run: `ko-cpt check run` judges it.",
    "train one": "thunder. Did you mean one/mine.yaml?",
    "data one": "thunder. Did you mean one/mine.yaml?",
    "recipes show one": "thunder. Did you mean one/mine.yaml?",
    "recipes copy one": "thunder. Did you mean one/mine.yaml?",
    "recipes copy quickstart file.txt/new.yaml": "found the file file.txt where its folder should be, expected a place",
    "recipes new empty --base a --corpus file.txt --yes": "found a folder, expected a file that ends in .yaml; did you "
    "mean empty/recipe.yaml?",
    "recipes new new.yaml --base file.txt --corpus file.txt --yes": "base.model: found the file file.txt, expected the "
    "folder of a model with its config.json, or its id on the hub.",
    "baselines validate empty": "empty: found a folder, expected the file of a baseline.\n",
    "baselines validate one": "found a folder, expected the file of a baseline. Did you mean one/mine.yaml?",
    "baselines show run": "found a path, expected an id that `ko-cpt baselines` lists; `ko-cpt compare RUN",
    "check run --baseline run": "`ko-cpt baselines add run --id ID` keeps it.",
    "check run --baseline one/mine.yaml": "and `ko-cpt baselines validate one/mine.yaml` checks it.",
    "check run --plot taken.svg": "taken.svg: found a folder, expected a file; did you mean taken.svg/losses.svg?",
    "report run -o empty": "empty: found a folder, expected a file; did you mean empty/report.html?",
    "report run -o file.txt/x.html": "found the file file.txt where its folder should be, expected a place to write to",
    "card run -o empty": "empty: found a folder, expected a file; did you mean empty/README.md?",
    "checkpoints run/trainer_state.json": "RUN: found the file run/trainer_state.json, expected the folder of a run; ",
    "checkpoints run/checkpoint-10/trainer_state.json": "/run?\n",
    "checkpoints file.txt": "RUN: found the file file.txt, expected the folder of a run\n",
    "measure file.txt": "MODEL: found the file file.txt, expected the folder with config.json",
    "measure x -o file.txt": "-o: found the file file.txt, expected a folder for the results",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands run: folders with no YAML, with one and with two, a run, a text."""
    monkeypatch.chdir(tmp_path)
    text = recipe_path("quickstart").read_text("utf-8")
    for name in ("one/mine.yaml", "two/a.yaml", "two/b.yml", "empty/x.txt", "taken.svg/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "file.txt").write_text("글\n" * 10, "utf-8")
    for folder in ("run", "run/checkpoint-10"):
        write_state(tmp_path / folder / "trainer_state.json", [{"step": 10, "loss": 2.5}])
    return tmp_path


@pytest.mark.parametrize("line", PLACES)
def test_another_kind_of_place(here: Path, line: str) -> None:
    """One line that says which it is and what to name; nothing is written."""
    before = sorted(here.rglob("*"))
    found = CliRunner().invoke(app, shlex.split(line))
    assert (found.exit_code, found.stdout) == (2, ""), found.output
    assert PLACES[line] in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert sorted(here.rglob("*")) == before


def test_a_file_beside_the_weights(here: Path) -> None:
    """Of a file in a model's folder, the folder is what was probably meant."""
    (here / "base").mkdir()
    (here / "base" / "config.json").write_text(json.dumps({"model_type": "llama"}), "utf-8")
    (here / "base" / "model.safetensors").write_bytes(b"")
    line = "recipes new new.yaml --base base/model.safetensors --corpus file.txt --yes"
    found = CliRunner().invoke(app, shlex.split(line))
    assert found.exit_code == 2 and "found the file base/model.safetensors, expected" in found.stderr
    assert found.stderr.endswith("Did you mean base?\n")
