"""`record-behind`: the Trainer's own state goes further than the record."""

from __future__ import annotations

from typing import Any

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.setup.check import RecordBehind
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import SetupObservation, TrainObservation
from ko_cpt_callbacks.signal.signals import SILENT

VALUES: dict[str, Any] = {"record_step": 12, "state_step": 20, "rows": 9, "file": "checkpoint-20/trainer_state.json"}


def _found(values: dict[str, Any], kind: str = "record-behind") -> list[Finding]:
    rule = RecordBehind()
    return list(rule.step(rule.initial(), SetupObservation(12, kind, values), SILENT)[1])


def test_what_it_says() -> None:
    """A warning that never stops: where the record ends, which file goes on and how far."""
    (finding,) = _found(VALUES)
    assert (finding.severity, finding.step, finding.asks_to_stop) == (Severity.WARNING, 12, False)
    assert shown(finding) == (
        "",
        {
            "file": "checkpoint-20/trainer_state.json", "record_step": 12, "rows": 9, "state_step": 20,
        },
    )  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_a_row_that_lacks_a_number(name: str) -> None:
    """A row without one of its values, or with another kind of value, says nothing."""
    assert _found({key: value for key, value in VALUES.items() if key != name}) == []
    assert _found({**VALUES, name: []}) == []


def test_other_rows() -> None:
    """Another set-up row and a training row say nothing."""
    rule = RecordBehind()
    assert _found(VALUES, kind="plan") == []
    assert rule.step(rule.initial(), TrainObservation(12, loss=2.0), SILENT) == (rule.initial(), ())
