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
    return [found["code"] for found in result["findings"]]


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
