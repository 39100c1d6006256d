"""`stage-regression`: a later stage ends worse than the one before."""

from __future__ import annotations

from typing import Any

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.baseline.stage_regression import StageRegression
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

WORSE = {
    "stage": "even-layers", "before": "odd-layers", "split": "eval_ko", "unit": "nats per token", "difference": 0.05,
    "se": 0.01, "paired": True, "value_before": 2.8, "value_after": 2.85,
}  # fmt: skip


def _found(rule: StageRegression, *rows: dict[str, Any], kind: str = "stage-difference") -> list[Finding]:
    state, found = rule.initial(), []
    for row in rows:
        state, new = rule.step(state, SetupObservation(40, kind, row), SILENT)
        found.extend(new)
    return found


def test_it_speaks_where_the_interval_is_above_zero() -> None:
    """A difference of 0.05 with an error of 0.01: a warning with the interval, in full."""
    (finding,) = _found(StageRegression(), WORSE)
    assert (finding.code, finding.severity, finding.step, finding.split) == (
        "stage-regression", Severity.WARNING, 40, "eval_ko"
    )  # fmt: skip
    assert finding.values["low"] == pytest.approx(0.05 - 1.959964 * 0.01)
    assert not finding.asks_to_stop
    assert shown(finding) == (
        "",
        {
            "before": "odd-layers", "confidence": 0.95, "difference": 0.05, "high": 0.0696, "low": 0.0304,
            "stage": "even-layers", "unit": "nats per token",
        },
    )  # fmt: skip


def test_unpaired_says_so() -> None:
    """Without the same rows the finding is another, of the two losses' own errors."""
    (finding,) = _found(StageRegression(), {**WORSE, "paired": False, "unit": "bits per byte"})
    assert finding.variant == "unpaired"
    assert finding.values["unit"] == "bits per byte"


@pytest.mark.parametrize(
    "change",
    [
        {"difference": 0.0195},
        {"difference": 0.0},
        {"difference": -0.05},
        {"se": None},
        {"difference": None},
        {"difference": float("nan")},
        {"se": float("inf")},
        {"se": -1.0},
        {"se": True},
        {"difference": "0.05"},
        {"unit": "PPL"},
        {"unit": ["nats per token"]},
        {"stage": ""},
        {"before": None},
        {"split": 3},
        {"split": "eval_en"},
        {"split": "eval_old"},
    ],
)
def test_it_is_silent(change: dict[str, Any]) -> None:
    """Within the noise, better, without an error bar, of another shape, or of a retention set."""
    assert _found(StageRegression(retention=("old",)), {**WORSE, **change}) == []


def test_just_above_the_interval() -> None:
    """The bound is the lower end of the two-sided 95 % interval: 1.96 standard errors."""
    assert _found(StageRegression(), {**WORSE, "difference": 0.0393, "se": 0.02, "resolution": 0.0}) != []
    assert _found(StageRegression(), {**WORSE, "difference": 0.0391, "se": 0.02, "resolution": 0.0}) == []


def test_a_difference_without_any_error() -> None:
    """Every row the same: the interval is the difference itself."""
    (finding,) = _found(StageRegression(), {**WORSE, "se": 0.0})
    assert (finding.values["low"], finding.values["high"]) == (0.05, 0.05)


def test_below_the_resolution_is_level() -> None:
    """However narrow the interval is: what the row says, or else what another seed of such a stage changes: 1.96 times
    0.001234 bits per byte, 0.0060 nats per token at the bytes per token that Korean text has."""
    narrow = {**WORSE, "se": 1e-5}
    assert _found(StageRegression(), {**narrow, "difference": 0.001}) == []
    assert _found(StageRegression(), {**narrow, "difference": 0.0059}) == []
    assert _found(StageRegression(), {**narrow, "difference": 0.0062}) != []
    assert _found(StageRegression(), {**narrow, "difference": 0.0149, "resolution": 0.015}) == []
    assert _found(StageRegression(), {**narrow, "difference": 0.0199, "resolution": 0.015}) != []
    assert _found(StageRegression(), {**narrow, "difference": 0.0024, "unit": "bits per byte"}) == []
    assert _found(StageRegression(), {**narrow, "difference": 0.0025, "unit": "bits per byte"}) != []


def test_each_pair_and_set_once() -> None:
    """The same difference again says nothing; another set, or another stage, does."""
    found = _found(StageRegression(), WORSE, WORSE, {**WORSE, "split": "eval_ja"}, {**WORSE, "stage": "lora"})
    assert [(item.split, item.values["stage"]) for item in found] == [
        ("eval_ko", "even-layers"), ("eval_ja", "even-layers"), ("eval_ko", "lora")
    ]  # fmt: skip


def test_other_rows_say_nothing() -> None:
    """Set-up rows of other kinds, also of its own name, are silent."""
    assert _found(StageRegression(), WORSE, kind="stage") == []
    assert _found(StageRegression(), WORSE, kind="stage-regression") == []
