"""`stopped-before`: training on from where the run was stopped."""

from __future__ import annotations

from ko_cpt_callbacks.core.observation import SetupObservation
from ko_cpt_callbacks.rules.note.stopped_before import StoppedBefore
from ko_cpt_callbacks.signal.signals import SILENT


def _messages(stops: bool) -> list[str]:
    rule = StoppedBefore()
    values = {"reason": "target-met", "reason_step": 20, "stops": stops}
    row = SetupObservation(24, "stopped-before", values)
    return [item.message() for item in rule.step(rule.initial(), row, SILENT)[1]]


def test_a_run_that_stops_again() -> None:
    """It says what asked to stop, that it stops again, and how to train on."""
    assert _messages(True) == [
        "This run resumes at step 24 although target-met already asked to stop at step 20. It stops again after one "
        "step. To train on, take target-met out of stop_on, or set a new target."
    ]


def test_a_run_that_goes_on() -> None:
    """It says what was found and why the run goes on."""
    assert _messages(False) == [
        "This run resumes at step 24 although target-met was already found at step 20. It trains on, because stop_on "
        "does not name target-met."
    ]


def test_every_resume_is_told() -> None:
    """Two resumes make two findings."""
    rule = StoppedBefore()
    seen = SetupObservation(24, "stopped-before", {"reason": "target-met", "reason_step": 20, "stops": True})
    assert len(rule.step(rule.initial(), seen, SILENT)[1]) == len(rule.step((), seen, SILENT)[1]) == 1
