"""What `ko-cpt check` lists under what to do next."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ko_cpt_callbacks.check.page import next_steps
from ko_cpt_callbacks.run.finding import Finding, Severity


def _judged(*findings: Finding) -> Any:
    return SimpleNamespace(findings=findings, absences=(), watch=SimpleNamespace(language="en"))


def test_no_advice_where_nothing_is_asked() -> None:
    """A finding that says itself that there is nothing to do, as a forgetting that came back, is told and not listed
    under what to do next; one of the same code that asks for something is."""
    closed = Finding("forgetting", Severity.INFO, 10, "eval_en", variant="recovered")
    still = Finding("forgetting", Severity.WARNING, 10, "eval_en")
    assert next_steps(_judged(closed)) == []
    assert [step.partition(":")[0] for step in next_steps(_judged(closed, still))] == ["forgetting"]


def test_one_advice_for_each_code_gravest_first() -> None:
    """Two findings of a code are one advice; an error's comes before a note's."""
    notes = [Finding("eval-too-small", Severity.INFO, step, "eval") for step in (0, 10)]
    error = Finding("diverged", Severity.ERROR, 10, "train")
    assert [step.partition(":")[0] for step in next_steps(_judged(*notes, error))] == ["diverged", "eval-too-small"]
