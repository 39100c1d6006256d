"""Real trainings that go wrong: each is stopped with the right code, in time, and its healthy twin is left alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forked
import pytest
from e2e import job_health

from ko_cpt_callbacks.check.asked import asked_of, read_recorded_run
from ko_cpt_callbacks.check.judgement import judge_run
from ko_cpt_callbacks.run.reading import read_run

pytestmark = pytest.mark.both_versions


@dataclass(frozen=True)
class Case:
    """A fault of `job_health.run`.

    Attributes:
        code: What stops it.
        earliest: The first step at which the code can rightly be said.
        latest: The last step at which it is still of use: well before the end of the run.
        evidence: Values of the finding.
        changes: How the Trainer saves.
        also: Codes that name the same fault and may be found along with it.
    """

    code: str
    earliest: int
    latest: int
    evidence: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=lambda: {"save_strategy": "no"})
    also: frozenset[str] = frozenset()


CASES = {
    # Five points make a level, and it must have been rising for twelve.
    "rate-too-high": Case("diverged", 12, 40, also=frozenset({"loss-spike"})),
    # Poisoned labels: training leaves its level and does not come back. The shift of level is seen too, and does not
    # ask to stop; overfitting is not said, since the training loss rises along with the evaluation.
    "labels-poisoned": Case(
        "diverged",
        job_health.POISONED_STEP + 10,
        job_health.POISONED_STEP + 25,
        changes={"save_strategy": "steps", "save_steps": 1000},
        also=frozenset({"level-shift"}),
    ),
    # Twelve rows, so an epoch is three steps.
    "few-rows": Case(
        "overfitting", 20, 45, {"evaluations": 2}, {"save_strategy": "best"}, frozenset({"memorizing", "gap-widening"})
    ),
    # Not in the first tenth of the run, and twice in a row.
    "english-forgotten": Case("forgetting", 15, 30, {"first_step": 0, "limit": 0.03}),
    # Only the row of step 35 can tell of step 33.
    "nan-batch": Case(
        "non-finite", 35, 35, {"nonfinite_steps": 1, "nonfinite_first_step": job_health.NAN_STEP},
        {"save_strategy": "steps", "save_steps": 30},
    ),
}  # fmt: skip
FAULTS = pytest.mark.parametrize("fault", CASES)


def _run(folder: Path, fault: str, **plan: Any) -> dict[str, Any]:
    """What became of the run on one process."""
    result: dict[str, Any] = forked.value(
        forked.run(job_health.run, str(folder / "run"), fault, folder=folder, timeout=90, **plan)
    )
    return result


def _warned(result: dict[str, Any]) -> set[str]:
    return {found["code"] for found in result["findings"] if found["severity"] != "info"}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Every fault's run, told to stop on its code: its folder and what became of it."""
    runs = {}
    for fault, case in CASES.items():
        folder = tmp_path_factory.mktemp(fault)
        runs[fault] = folder / "run", _run(folder, fault, stop_on=(case.code,), **case.changes)
    return runs


@FAULTS
def test_stops_with_the_right_code_in_time(fault: str, stopped: dict[str, tuple[Path, dict[str, Any]]]) -> None:
    """The run ends at the step of the finding: when the fault can be seen, and long before its planned end."""
    case, (_, result) = CASES[fault], stopped[fault]
    reason = result["stop_reason"]

    assert (reason["code"], reason["step"]) == (case.code, result["step"])
    assert case.earliest <= result["step"] <= case.latest < job_health.STEPS
    assert {name: reason["values"][name] for name in case.evidence} == case.evidence
    assert _warned(result) <= {case.code} | case.also


@FAULTS
def test_the_reason_is_on_record(fault: str, stopped: dict[str, tuple[Path, dict[str, Any]]]) -> None:
    """run.json has the code, the step and the sentence of the stop; findings.jsonl has the same finding."""
    folder, result = stopped[fault]
    run = json.loads((folder / "ko_cpt" / "run.json").read_text("utf-8"))
    lines = (folder / "ko_cpt" / "findings.jsonl").read_text("utf-8").splitlines()

    assert run["stop"] == result["stop_reason"]
    assert {"code", "step", "short", "detail"} <= set(run["stop"])
    assert [run["stop"][name] for name in ("code", "step", "short", "detail")] in [
        [found[name] for name in ("code", "step", "short", "detail")] for found in map(json.loads, lines)
    ]


@FAULTS
def test_a_checkpoint_is_left(fault: str, stopped: dict[str, tuple[Path, dict[str, Any]]]) -> None:
    """The state it stopped at is on disk, whether the Trainer saves never, every so many steps, or what is best."""
    folder, result = stopped[fault]
    checkpoint = folder / f"checkpoint-{result['step']}"

    assert checkpoint.name in result["checkpoints"]
    assert (checkpoint / "model.safetensors").is_file()
    assert json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))["global_step"] == result["step"]
    if fault == "nan-batch":  # and the one to go back to
        assert "checkpoint-30" in result["checkpoints"]


@FAULTS
def test_judged_again(fault: str, stopped: dict[str, tuple[Path, dict[str, Any]]]) -> None:
    """`ko-cpt check` of the folder finds what the callback found while the run ran, the stop's reason among it."""
    folder, result = stopped[fault]
    told = read_recorded_run(folder / "ko_cpt" / "run.json")
    judged = judge_run(read_run(folder), asked_of(told))

    assert [found.as_dict() for found in judged.findings] == result["findings"]
    assert judged.asked.stop == {name: result["stop_reason"][name] for name in ("code", "step", "short", "detail")}


@pytest.mark.parametrize("fault", ["labels-poisoned", "few-rows", "nan-batch"])
def test_two_processes_stop_alike(fault: str, tmp_path: Path) -> None:
    """Both ranks stop at one step for one reason, when the fault can be seen, and leave a checkpoint: one that is seen
    in training rows, one in evaluations, and one that a rank has counted."""
    case = CASES[fault]
    outcomes = forked.run_ranks(
        job_health.run, str(tmp_path / "run"), fault, ranks=2, folder=tmp_path, timeout=90,
        stop_on=(case.code,), **case.changes,
    )  # fmt: skip
    first, second = (forked.value(outcome) for outcome in outcomes)

    assert first["step"] == second["step"] == first["stop_reason"]["step"]
    assert first["stop_reason"] == second["stop_reason"]
    assert first["stop_reason"]["code"] == case.code
    assert case.earliest <= first["step"] <= case.latest
    assert f"checkpoint-{first['step']}" in first["checkpoints"]


@pytest.mark.parametrize("fault", ["rate-too-high", "english-forgotten", "nan-batch"])
def test_nothing_stops_unless_asked(
    fault: str, tmp_path: Path, stopped: dict[str, tuple[Path, dict[str, Any]]]
) -> None:
    """Without ``stop_on`` the same is found at the same step, and the run goes on to its planned end."""
    result = _run(tmp_path, fault)

    assert result["step"] == job_health.STEPS
    assert result["stop_reason"] is None
    assert stopped[fault][1]["stop_reason"] in result["findings"]
    assert json.loads((tmp_path / "run" / "ko_cpt" / "run.json").read_text("utf-8"))["stop"] is None


@FAULTS
def test_the_same_run_without_the_fault(fault: str, tmp_path: Path) -> None:
    """It may be stopped by any of the codes, and is not: nothing is found but notes."""
    result = _run(tmp_path, fault, faulty=False, stop_on=tuple({case.code for case in CASES.values()}))

    assert result["step"] == job_health.STEPS
    assert result["stop_reason"] is None
    assert _warned(result) == set()
