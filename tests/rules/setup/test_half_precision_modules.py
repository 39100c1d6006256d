"""`half-precision-modules`: weights trained in fp16."""

from __future__ import annotations

from typing import Any

import pytest

from ko_cpt_callbacks.rules.setup.check import HalfPrecisionModules
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = HalfPrecisionModules()
WHOLE: dict[str, Any] = {"tensors": 2, "modules": ["lm_head"], "quantization": "8-bit", "fix": "Do this."}


@pytest.mark.parametrize(
    ("change", "variant", "shown"),
    [
        ({}, "quantized", "2 trained weights are in fp16 (lm_head) beside 8-bit weights: small"),
        ({"quantization": "none"}, "plain", "2 trained weights are in fp16 (lm_head): small"),
        ({"quantization": None, "tensors": 1}, "plain", "1 trained weight is in fp16 (lm_head): small"),
    ],
)
def test_it_is_a_warning_with_the_way_out(change: dict[str, object], variant: str, shown: str) -> None:
    """One finding, on a quantised model and on any other."""
    seen = SetupObservation(0, RULE.code, {**WHOLE, **change})
    state, (found,) = RULE.step(RULE.initial(), seen, SILENT)
    assert (found.severity, found.variant, found.asks_to_stop) == (Severity.WARNING, variant, True)
    assert found.message().startswith(shown) and found.message().endswith("Do this.")
    assert RULE.step(state, seen, SILENT) == (state, ())


@pytest.mark.parametrize("change", [{"tensors": 0}, {"modules": []}, {"fix": None}])
def test_a_row_without_what_the_sentence_shows_is_silent(change: dict[str, object]) -> None:
    """No weight, no name, no way out: nothing is said."""
    assert RULE.step((), SetupObservation(0, RULE.code, {**WHOLE, **change}), SILENT) == ((), ())


def test_other_rows_are_silent() -> None:
    """Rows of other kinds say nothing."""
    assert RULE.step((), SetupObservation(0, "stage", WHOLE), SILENT) == ((), ())
