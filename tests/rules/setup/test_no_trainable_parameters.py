"""`no-trainable-parameters`: said once, from the set-up row written when training begins."""

from __future__ import annotations

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.setup.check import NoTrainableParameters
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import SetupObservation, TrainObservation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = NoTrainableParameters()


def test_it_is_an_error_that_asks_to_stop() -> None:
    """The row makes one finding with the way out; the row of a resume makes none."""
    seen = SetupObservation(0, RULE.code, {"parameters": 12000})
    state, (found,) = RULE.step(RULE.initial(), seen, SILENT)
    assert (found.severity, found.step, found.asks_to_stop) == (Severity.ERROR, 0, True)
    assert shown(found) == ("", {"parameters": 12000})
    assert RULE.step(state, seen, SILENT) == (state, ())
    assert RULE.close(state, SILENT) == ()


@pytest.mark.parametrize("values", [{}, {"parameters": 0}, {"parameters": "many"}, {"parameters": True}])
def test_a_row_without_its_number_is_silent(values: dict[str, object]) -> None:
    """A row that lacks what the sentence shows says nothing, and a later whole one is heard."""
    state, found = RULE.step(RULE.initial(), SetupObservation(0, RULE.code, values), SILENT)
    assert found == ()
    assert len(RULE.step(state, SetupObservation(0, RULE.code, {"parameters": 1}), SILENT)[1]) == 1


def test_other_rows_are_silent() -> None:
    """Rows of other kinds, and rows of training, say nothing."""
    assert RULE.step((), SetupObservation(0, "stage", {"parameters": 12000}), SILENT) == ((), ())
    assert RULE.step((), TrainObservation(1, loss=2.0), SILENT) == ((), ())
