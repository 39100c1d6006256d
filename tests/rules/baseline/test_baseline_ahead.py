"""baseline-ahead: once per set, at the evaluation that shows it, exactly or by way of indication."""

from __future__ import annotations

import math
from typing import Any

import pytest
from compare.made_baseline import LN2, own, published
from messages.shown import shown

from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.rules.baseline.comparison import BaselineAhead
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.registry import rules_for
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import (
    EndObservation,
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
)
from ko_cpt_callbacks.signal.signals import SILENT
from ko_cpt_callbacks.watch.spec import WatchSpec


def evaluation(step: int, bits: float, split: str = "eval_ko", fingerprint: str = "utf8-00bb") -> EvalObservation:
    """An evaluation at four bytes per token, with an error of 0.005 bits per byte."""
    return EvalObservation(
        step, split=split, exact_loss=bits * LN2 * 4.0, exact_loss_se=0.005 * LN2 * 4.0, bits_per_byte=bits,
        bits_per_byte_se=0.005, tokens=1000, bytes=4000, rows=50, fingerprint=fingerprint,
    )  # fmt: skip


def difference(step: int, nats: float, **more: Any) -> SetupObservation:
    """A paired difference of eval_ko, as the live run writes it."""
    values = {"split": "eval_ko", "baseline": "own", "unit": "nats per token", "difference": nats, "se": 0.004,
              "rows": 120, **more}  # fmt: skip
    return SetupObservation(step, "baseline-difference", values)


def findings(
    *seen: Observation, baseline: Baseline | None = None, stage: str = "auto", retention: tuple[str, ...] = ()
) -> list[Finding]:
    """What the rule says of these rows, the end of the history included."""
    rule = BaselineAhead(published() if baseline is None else baseline, stage, retention)
    return list(Monitor([rule]).judge(seen)[1])


def codes(found: Finding, kind: str) -> list[str]:
    """Codes of its reasons or notes."""
    return [reason["code"] for reason in found.values[kind]]  # type: ignore[index, union-attr, call-overload]


def test_indicative() -> None:
    """Surely below the reference's whole range: said with the range, the reason and the grade."""
    (found,) = findings(evaluation(100, 0.9), evaluation(200, 0.80))
    assert (found.code, found.severity, found.step, found.split) == ("baseline-ahead", Severity.INFO, 200, "eval_ko")
    assert found.variant == "indicative"
    assert found.values["stage"] == "lora"
    assert {name: value for name, value in shown(found)[1].items() if name not in ("reasons", "notes")} == {
        "baseline": "published", "confidence": 0.95, "high": -0.0183, "low": -0.1094, "reference_high": 0.8946,
        "reference_low": 0.8331, "stage": "lora", "value": 0.8,
    }  # fmt: skip
    assert "text-unknown" in codes(found, "reasons")
    assert "grade" in codes(found, "notes")


def test_exact() -> None:
    """With the paired difference of the same step: exact, in nats, with its interval."""
    for rows in (
        (evaluation(100, 0.85, fingerprint="utf8-00aa"), difference(100, -0.06)),
        (difference(100, -0.06), evaluation(100, 0.85, fingerprint="utf8-00aa")),
    ):
        (found,) = findings(*rows, baseline=own())
        assert (found.step, found.variant) == (100, "exact")
        assert shown(found) == (
            "exact",
            {
                "baseline": "own", "confidence": 0.95, "difference": -0.06, "high": -0.0522, "low": -0.0678,
                "notes": [{"code": "rows-only"}], "stage": "whole", "unit": "nats per token", "value": 2.3567,
            },
        )  # fmt: skip


def test_the_difference_may_never_come() -> None:
    """The same text as the baseline's waits for it; a training row, the end, or the next evaluation goes on without."""
    same = evaluation(100, 0.80, fingerprint="utf8-00aa")
    for later in (TrainObservation(110, loss=2.0), EndObservation(110), evaluation(200, 1.2)):
        rule = BaselineAhead(own())
        state, nothing = rule.step(rule.initial(), same, SILENT)
        _, (found,) = rule.step(state, later, SILENT)
        assert (nothing, found.step, found.variant) == ((), 100, "indicative")
        assert "no-paired-rows" in codes(found, "reasons")
    (found,) = findings(same, baseline=own())
    assert found.step == 100


