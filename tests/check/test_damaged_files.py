"""Whatever has become of a run's or a baseline's files, a command judges them or refuses them in printable lines.

Five hundred damaged sets of files here; ``make fuzz`` goes through 10,000.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import pytest
from check.damage import Outcome, Place, outcome
from check.made_run import sums, write_run
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app

COUNT = 500
FIRST = 1_000_000  # of seeds that `make fuzz` does not begin with


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """What commands came to, each on its own damaged copy of whole files."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("KO_CPT_BASELINES", "")  # put back at the end; every call sets its own
        warnings.simplefilter("ignore")  # numpy's, of infinite sums
        place = Place(tmp_path_factory.mktemp("place"))
        return [outcome(place, seed) for seed in range(FIRST, FIRST + COUNT)]


def test_damaged_files(outcomes: list[Outcome]) -> None:
    """Exit 0, 1 or 2, no exception; with 2 a line of what is wrong on stderr and nothing else; strict JSON."""
    assert len(outcomes) == COUNT
    assert [(one.seed, one.command, one.wrong) for one in outcomes if one.wrong] == []


def test_the_damage_is_of_every_kind(outcomes: list[Outcome]) -> None:
    """Some are refused and some judged all the same, by every command."""
    commands = {one.command[0] for one in outcomes}
    assert commands == {"check", "compare", "baselines", "forecast"}
    for command in commands:
        assert {0, 2} <= {one.exit_code for one in outcomes if one.command[0] == command}, command


@pytest.mark.parametrize("name", ["rows.jsonl", "run.json", "eval_rows/eval_ko-100.npz", "plan.json"])
def test_a_pipe_in_place_of_a_file_is_never_waited_for(tmp_path: Path, name: str) -> None:
    """Commands end, whichever of a run's files is a pipe: refused in one line, or as if it were not there."""
    run = write_run(tmp_path / "run", {"eval_ko": sums(3.0)})
    other = write_run(tmp_path / "other", {"eval_ko": sums(2.9)})
    path = tmp_path / "run" / "ko_cpt" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    for words in (["check", run], ["compare", run, other], ["baselines", "validate", str(path)], ["check", str(path)]):
        result = CliRunner().invoke(app, words)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert result.exit_code in (0, 2)
    assert result.exit_code == 2 and "found a pipe" in result.stderr


def test_a_device_in_place_of_a_file(tmp_path: Path) -> None:
    """Refused in one line: a run, a baseline's file, a recipe."""
    for words in (["check", "/dev/zero"], ["baselines", "validate", "/dev/zero"], ["validate", "/dev/zero"]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1, result.stderr


@pytest.mark.parametrize("step", [10**300, -(10**250)])
def test_a_step_of_hundreds_of_digits(tmp_path: Path, step: int) -> None:
    """A step that no file's name has room for has no file of sums; the commands end in exit 0, 1 or 2 all the same."""
    run = write_run(tmp_path / "run", {"eval_ko": sums(3.0)})
    other = write_run(tmp_path / "other", {"eval_ko": sums(2.9)})
    rows = tmp_path / "run" / "ko_cpt" / "rows.jsonl"
    lines = [json.loads(line) | {"step": step} for line in rows.read_text("utf-8").splitlines()]
    rows.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    for words in (["check", run], ["compare", run, other], ["compare", other, run]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code in (0, 1, 2)
        assert result.exception is None or isinstance(result.exception, SystemExit)
