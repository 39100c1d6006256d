"""`no-first-evaluation`: evaluations, but none before the first step."""

from __future__ import annotations

from ko_cpt_callbacks.core.finding import Severity
from ko_cpt_callbacks.core.observation import EvalObservation, SetupObservation
from ko_cpt_callbacks.rules.note.no_first_evaluation import NoFirstEvaluation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = NoFirstEvaluation()


def test_it_is_an_info_and_said_once() -> None:
    """The row makes one finding with the argument to set; a second row makes none, and it never asks to stop."""
    state, (found,) = RULE.step(RULE.initial(), SetupObservation(0, RULE.code), SILENT)
    assert (found.severity, found.step, found.asks_to_stop) == (Severity.INFO, 0, False)
    assert found.message() == (
        "There is no evaluation before the first step: what training changes, and what it makes the model forget, is "
        "then counted from a model that was trained already. Set TrainingArguments(eval_on_start=True)."
    )
    assert RULE.step(state, SetupObservation(0, RULE.code), SILENT) == (state, ())


def test_steps_that_are_ignored() -> None:
    """The row with ``eval_steps`` is another finding, beside the one on the start; without the strategy it is none."""
    ignored = SetupObservation(0, RULE.code, {"eval_steps": 50, "eval_strategy": "epoch"})
    state, (found,) = RULE.step(RULE.initial(), ignored, SILENT)
    assert (found.severity, found.variant) == (Severity.INFO, "steps-ignored")
    assert found.message() == (
        "eval_steps=50 is ignored, because eval_strategy is 'epoch'. To evaluate every so many steps: "
        "TrainingArguments(eval_strategy='steps')."
    )
    assert len(RULE.step(state, SetupObservation(0, RULE.code), SILENT)[1]) == 1
    assert RULE.step((), SetupObservation(0, RULE.code, {"eval_steps": 50}), SILENT) == ((), ())


def test_other_rows_are_silent() -> None:
    """A log whose first evaluation is late says nothing by itself: it may begin in mid-run."""
    assert RULE.step((), EvalObservation(500, loss=2.0), SILENT) == ((), ())
    assert RULE.step((), SetupObservation(0, "stage"), SILENT) == ((), ())
