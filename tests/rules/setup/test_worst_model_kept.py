"""`worst-model-kept`: the Trainer is told to keep the wrong checkpoint."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.rules.setup.check import WorstModelKept
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = WorstModelKept()


@pytest.mark.parametrize(
    "values",
    [{"keeps": "highest", "metric": "eval_ppl"}, {"keeps": "lowest", "metric": "eval_f1"}, {"keeps": "stop-unsaved"}],
)
def test_each_mistake_is_a_warning(values: dict[str, str]) -> None:
    """One finding per mistake, with the metric."""
    seen = SetupObservation(0, RULE.code, values)
    state, (found,) = RULE.step(RULE.initial(), seen, SILENT)
    assert (found.severity, found.variant, found.asks_to_stop) == (Severity.WARNING, values["keeps"], True)
    assert found.values.get("metric") == values.get("metric")
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
