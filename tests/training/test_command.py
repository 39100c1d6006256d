"""``ko-cpt train`` refuses what is wrong before torch is imported, in one line with status 2; what is odd it notes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Ended, offline
from typer.testing import CliRunner

from ko_cpt_callbacks import KoCPTCallback
from ko_cpt_callbacks.cli import train
from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.bundle import recipe_ids
from ko_cpt_callbacks.training import run

ROOT = Path(__file__).resolve().parents[2]

WRONG: list[tuple[list[str], str]] = [
    (
        ["quickstrat"],
        f"recipe quickstrat: found no such id or file, expected one of {', '.join(recipe_ids())}, or a path. "
        "Did you mean quickstart?",
    ),
    (["wrong.yaml"], 'wrong.yaml:1: found the text "r: 8 16", expected a mapping.'),
    (
        ["quickstart", "--set", "stages.odd-layers.lora.r=many"],
        '--set: stages.odd-layers.lora.r: found the text "many", expected a whole number.',
    ),
    (
        ["quickstart", "--stage", "odd-layer"],
        "--stage: found 'odd-layer', expected one of embedding, odd-layers, even-layers, lora. "
        "Did you mean odd-layers?",
    ),
]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Ended]]:
    """The folder in which the wrong commands and the help ran without torch, and how each ended."""
    folder = tmp_path_factory.mktemp("offline")
    (folder / "wrong.yaml").write_text("'r: 8 16'\n", "utf-8")
    commands = [*(words for words, _ in WRONG), ["--help"]]
    return folder, offline(*(["train", *words] for words in commands), folder=folder)


@pytest.mark.parametrize("number", range(len(WRONG)), ids=[words[-1] for words, _ in WRONG])
def test_what_is_wrong_is_said_at_once(ended: tuple[Path, list[Ended]], number: int) -> None:
    """With torch absent, an unknown id, a wrong file, a wrong override and an unknown stage are told; nothing is
    written."""
    folder, found = ended
    assert found[number] == (2, "", f"ko-cpt train: {WRONG[number][1]}\n")
    assert [path.name for path in folder.iterdir()] == ["wrong.yaml"]


@pytest.mark.parametrize("version", ["4.56.2", "6.0.0"])
def test_a_release_of_transformers_that_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """The callback's own sentence, before anything of it is imported and anything is written."""
    place = tmp_path / "transformers" / "__init__.py"
    place.parent.mkdir()
    place.write_text(f'__version__ = "{version}"\nopen("imported", "w").close()\n', "utf-8")
    monkeypatch.setattr("transformers.__version__", version)
    with pytest.raises(ConfigurationError, match=f"found {version}, expected 4.57 or newer, below 6") as told:
        KoCPTCallback()
    found = subprocess.run(
        [sys.executable, "-m", "ko_cpt_callbacks", "train", "quickstart"],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
    )
    assert (found.returncode, found.stdout, found.stderr) == (2, "", f"ko-cpt train: {told.value}\n")
    assert list(tmp_path.iterdir()) == [place.parent]


def test_what_is_hardly_ever_meant_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training begins with the notes on its recipe, once for all stages, and is not refused for them."""
    begun = []

    def run_recipe(*given: object) -> None:
        begun.append(given)
        raise ConfigurationError("enough")

    monkeypatch.setattr(run, "run_recipe", run_recipe)
    words = ["train", "quickstart", "--output", str(tmp_path / "run"), "--set", "stages.*.arguments.learning_rate=2e4"]
    found = CliRunner().invoke(app, words)

    assert len(begun) == 1
    (note,) = [line for line in found.stdout.splitlines() if line.startswith("note: ")]
    assert note.startswith("note: stages.*.arguments.learning_rate: 20000 is no usual learning rate; usual are ")


def test_help_shows_how(ended: tuple[Path, list[Ended]]) -> None:
    """The help needs no torch either, and names every option."""
    found = ended[1][-1]
    assert found.returncode == 0
    options = ("--output", "--resume", "--set", "--stage", "--smoke", "--device")
    for word in ("RECIPE", *options, "ko-cpt train quickstart"):
        assert word in found.stdout


def test_a_report_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run is over: one line says that there is no page, and why; no error ends the command."""
    page = tmp_path / "report.html"
    page.mkdir()
    (tmp_path / "trainer_state.json").write_bytes((ROOT / "examples" / "padding" / "trainer_state.json").read_bytes())
    train._report(tmp_path)
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"{page}: no report: " in told
    assert "found a folder, expected a file" in told


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    """Of a model that lies at hand neither the hub nor the network is to blame: the part that is missing is named."""
    from transformers import AutoTokenizer

    from ko_cpt_callbacks.training.hub import load_pretrained

    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"^base\.model: found no Tokenizer that can be loaded in ") as told:
        load_pretrained(AutoTokenizer, tmp_path, "base.model")
    assert "hf auth login" not in str(told.value)
