"""forgetting: a retention set above its first evaluation for good; a gap that closes is a note."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.generalization.forgetting import Forgetting
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation

PLAN = SetupObservation(0, "plan", {"planned_steps": 2000})


def _findings(seen: Sequence[Observation], rule: Forgetting | None = None) -> list[Finding]:
    rule = rule or Forgetting()
    return list(Monitor([rule]).judge(seen)[1])


def _run(
    rises: Sequence[float], *, split: str = "eval_en", every: int = 100, warmup: int = 0, falling: bool = False
) -> list[Observation]:
    """An evaluation at 0 of 2.0, then one every 100 steps, each higher by a share of that."""
    seen: list[Observation] = [EvalObservation(0, split=split, loss=2.0)]
    for i, rise in enumerate(rises, start=1):
        for step in range(every * (i - 1) + 10, every * i + 1, 10):
            rate = min(1.0, step / warmup) if warmup else 1.0 - (step / 2000 if falling else 0.0)
            seen.append(TrainObservation(step, loss=3.0 - 0.0001 * step, learning_rate=1e-4 * rate))
        seen.append(EvalObservation(every * i, split=split, loss=2.0 * (1.0 + rise)))
    return seen


def test_said_once_with_its_numbers() -> None:
    """Two evaluations in a row above the limit, after the first tenth: a warning that asks to stop."""
    (found,) = _findings([PLAN, *_run([0.01, 0.02, 0.035, 0.04, 0.05, 0.06])])
    assert (found.severity, found.step, found.split, found.asks_to_stop) == (Severity.WARNING, 400, "eval_en", True)
    assert shown(found) == (
        "",
        {
            "evaluations": 2, "first": 2.0, "first_step": 0, "limit": 0.03, "loss": 2.08, "rise": 0.04,
        },
    )  # fmt: skip


@pytest.mark.parametrize("split", ["eval_en", "eval_english", "eval_retention", "eval_base", "eval_orig", "test_EN"])
def test_names_that_mean_it(split: str) -> None:
    """These need not be declared."""
    assert len(_findings([PLAN, *_run([0.05] * 6, split=split)])) == 1


def test_other_names() -> None:
    """Korean may change as it likes; a set that was declared may not."""
    seen = [PLAN, *_run([0.05] * 6, split="eval_ko")]
    assert _findings(seen) == []
    assert len(_findings(seen, Forgetting(retention=("ko",)))) == 1
    assert len(_findings(seen, Forgetting(retention=("eval_ko",)))) == 1


def test_as_much_as_the_limit_is_not_above_it() -> None:
    """An eighth where that is the limit; and a gap that closed to it has closed."""
    rule = Forgetting(limit=0.125)
    assert _findings([PLAN, *_run([0.125] * 6)], rule) == []
    assert [one.variant for one in _findings([PLAN, *_run([0.1328125] * 6)], rule)] == [""]
    assert [one.variant for one in _findings([PLAN, *_run([0.25, 0.125, 0.125, 0.125, 0.125])], rule)] == ["recovered"]


def test_the_limit_can_be_set() -> None:
    """D-CPT's T is a choice."""
    seen = [PLAN, *_run([0.04] * 6)]
    assert _findings(seen, Forgetting(limit=0.05)) == []
    assert [one.values["limit"] for one in _findings(seen, Forgetting(limit=0.02))] == [0.02]


def test_a_declared_limit() -> None:
    """Of the set that it was declared for, before the rule's own."""
    seen = [PLAN, *_run([0.04] * 6)]
    assert _findings(seen, Forgetting(retention=("en<5%",))) == []
    assert [one.values["limit"] for one in _findings(seen, Forgetting(retention=("en<2%",)))] == [0.02]
    assert [one.values["limit"] for one in _findings(seen, Forgetting(retention=("old<5%",)))] == [0.03]


@pytest.mark.parametrize("rises", [[0.01, 0.02, 0.029, 0.029], [0.0, 0.05, 0.0, 0.05, 0.0], [-0.1] * 5])
def test_within_bounds(rises: list[float]) -> None:
    """Below the limit, single evaluations above it, and better than before: nothing."""
    assert _findings([PLAN, *_run(rises)]) == []


def test_the_stability_gap_is_a_note() -> None:
    """Worse in the first tenth and back: info, with depth and where it was; not a word before that."""
    rises = [0.06, 0.09, 0.04, 0.02, 0.01, 0.0, 0.0]
    (found,) = _findings([PLAN, *_run(rises, every=40)])
    assert (found.severity, found.variant, found.asks_to_stop) == (Severity.INFO, "recovered", False)
    assert found.step == 280
    assert (found.values["depth_step"], round(float(str(found.values["depth"])), 3)) == (80, 0.09)


def test_a_gap_that_stays() -> None:
    """What does not come back is forgetting, once it stops coming back."""
    rises = [0.06, 0.12, 0.09, 0.07, 0.06, 0.058, 0.057, 0.057]
    (found,) = _findings([PLAN, *_run(rises, every=60)])
    assert (found.severity, found.step) == (Severity.WARNING, 360)


def test_forgetting_after_a_gap_that_closed() -> None:
    """The note does not stand in the way of the warning."""
    rises = [0.06, 0.02, 0.0, 0.0, 0.02, 0.04, 0.05]
    assert [one.variant for one in _findings([PLAN, *_run(rises)])] == ["recovered", ""]


def test_not_during_the_warm_up() -> None:
    """While the learning rate rises nothing is said."""
    assert [one.step for one in _findings([PLAN, *_run([0.05] * 8, warmup=500)])] == [600]


def test_without_a_learning_rate() -> None:
    """A log that has none, or lost it, says nothing of a warm-up."""
    seen = [replace(one, learning_rate=None) if isinstance(one, TrainObservation) else one for one in _run([0.05] * 6)]
    assert [one.step for one in _findings([PLAN, *seen])] == [400]


def test_without_a_plan() -> None:
    """The length is read off a falling learning rate; at a constant one the first evaluations do not count."""
    rises = [0.05] * 6
    assert [one.step for one in _findings(_run(rises, every=60, falling=True))] == [300]
    assert [one.step for one in _findings(_run(rises, every=60))] == [180]


def test_a_repeated_evaluation_replaces() -> None:
    """The later value of a step counts, for the depth too."""
    seen = [PLAN, *_run([0.0, 0.0, 0.0])]
    seen += [EvalObservation(400, split="eval_en", loss=9.0), EvalObservation(400, split="eval_en", loss=2.0)]
    assert _findings([*seen, EvalObservation(500, split="eval_en", loss=2.0)]) == []


def test_bad_values() -> None:
    """NaN and infinite evaluations do not count, nor a first one of 0."""
    assert _findings([PLAN, *_run([math.nan, math.inf, math.nan])]) == []
    assert _findings([EvalObservation(0, split="eval_en", loss=0.0), *_run([0.1] * 5)[1:]]) == []
