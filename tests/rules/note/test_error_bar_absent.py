"""error-bar-absent: said once per set, with the row's own reason."""

from __future__ import annotations

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EvalObservation, Observation
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.note.error_bar_absent import ErrorBarAbsent

REASON = "the output has no logits, and no hidden states or head to make them from"


def _findings(*seen: Observation) -> list[Finding]:
    rule = ErrorBarAbsent()
    return list(Monitor([rule]).judge(seen)[1])


def test_once_per_set() -> None:
    """The first evaluation of each set says it, later ones and repeats do not."""
    rows = [
        EvalObservation(step, split=split, exact_loss=2.0, error_bar_absent=REASON)
        for step in (0, 10, 10, 20)
        for split in ("eval_ko", "eval_en")
    ]
    found = _findings(*rows)
    assert [(f.severity, f.step, f.split, f.asks_to_stop) for f in found] == [
        (Severity.INFO, 0, "eval_ko", False),
        (Severity.INFO, 0, "eval_en", False),
    ]
    assert found[0].message() == f"eval_ko: no error bar: {REASON}"


def test_silent_without_a_reason() -> None:
    """One row has no error bar by nature, and a log made without the callback has no exact loss: nothing is said."""
    assert _findings(EvalObservation(0, exact_loss=2.0, rows=1), EvalObservation(10, loss=2.0)) == []