def test_it_is_awaited() -> None:
    """Before its difference an evaluation of the baseline's text says nothing, and then the difference decides."""
    assert findings(evaluation(100, 0.80, fingerprint="utf8-00aa"), difference(100, 0.06), baseline=own()) == []


def test_once_per_set() -> None:
    """Not again at later evaluations, nor when it was level in between; another set is told of by itself."""
    rows = [evaluation(step, bits) for step, bits in ((10, 0.80), (20, 0.86), (30, 0.79))]
    found = findings(*rows, evaluation(30, 0.78, "eval"), EndObservation(30))
    assert [(one.step, one.split) for one in found] == [(10, "eval_ko"), (30, "eval")]


@pytest.mark.parametrize("bits", [0.822, 0.86, 0.95, math.nan])
def test_silent(bits: float) -> None:
    """Within the range and the error, behind, or not finite."""
    assert findings(evaluation(10, bits), EndObservation(10)) == []


def test_no_baseline() -> None:
    """Nothing is compared unless it was asked for."""
    rule = BaselineAhead()
    state, found = rule.step(rule.initial(), evaluation(10, 0.1), SILENT)
    assert (state, found, rule.close(state, SILENT)) == (rule.initial(), (), ())


def test_retention_sets_are_never_compared() -> None:
    """By their usual names, and by what was declared; neither is a paired difference of one."""
    rows = [evaluation(10, 0.5, "eval_en"), evaluation(10, 0.5, "eval_old")]
    assert findings(*rows, difference(10, -1.0, split="eval_old"), retention=("old",)) == []
    assert [one.split for one in findings(*rows)] == ["eval_old"]


def test_stage_that_the_model_matches() -> None:
    """The stage row names it; without one, or without a match, the last with figures, which is then said."""
    row = SetupObservation(0, "stage", {"name": "embedding", "baseline_stage": "embedding", "quantization": "8-bit"})
    (found,) = findings(row, evaluation(10, 0.88))
    assert found.values["stage"] == "embedding"
    assert "quantization" in codes(found, "notes")
    unmatched = SetupObservation(0, "stage", {"name": "full", "baseline_stage": None})
    assert findings(unmatched, evaluation(10, 0.88)) == []
    (found,) = findings(unmatched, evaluation(10, 0.8))
    assert {"code": "stage-not-matched", "stage": "lora"} in found.values["notes"]


def test_a_named_stage_stays() -> None:
    """What was asked for counts, whatever the model matches; a name that is not there is refused before training."""
    row = SetupObservation(0, "stage", {"baseline_stage": "lora"})
    (found,) = findings(row, evaluation(10, 0.88), stage="embedding")
    assert found.values["stage"] == "embedding"
    with pytest.raises(ConfigurationError, match=r"found 'embeding'.*Did you mean 'embedding'"):
        rules_for(WatchSpec(baseline=published().as_dict(), stage="embeding"))


@pytest.mark.parametrize(
    "values",
    [
        {"difference": math.nan},
        {"difference": "-0.5"},
        {"difference": True},
        {"unit": "apples"},
        {"baseline": "another"},
        {"split": None},
    ],
)
def test_a_difference_that_says_nothing(values: dict[str, Any]) -> None:
    """Of another baseline, without a number or a unit: as if there were none."""
    assert findings(difference(100, -0.5, **values), evaluation(100, 0.88), baseline=own()) == []


def test_reasons_in_place_of_a_difference() -> None:
    """Rows that do not pair: an indication with their reasons, at once."""
    row = difference(100, 0.0, difference=None, reasons=["packed", "no-bos"])
    (found,) = findings(evaluation(100, 0.8, fingerprint="utf8-00aa"), row, baseline=own())
    assert found.variant == "indicative"
    assert {"packed", "no-bos"} <= set(codes(found, "reasons"))
