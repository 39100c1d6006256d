"""`nan-filter-on`: the Trainer hides NaN, and nobody counts."""

from __future__ import annotations

from ko_cpt_callbacks.core.finding import Severity
from ko_cpt_callbacks.core.observation import SetupObservation, TrainObservation
from ko_cpt_callbacks.rules.note.nan_filter_on import NanFilterOn
from ko_cpt_callbacks.signal.signals import SILENT

RULE = NanFilterOn()


def test_it_is_an_info_and_said_once() -> None:
    """The row makes one finding with the argument to set; a resume's makes none, and it never asks to stop."""
    state, (found,) = RULE.step(RULE.initial(), SetupObservation(10, RULE.code), SILENT)
    assert (found.severity, found.step, found.asks_to_stop) == (Severity.INFO, 10, False)
    assert found.message().endswith("To see it: TrainingArguments(logging_nan_inf_filter=False).")
    assert RULE.step(state, SetupObservation(20, RULE.code), SILENT) == (state, ())


def test_other_rows_are_silent() -> None:
    """A training row without a count says nothing by itself: a log from elsewhere never has one."""
    assert RULE.step((), TrainObservation(10, loss=2.0), SILENT) == ((), ())
    assert RULE.step((), SetupObservation(0, "stage"), SILENT) == ((), ())
