"""target-inconclusive: why a target is open. The table of histories is in watch/test_target.py."""

from __future__ import annotations

from typing import Any

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.target.outcome import TargetInconclusive
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import (
    EndObservation,
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
)
from ko_cpt_callbacks.watch.target import parse_targets

END = EndObservation(1000)


def _finding(target: str, *seen: Observation) -> Finding:
    rule = TargetInconclusive(parse_targets([target]))
    (one,) = Monitor([rule]).judge(seen)[1]
    assert not one.asks_to_stop
    return one


@pytest.mark.parametrize(
    ("target", "rows", "severity", "variant", "kept"),
    [
        (
            "exact_loss<3",
            [EvalObservation(900, exact_loss=3.01, exact_loss_se=0.04, rows=100), END],
            Severity.INFO,
            "interval",
            {"value": 3.01, "low": 2.9316, "high": 3.0884, "rows": 100, "rows_needed": 6147, "notes": []},
        ),
        (
            "exact_loss<3",
            [EvalObservation(900, exact_loss=3.01, exact_loss_se=0.04), END],
            Severity.INFO,
            "close",
            {"value": 3.01, "low": 2.9316, "high": 3.0884, "notes": []},
        ),
        (
            "exact_loss<3,confirm=2",
            [EvalObservation(900, exact_loss=2.9, exact_loss_se=0.01), END],
            Severity.INFO,
            "unconfirmed",
            {"value": 2.9, "confirmed": 1, "confirm": 2},
        ),
        (
            "ppl<20@step:2000",
            [EvalObservation(900, exact_loss=3.2, exact_loss_se=0.01), TrainObservation(910)],
            Severity.INFO,
            "not-due",
            {"value": 24.5325, "unit": "ppl"},
        ),
        (
            "eval_ko_ppl<20",
            [EvalObservation(900, exact_loss=3.2), EvalObservation(900, split="eval_en", exact_loss=3.2), END],
            Severity.WARNING,
            "no-evaluation",
            {"sets": ["eval", "eval_en"]},
        ),
        (
            "ppl<20",
            [END],
            Severity.WARNING,
            "no-evaluation",
            {"sets": []},
        ),
        (
            "bits_per_byte<0.9",
            [EvalObservation(900, exact_loss=3.2), END],
            Severity.WARNING,
            "unmeasured",
            {"metric": "bits_per_byte"},
        ),
        (
            "eval_ko_ppl<20",
            [EvalObservation(900, split="eval_ko", loss=2.1), END],
            Severity.WARNING,
            "substitute-unsaid",
            {},
        ),
        (
            "exact_loss<3",
            [EvalObservation(900, loss=2.1, exact_loss_absent="the model returned no logits"), END],
            Severity.WARNING,
            "substitute",
            {"reason": "the model returned no logits"},
        ),
        (
            "exact_loss<3",
            [EvalObservation(900, exact_loss=float("inf"), nonfinite_batches=1), END],
            Severity.WARNING,
            "non-finite",
            {},
        ),
        (
            "ppl<3",
            [EvalObservation(900, exact_loss=0.44, exact_loss_se=0.01, tokens=1000, bytes=4000), END],
            Severity.WARNING,
            "implausible",
            {"value": 1.5527, "unit": "ppl", "notes": []},
        ),
        (
            "ppl<3",
            [*(EvalObservation(s, exact_loss=x) for s, x in ((700, 2.7), (800, 2.68), (900, 0.44))), END],
            Severity.WARNING,
            "fell",
            {"value": 1.5527, "unit": "ppl", "notes": ["no-error-bar"]},
        ),
    ],
)
def test_each_reason(
    target: str, rows: list[Observation], severity: Severity, variant: str, kept: dict[str, Any]
) -> None:
    """Each reason with its numbers; a warning where no row or step more would help."""
    found = _finding(target, *rows)
    assert (found.code, found.severity) == ("target-inconclusive", severity)
    assert found.variant == variant
    assert found.values["target"] == str(parse_targets([target])[0])
    values = shown(found)[1]
    assert {name: values[name] for name in kept} == kept


def test_the_step_of_what_the_history_ends_without() -> None:
    """That of its last row, also where only training rows came after the last evaluation."""
    evaluation = EvalObservation(900, exact_loss=3.2)
    assert _finding("ppl<20@step:2000", evaluation).step == 900
    assert _finding("ppl<20@step:2000", evaluation, TrainObservation(910)).step == 910
    assert _finding("ppl<20@step:2000", SetupObservation(0, "plan", {})).step == 0
