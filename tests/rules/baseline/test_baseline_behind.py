"""baseline-behind: only when the run ends, by the last evaluation; a warning where it is exact."""

from __future__ import annotations

import math

from compare.made_baseline import own, published
from messages.shown import shown
from rules.baseline.test_baseline_ahead import difference, evaluation

from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.rules.baseline.comparison import BaselineBehind
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, Observation, TrainObservation
from ko_cpt_callbacks.signal.signals import SILENT


def findings(*seen: Observation, baseline: Baseline | None = None, retention: tuple[str, ...] = ()) -> list[Finding]:
    """What the rule says of these rows, the end of the history included."""
    rule = BaselineBehind(published() if baseline is None else baseline, "auto", retention)
    return list(Monitor([rule]).judge(seen)[1])


def test_exact() -> None:
    """At the Trainer's last row, of the last evaluation: a warning with the paired interval."""
    rows = [evaluation(100, 1.0, fingerprint="utf8-00aa"), difference(100, 0.3)]
    rule = BaselineBehind(own())
    state = rule.initial()
    for row in rows:
        state, found = rule.step(state, row, SILENT)
        assert found == ()
    (only,) = findings(*rows, EndObservation(120), baseline=own())
    assert (only.code, only.severity, only.step, only.split) == (
        "baseline-behind", Severity.WARNING, 100, "eval_ko",
    )  # fmt: skip
    assert shown(only) == (
        "exact",
        {
            "baseline": "own", "confidence": 0.95, "difference": 0.3, "high": 0.3078, "low": 0.2922,
            "notes": [{"code": "rows-only"}], "stage": "whole", "unit": "nats per token", "value": 2.7726,
        },
    )  # fmt: skip


def test_indicative() -> None:
    """On other text it is information, because text alone makes such differences, and the sentence says so."""
    (found,) = findings(evaluation(100, 1.2), TrainObservation(110, loss=3.0), EndObservation(120))
    assert (found.severity, found.variant) == (Severity.INFO, "indicative")
    assert {"text-unknown", "different-text"} & {reason["code"] for reason in found.values["reasons"]}


def test_only_the_end_counts() -> None:
    """A run that begins behind and ends level or ahead is not behind; a history without an end is judged too."""
    assert findings(evaluation(0, 2.0), evaluation(100, 0.86), EndObservation(100)) == []
    (found,) = findings(evaluation(0, 2.0), evaluation(100, 1.5))
    assert found.step == 100


def test_a_last_evaluation_that_is_not_finite() -> None:
    """Where the run ends is then not known, and nothing is said."""
    assert findings(evaluation(0, 2.0), evaluation(100, math.nan), EndObservation(100)) == []


def test_once_per_set() -> None:
    """Each set at the end, and not again at the end of a resumed run."""
    rows = [evaluation(100, 1.5), evaluation(100, 1.5, "eval"), EndObservation(100)]
    more = [TrainObservation(110, loss=3.0), evaluation(200, 1.4), EndObservation(200)]
    assert [one.split for one in findings(*rows, *more)] == ["eval_ko", "eval"]


def test_retention_and_no_baseline() -> None:
    """A retention set is never behind, nor is anything without a baseline."""
    assert findings(evaluation(100, 5.0, "eval_en"), EndObservation(100)) == []
    rule = BaselineBehind()
    state, _ = rule.step(rule.initial(), evaluation(100, 5.0), SILENT)
    assert rule.step(state, EndObservation(100), SILENT)[1] == ()
