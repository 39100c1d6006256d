"""A fault of ours on one of two ranks, wherever it is: the training goes on, to the same weights, and it is named."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import forked
import pytest
from e2e import job_faults

# Rank, function, which of its calls: in events that both ranks reach, and in those that rank 0 reaches alone. Then the
# seconds that it waits before it raises: the other rank is in its next exchange by then.
FAULTS: list[tuple[Any, ...]] = [
    (1, "hf/run:LiveRun.note_setup", 1),
    (0, "hf/record:LiveRecord.plan_training", 1),
    (1, "hf/run:LiveRun.begin_training", 1),
    (1, "hf/measure/eval_meter:EvalMeter.drop_pending", 2),
    (0, "hf/run:LiveRun.saved", 1),
    (1, "hf/measure/step_counts:StepCounts.close_row", 2),
    (0, "hf/stopping:StopOrder.take", 3),
    (0, "run/output:OutputFan.begin", 1),
    (1, "hf/ranks:Ranks.exchange", 2),
    (1, "hf/ranks:Ranks._gather", 2),
    (0, "hf/ranks:Ranks._gather.<locals>.<listcomp>", 5),
    (1, "hf/ranks:Ranks._gather.<locals>.<listcomp>", 6),
    (1, "hf/measure/eval_meter:EvalMeter.ends", 2),
    (0, "rules/monitor:Monitor.step", 4),
    (0, "hf/measure/nll_capture:LossWindow.end", 2),
    (0, "hf/measure/nll_capture:_hold", 2),
    (1, "hf/measure/train_meter:TrainMeter._local", 2),
    (1, "hf/publication:row_is_due", 2),
    (0, "hf/publication:OwnRows.unseen_evaluation", 1),
    (1, "hf/guarded_run:GuardedRun.__init__", 1),
    # In an event that both reach, before the callback has begun with it, at the end of a step.
    (1, "hf/guarded_run:GuardedRuns._guarded", 7, 0.5),
    (1, "hf/guarded_run:GuardedRun.do", 4, 0.5),
    (0, "hf/guarded_run:GuardedRun.do", 4, 0.5),
    (1, "hf/ranks:Ranks.answer", 4, 0.5),
    # Behind the other rank by an event, and in one that is no exchange's.
    (1, "hf/run:LiveRun.step_begins", 2, 0.5),
    (1, "hf/run:LiveRun.saved", 1, 0.5),
    (1, "hf/run:LiveRun.evaluated", 1, 0.5),
]
# From Python 3.12 on a comprehension is no function of its own.
FAULTS = [fault for fault in FAULTS if sys.version_info < (3, 12) or "<listcomp>" not in fault[1]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What both ranks report: of a run without the callback, of one without a fault, then of one for every fault."""
    folder = tmp_path_factory.mktemp("faults")
    outcomes = forked.run_ranks(
        job_faults.runs, str(folder / "run"), [None, *FAULTS], ranks=2, folder=folder, timeout=240
    )
    first, second = (forked.value(outcome) for outcome in outcomes)
    return [list(both) for both in zip(first, second, strict=False)]  # no rank goes on after a crash


def test_no_fault(results: list[list[dict[str, Any]]]) -> None:
    """Rows of rank 0 alone, in the middle of a step, are no evaluations and no training rows; every evaluation is
    exact on both ranks, nothing is said and the weights are those of a run without the callback."""
    (plain, _), both = results[:2]
    assert job_faults.verdict(plain, both) == []
    for one in both:
        assert (one["exact"], one["reasons"], one["said"], one["off"]) == (3, [], [], False)
        assert not {"no-improvement", "gap-widening", "loss-spike"} & set(one["codes"])


@pytest.mark.parametrize("number", range(len(FAULTS)), ids=[f"rank {rank} {place}" for rank, place, *_ in FAULTS])
def test_a_fault(number: int, results: list[list[dict[str, Any]]]) -> None:
    """Both ranks end at the last step with the weights of a run without the callback; the fault is named, once on a
    rank at most."""
    assert len(results) > 2 + number, "both ranks ended in a fault before this one"
    both = results[2 + number]
    assert both[FAULTS[number][0]]["raised"], "the function is not called as often"
    assert job_faults.verdict(results[0][0], both) == []


def test_both_ranks_go_off_together(results: list[list[dict[str, Any]]]) -> None:
    """What one rank misses for good switches the callback off on both, and both say which event, rank and error."""
    number = FAULTS.index((1, "hf/measure/step_counts:StepCounts.close_row", 2))
    for one in results[2 + number]:
        assert one["off"]
        (said,) = one["said"]
        assert "on_log failed on rank 1: FaultError" in said


@pytest.mark.parametrize("change", ["store", "between", "removed"])
def test_a_rank_is_cut_off(change: str, tmp_path: Path) -> None:
    """A rank that the store answers no more, or that fails between lengths and contents, still comes to the exchange
    that the others wait in, and one from which the callback was removed says so: all go on without the callback, to
    the same weights, and both ranks say the same."""
    outcomes = forked.run_ranks(job_faults.cut_off, str(tmp_path), change, ranks=2, folder=tmp_path / "n", timeout=60)
    (plain, first), (_, second) = (forked.value(outcome) for outcome in outcomes)
    assert job_faults.verdict(plain, [first, second]) == []
    assert first["off"] and second["off"]
    assert first["said"] == second["said"]
    if change != "removed":
        assert "failed on rank 1: FaultError: broken on purpose in the" in first["said"][0]
