"""`early-stopping-twice`: two callbacks that may stop the run."""

from __future__ import annotations

from ko_cpt_callbacks.core.observation import SetupObservation
from ko_cpt_callbacks.rules.note.early_stopping_twice import EarlyStoppingTwice
from ko_cpt_callbacks.signal.signals import SILENT


def test_it_is_said_once() -> None:
    """The set-up row makes one finding; a resume's second row makes none."""
    rule = EarlyStoppingTwice()
    seen = SetupObservation(0, "early-stopping-twice", {"other": "EarlyStoppingCallback"})
    state, found = rule.step(rule.initial(), seen, SILENT)
    assert [finding.message() for finding in found] == [
        "EarlyStoppingCallback is in this Trainer too. Whichever asks first stops the run, and its count of patience "
        "starts over at every resume while this callback's does not. Keep one of them: patience= and min_delta= do "
        "the same."
    ]
    assert rule.step(state, seen, SILENT) == (state, ())


def test_other_set_up_rows_are_silent() -> None:
    """Rows of other kinds say nothing."""
    rule = EarlyStoppingTwice()
    assert rule.step(rule.initial(), SetupObservation(0, "plan", {}), SILENT)[1] == ()
