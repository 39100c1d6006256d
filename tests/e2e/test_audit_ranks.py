"""The audit on two ranks: both say the same, an error is raised on both or on none, and nobody waits for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import forked
import pytest
from e2e import job_audit


def _ranks(folder: Path, **plan: Any) -> list[dict[str, Any]]:
    outcomes = forked.run_ranks(job_audit.train, str(folder / "run"), ranks=2, folder=folder, timeout=60, **plan)
    return [forked.value(outcome) for outcome in outcomes]


def _codes(result: dict[str, Any]) -> list[str]:
    return [found["variant"] if found["code"] == "note" else found["code"] for found in result["findings"]]


@pytest.mark.parametrize(
    ("fault", "found"), [("", True), ("look raises on rank 1", True), ("look raises on rank 0", False)]
)
def test_both_ranks_note_what_the_first_sees(fault: str, found: bool, tmp_path: Path) -> None:
    """Rank 0 looks and rank 1 is told; where looking fails on rank 0 nothing is noted on either, and both train on."""
    first, second = _ranks(tmp_path, fault=fault)
    assert first["findings"] == second["findings"]
    assert ("eval-in-training" in _codes(first)) is found
    assert "no-first-evaluation" in _codes(first)
    assert [first["step"], second["step"]] == [2, 2]


def test_both_ranks_are_told_of_a_metric_that_will_not_come(tmp_path: Path) -> None:
    """Before the first step and on both; then both Trainers die of it."""
    first, second = _ranks(tmp_path, metric="eval_exact_los")
    for result in (first, second):
        (found,) = [item for item in result["findings"] if item["code"] == "metric-not-delivered"]
        assert (found["severity"], found["step"], found["values"]["near"]) == ("error", 0, "eval_exact_loss")
        assert "metric_for_best_model" in result["said"]
    assert first["findings"] == second["findings"]


@pytest.mark.parametrize(
    "plan",
    [
        {"target": "eval_kr_ppl<1000"},
        {"target": "eval_kr_ppl<1000", "fault": "sets unknown on rank 0"},
        {"fault": "target of rank 1"},
    ],
    ids=["both", "rank 0 does not see it", "rank 1 alone is told"],
)
def test_a_refused_target_is_refused_on_both(plan: dict[str, str], tmp_path: Path) -> None:
    """Whichever rank sees that the set does not exist, both raise the same error before the first step."""
    first, second = _ranks(tmp_path, **plan)
    assert first["said"] == second["said"] is not None
    assert "found the evaluation set 'eval_kr'" in first["said"]
    assert [first["step"], second["step"]] == [0, 0]


def test_a_callback_on_one_rank_alone_does_not_raise(tmp_path: Path) -> None:
    """The other rank would wait for one that has raised: it is a warning, and both train to the end."""
    first, second = _ranks(tmp_path, target="eval_kr_ppl<1000", fault="callback on rank 0 only")
    assert first["said"] is None and second["said"] is None
    assert [first["step"], second["step"]] == [2, 2]
