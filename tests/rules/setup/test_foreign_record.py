"""`foreign-record`: a run resumes in a folder whose record is another run's."""

from __future__ import annotations

from typing import Any

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.setup.check import ForeignRecord
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

GONE = (
    "8 rows of the record do not count any more; those of the checkpoint stand in their place. Give every run an "
    "output_dir of its own."
)


def _found(values: dict[str, Any], kind: str = "foreign-record") -> list[Finding]:
    rule = ForeignRecord()
    return list(rule.step(rule.initial(), SetupObservation(40, kind, values), SILENT)[1])


def test_other_numbers() -> None:
    """A warning that never stops: the step whose numbers differ, and how many rows do not count any more."""
    (finding,) = _found({"rows": 8, "first_step": 5})
    assert (finding.severity, finding.step, finding.asks_to_stop) == (Severity.WARNING, 40, False)
    assert shown(finding) == ("differs", {"first_step": 5, "rows": 8})


def test_no_step_in_common() -> None:
    """Where both have training rows and none at the same step, that is said."""
    (finding,) = _found({"rows": 8, "first_step": None})
    assert shown(finding) == ("apart", {"rows": 8})


@pytest.mark.parametrize(
    ("values", "kind"), [({}, "foreign-record"), ({"rows": "8"}, "foreign-record"), ({"rows": 8}, "plan")]
)
def test_other_rows(values: dict[str, Any], kind: str) -> None:
    """A row without the count, or of another kind, says nothing."""
    assert _found(values, kind) == []
