"""`half-precision-modules`: weights trained in fp16."""

from __future__ import annotations

from typing import Any

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.setup.check import HalfPrecisionModules
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = HalfPrecisionModules()
WHOLE: dict[str, Any] = {"tensors": 2, "modules": ["lm_head"], "quantization": "8-bit", "fix": "Do this."}


@pytest.mark.parametrize(
    ("change", "variant", "kept"),
    [
        ({}, "quantized", {"quantization": "8-bit", "tensors": 2}),
        ({"quantization": "none"}, "plain", {"tensors": 2}),
        ({"quantization": None, "tensors": 1}, "plain", {"tensors": 1}),
    ],
)
def test_it_is_a_warning_with_the_way_out(change: dict[str, object], variant: str, kept: dict[str, object]) -> None:
    """One finding, on a quantised model and on any other."""
    seen = SetupObservation(0, RULE.code, {**WHOLE, **change})
    state, (found,) = RULE.step(RULE.initial(), seen, SILENT)
    assert (found.severity, found.asks_to_stop) == (Severity.WARNING, True)
    assert shown(found) == (variant, {"fix": "Do this.", "modules": ["lm_head"], **kept})
    assert RULE.step(state, seen, SILENT) == (state, ())


@pytest.mark.parametrize("change", [{"tensors": 0}, {"modules": []}, {"fix": None}])
def test_a_row_without_what_the_sentence_shows_is_silent(change: dict[str, object]) -> None:
    """No weight, no name, no way out: nothing is said."""
    assert RULE.step((), SetupObservation(0, RULE.code, {**WHOLE, **change}), SILENT) == ((), ())


def test_other_rows_are_silent() -> None:
    """Rows of other kinds say nothing."""
    assert RULE.step((), SetupObservation(0, "stage", WHOLE), SILENT) == ((), ())
