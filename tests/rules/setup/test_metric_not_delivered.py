"""`metric-not-delivered`: `metric_for_best_model` names what no evaluation gives."""

from __future__ import annotations

from typing import Any

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.setup.check import MetricNotDelivered
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = MetricNotDelivered()
ROW = {"metric": "eval_loss", "near": "eval_ko_loss", "there": ["eval_ko_loss", "eval_en_loss"], "certain": True}


@pytest.mark.parametrize(
    ("changes", "severity", "variant", "kept"),
    [
        ({}, Severity.ERROR, "unknown", {}),
        ({"reason": "there is no tokenizer"}, Severity.ERROR, "unmeasured", {"reason": "there is no tokenizer"}),
        ({"certain": False, "others": ["MyTrainer"]}, Severity.INFO, "unless", {"others": ["MyTrainer"]}),
    ],
)
def test_what_is_there(changes: dict[str, Any], severity: Severity, variant: str, kept: dict[str, Any]) -> None:
    """An error where nothing can add the name, an info where something may; both name what will be there, once."""
    seen = SetupObservation(0, RULE.code, {**ROW, **changes})
    state, (found,) = RULE.step(RULE.initial(), seen, SILENT)
    assert found.severity is severity
    assert found.asks_to_stop is (severity is Severity.ERROR)
    there = {"metric": "eval_loss", "near": "eval_ko_loss", "there": ["eval_ko_loss", "eval_en_loss"]}
    assert shown(found) == (variant, {**there, **kept})
    assert RULE.step(state, seen, SILENT) == (state, ())


@pytest.mark.parametrize("missing", ["metric", "near"])
def test_a_row_that_says_too_little_is_silent(missing: str) -> None:
    """Without the name, or without one to put in its place, nothing is said."""
    values = {name: value for name, value in ROW.items() if name != missing}
    assert RULE.step((), SetupObservation(0, RULE.code, values), SILENT) == ((), ())


def test_other_rows_are_silent() -> None:
    """Rows of other kinds say nothing."""
    assert RULE.step((), SetupObservation(0, "worst-model-kept", ROW), SILENT) == ((), ())
