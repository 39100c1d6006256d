"""`two-writers`: another process already writes into the run folder."""

from __future__ import annotations

from typing import Any

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.setup.check import TwoWriters
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT


def _found(values: dict[str, Any], kind: str = "two-writers") -> list[Finding]:
    rule = TwoWriters()
    return list(rule.step(rule.initial(), SetupObservation(0, kind, values), SILENT)[1])


def test_what_it_says() -> None:
    """A warning that never stops: which process writes, that this one does not, and what to do."""
    (finding,) = _found({"process": "4711"})
    assert (finding.severity, finding.asks_to_stop) == (Severity.WARNING, False)
    assert shown(finding) == ("", {"process": "4711"})


@pytest.mark.parametrize(
    ("values", "kind"), [({}, "two-writers"), ({"process": 4711}, "two-writers"), ({"process": "4711"}, "plan")]
)
def test_other_rows(values: dict[str, Any], kind: str) -> None:
    """A row without the process's name, or of another kind, says nothing."""
    assert _found(values, kind) == []
