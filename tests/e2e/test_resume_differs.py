"""A real run, resumed with something else than before: said live, by ``check`` of the run, and where the Trainer's own
log holds it, by ``check`` of the bare state; resumed as it was, nothing is said."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import forked
import pytest
from e2e import job_resume, run_files

from ko_cpt_callbacks.check.asked import asked_of, read_recorded_run
from ko_cpt_callbacks.check.judgement import judge_run
from ko_cpt_callbacks.run.reading import read_run

# Twelve steps are an epoch: both checkpoints lie within it.
SHORT: dict[str, Any] = {"logging_steps": 1, "eval_steps": 1, "max_steps": 8, "save_steps": 4}
CODES = ("attempt-differs", "eval-set-changed", "run-seam")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight steps with a checkpoint at 4 and 8."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    forked.value(forked.run(job_resume.part, str(folder), folder=folder.parent, **SHORT))
    return folder


def _resumed(begun: Path, tmp_path: Path, step: int = 4, **changes: Any) -> tuple[Path, dict[str, Any]]:
    """The run, copied and resumed to twelve steps."""
    folder = tmp_path / "run"
    shutil.copytree(begun, folder)
    plan = {**SHORT, "max_steps": 12, **changes}
    outcome = forked.run(
        job_resume.part, str(folder), folder=tmp_path, resume=str(folder / f"checkpoint-{step}"), **plan
    )
    return folder, forked.value(outcome)


def _of_note(found: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(item["code"], item["step"]) for item in found if item["code"] in CODES]


def _checked(path: Path) -> list[dict[str, Any]]:
    """What ``ko-cpt check`` finds there."""
    run = read_run(path)
    told = run.run_file()
    asked = asked_of(None if told is None else read_recorded_run(told))
    return [one.as_dict() for one in judge_run(run, asked).findings]


@pytest.mark.both_versions
@pytest.mark.parametrize("step", [4, 8])
def test_resumed_as_it_was(begun: Path, tmp_path: Path, step: int) -> None:
    """In the middle of an epoch, with the same data, arguments and evaluation set, and to more steps than were planned:
    nothing is said. ``run.json`` has the arguments of both attempts."""
    folder, result = _resumed(begun, tmp_path, step)
    assert _of_note(result["findings"]) == _of_note(_checked(folder)) == []
    attempts = run_files.run(folder)["attempts"]
    assert [one["arguments"]["max_steps"] for one in attempts] == [8, 12]
    assert all(one["versions"]["torch"] for one in attempts)


def test_other_data_batch_and_arguments(begun: Path, tmp_path: Path) -> None:
    """One finding with all that changed, from what to what; ``check RUN`` says the same. The epoch goes back with the
    batch size, and the rows that the callback writes at a resume do not hide it: ``run-seam``, as of the bare state."""
    folder, result = _resumed(
        begun, tmp_path, train_rows=(2, 20), per_device_train_batch_size=1, weight_decay=0.1, learning_rate=1e-3
    )
    (found,) = [item for item in result["findings"] if item["code"] == "attempt-differs"]
    assert (found["severity"], found["step"], found["asks_to_stop"]) == ("warning", 4, False)
    changes = {one["name"]: (one["before"], one["after"]) for one in found["values"]["changes"]}
    assert changes.pop("training_data")[0] != changes.get("training_data")
    assert changes == {
        "training_rows": (24, 18), "rows_per_step": (2, 1), "weight_decay": (0.0, 0.1), "learning_rate": (0.005, 0.001),
    }  # fmt: skip
    assert "rows_per_step 2 → 1" in found["detail"]
    assert _of_note(result["findings"]) == _of_note(_checked(folder)) == [("attempt-differs", 4), ("run-seam", 5)]
    assert _of_note(_checked(folder / "trainer_state.json")) == [("run-seam", 5)]
    attempts = run_files.run(folder)["attempts"]
    assert [one["arguments"]["per_device_train_batch_size"] for one in attempts] == [2, 1]


def test_other_evaluation_rows(begun: Path, tmp_path: Path) -> None:
    """Another evaluation set under the same name: said with the step, live, of the run, and of the bare state; first,
    best and last are of the new rows, and patience counts anew."""
    folder, result = _resumed(begun, tmp_path, eval_rows=(27, 36))
    assert _of_note(result["findings"]) == [("eval-set-changed", 5)]
    assert _of_note(_checked(folder)) == _of_note(_checked(folder / "trainer_state.json")) == [("eval-set-changed", 5)]
    split = result["summary"]["splits"]["eval"]
    assert (split["first"]["step"], split["rows_since"], split["evaluations"]) == (5, 5, 12)
    assert result["best"][0] >= 5


def test_an_attempt_that_trained_nothing_is_no_measure(begun: Path, tmp_path: Path) -> None:
    """Resumed with a wrong batch size and broken off at once, then as it was begun: the wrong attempt is said at its
    time, the right one is compared with what its steps go on from, and is silent."""
    folder, result = _resumed(begun, tmp_path, per_device_train_batch_size=4)
    assert ("attempt-differs", 4) in _of_note(result["findings"])
    plan = {**SHORT, "max_steps": 12}
    again = forked.value(
        forked.run(job_resume.part, str(folder), folder=tmp_path, resume=str(begun / "checkpoint-4"), **plan)
    )
    steps = [item["values"]["before_step"] for item in again["findings"] if item["code"] == "attempt-differs"]
    assert steps == [0], "the wrong attempt's finding alone"
    assert len(run_files.run(folder)["attempts"]) == 3


def test_two_processes(tmp_path: Path) -> None:
    """Both ranks say the same; a run of one process that goes on with two has twice the rows per step."""
    folder = tmp_path / "run"
    forked.value(forked.run(job_resume.part, str(folder), folder=tmp_path, **SHORT))
    outcomes = forked.run_ranks(
        job_resume.part, str(folder), ranks=2, folder=tmp_path, resume=str(folder / "checkpoint-4"), **SHORT
    )
    first, second = (forked.value(outcome)["findings"] for outcome in outcomes)
    assert first == second
    (found,) = [item for item in first if item["code"] == "attempt-differs"]
    assert found["values"]["changed"] == ["rows_per_step 2 → 4"]


@pytest.mark.both_versions
@pytest.mark.parametrize("lost", ["scheduler.pt", "optimizer.pt"])
def test_a_checkpoint_without_its_schedule(lost: str, begun: Path, tmp_path: Path) -> None:
    """The Trainer begins schedule and optimizer anew without a word; here it is said, live and by ``check``. Resumed
    once more, from a whole checkpoint, nothing else is."""
    other = tmp_path / "lost"
    shutil.copytree(begun, other)
    (other / "checkpoint-4" / lost).unlink()
    folder, result = _resumed(other, tmp_path)
    for found in (result["findings"], _checked(folder)):
        (differs,) = [item for item in found if item["code"] == "attempt-differs"]
        assert (differs["step"], differs["values"]["changed"]) == (4, ["schedule_and_optimizer kept → begun anew"])
    (tmp_path / "again").mkdir()
    _, again = _resumed(folder, tmp_path / "again", step=8)
    assert [item["step"] for item in again["findings"] if item["code"] == "attempt-differs"] == [4]
