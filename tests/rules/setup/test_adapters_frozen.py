"""`adapters-frozen`: adapters are there and none of them is trained."""

from __future__ import annotations

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.setup.check import AdaptersFrozen
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = AdaptersFrozen()


@pytest.mark.parametrize(
    ("others", "variant", "kept"),
    [
        (0, "nothing-trained", {}),
        (1, "others-trained", {"trainable_parameters": 1}),
        (38400, "others-trained", {"trainable_parameters": 38400}),
    ],
)
def test_it_says_what_is_trained_instead(others: int, variant: str, kept: dict[str, int]) -> None:
    """An error that asks to stop, with the number of parameters that are trained."""
    seen = SetupObservation(0, RULE.code, {"adapter_parameters": 256, "trainable_parameters": others})
    state, (found,) = RULE.step(RULE.initial(), seen, SILENT)
    assert (found.severity, found.asks_to_stop) == (Severity.ERROR, True)
    assert shown(found) == (variant, {"adapter_parameters": 256, **kept})
    assert RULE.step(state, seen, SILENT) == (state, ())


@pytest.mark.parametrize(("beside", "severity"), [(100, Severity.INFO), (99, Severity.ERROR), (0, Severity.ERROR)])
def test_what_is_saved_beside_them(beside: int, severity: Severity) -> None:
    """Only modules and rows that PEFT saves beside adapters are trained: a note, meant for a stage of embeddings."""
    values = {"adapter_parameters": 256, "trainable_parameters": 100, "beside_adapters": beside}
    _, (found,) = RULE.step(RULE.initial(), SetupObservation(0, RULE.code, values), SILENT)
    assert found.severity is severity
    assert found.asks_to_stop is (severity is Severity.ERROR)


@pytest.mark.parametrize(
    "values",
    [{}, {"adapter_parameters": 0, "trainable_parameters": 5}, {"adapter_parameters": 5}, {"adapter_parameters": -1}],
)
def test_a_row_without_its_numbers_is_silent(values: dict[str, object]) -> None:
    """A row without adapters, or that does not say what else is trained, says nothing."""
    assert RULE.step((), SetupObservation(0, RULE.code, values), SILENT) == ((), ())


def test_other_rows_are_silent() -> None:
    """Rows of other kinds say nothing."""
    values = {"adapter_parameters": 256, "trainable_parameters": 0}
    assert RULE.step((), SetupObservation(0, "stage", values), SILENT) == ((), ())
