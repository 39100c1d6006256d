"""`worst-model-kept`: the Trainer is told to keep the wrong checkpoint."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.rules.setup.check import WorstModelKept
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = WorstModelKept()


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (
            {"keeps": "highest", "metric": "eval_ppl"},
            "The Trainer keeps as best the checkpoint with the highest eval_ppl, which is the worst: eval_ppl is "
            "better the lower. Set TrainingArguments(greater_is_better=False), or metric_for_best_model to a name that "
            'ends in "loss".',
        ),
        (
            {"keeps": "lowest", "metric": "eval_f1"},
            "The Trainer keeps as best the checkpoint with the lowest eval_f1, which is the worst: eval_f1 is better "
            "the higher. Set TrainingArguments(greater_is_better=True).",
        ),
        (
            {"keeps": "stop-unsaved"},
            "If this run is stopped (stop_on, patience), the state it stops at is not saved: with "
            'save_strategy="best" and eval_strategy="epoch" the Trainer saves after the stop only what is best so far. '
            'Set TrainingArguments(save_strategy="epoch"), or eval_strategy="steps".',
        ),
    ],
)
def test_each_mistake_is_a_warning(values: dict[str, str], shown: str) -> None:
    """One finding per mistake, with the argument to set."""
    seen = SetupObservation(0, RULE.code, values)
    state, (found,) = RULE.step(RULE.initial(), seen, SILENT)
    assert (found.severity, found.variant, found.asks_to_stop) == (Severity.WARNING, values["keeps"], True)
    assert found.message() == shown
    assert RULE.step(state, seen, SILENT) == (state, ())


def test_two_mistakes_of_one_run_are_two_findings() -> None:
    """A wrong metric does not hide an unsaved stop."""
    row = SetupObservation(0, RULE.code, {"keeps": "highest", "metric": "eval_ppl"})
    state, _ = RULE.step(RULE.initial(), row, SILENT)
    assert len(RULE.step(state, SetupObservation(0, RULE.code, {"keeps": "stop-unsaved"}), SILENT)[1]) == 1


@pytest.mark.parametrize("values", [{}, {"keeps": "highest"}, {"keeps": "middle", "metric": "eval_ppl"}, {"keeps": 1}])
def test_a_row_that_says_too_little_is_silent(values: dict[str, object]) -> None:
    """An unknown word, or no metric: nothing is said."""
    assert RULE.step((), SetupObservation(0, RULE.code, values), SILENT) == ((), ())


def test_other_rows_are_silent() -> None:
    """Rows of other kinds say nothing."""
    assert RULE.step((), SetupObservation(0, "stage", {"keeps": "stop-unsaved"}), SILENT) == ((), ())
