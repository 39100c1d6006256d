"""A target that is looked at again and again: what counts as a chance, and what the interval pays for it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest

from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation
from ko_cpt_callbacks.watch.measurement import angle, critical_value, mixture_boundary
from ko_cpt_callbacks.watch.target import Target
from ko_cpt_callbacks.watch.verdict import Outcome, TargetState, Verdict, advance

SE = 0.02
TARGET = Target("exact_loss", 3.0)
LATER = Target("exact_loss", 3.0, by="step:1000000")


def at(step: int, errors: float, *, change: float | None = None, rows: int = 0) -> EvalObservation:
    """An evaluation so many standard errors above 3.0, of rows by number; ``change`` in standard errors too."""
    moved = None if change is None else change * SE
    return EvalObservation(
        step, exact_loss=3.0 + errors * SE, exact_loss_se=SE, exact_loss_change_se=moved, tokens=1000,
        bytes=4000, rows=100, fingerprint=f"utf8-v2-{rows:04x}",
    )  # fmt: skip


def verdicts(seen: Sequence[Observation], target: Target = LATER) -> list[Verdict]:
    """Everything that is said, in order."""
    state, found = TargetState(), []
    for one in seen:
        state, verdict = advance(target, "other", state, one)
        found += [] if verdict is None else [verdict]
    return found


def met(seen: Sequence[Observation], target: Target = LATER) -> int | None:
    """The step at which the target is met."""
    return next((one.step for one in verdicts(seen, target) if one.outcome is Outcome.MET), None)


# ---- the same rows


@pytest.mark.parametrize("se", [1e160, 1e-170])
@pytest.mark.parametrize("fresh", [0, 1])
def test_an_error_without_a_square_breaks_nothing(se: float, fresh: int) -> None:
    """A damaged standard error is none to decide by, and what comes after it is judged as ever."""
    damaged = [dataclasses.replace(at(step, 1.0, change=0.1, rows=step * fresh), exact_loss_se=se) for step in range(3)]
    assert verdicts(damaged) == []
    assert met([*damaged, *(at(step, -30.0, rows=step * fresh) for step in range(3, 9))]) is not None


def test_looking_again_at_what_did_not_move_costs_nothing() -> None:
    """Weights that stand still give one chance, however often one looks: the interval stays the ordinary one."""
    seen = [at(step, -1.9, change=0.0) for step in range(100)]
    assert met([*seen, at(100, -1.97, change=0.0)]) == 100
    assert met([*seen, at(100, -1.95, change=0.0)]) is None


def test_what_moved_is_paid_for() -> None:
    """The more the rows moved, the lower an evaluation must be; the first one near the bound pays nothing."""
    assert met([at(0, -1.97)]) == 0
    for change, limit in ((0.3, 3.03), (0.03, 2.19)):
        seen = [at(step, 0.0, change=change) for step in range(10)]
        assert met([*seen, at(10, -limit + 0.02, change=change)]) is None
        assert met([*seen, at(10, -limit - 0.02, change=change)]) == 10


def test_where_nothing_says_how_far_it_moved_it_counts_as_new() -> None:
    """Without the error of the change every evaluation is a chance of its own, a quarter turn."""
    seen = [at(step, 0.0) for step in range(10)]
    limit = critical_value(0.95, 10 * math.pi / 2)
    assert met([*seen, at(10, -limit + 0.01)]) is None
    assert met([*seen, at(10, -limit - 0.01)]) == 10


def test_far_above_the_bound_is_no_chance() -> None:
    """Evaluations on the way down do not count; what they moved counts once, with the next near one."""
    far = [at(step, 50.0 - step, change=0.5) for step in range(45)]
    assert met([*far, at(50, -1.97, change=0.5)]) == 50
    between = [at(0, 0.0), *(at(1 + step, 9.0, change=1.0) for step in range(9)), at(10, -2.7, change=1.0)]
    assert met(between) is None
    assert met([*between[:-1], at(10, -critical_value(0.95, math.pi / 2) - 0.01, change=1.0)]) == 10


def test_an_evaluation_again_replaces_the_last() -> None:
    """A repeat of a step is no further chance."""
    seen = [at(0, 0.0), *(at(10, 0.0, change=0.3) for _ in range(50))]
    limit = critical_value(0.95, angle(SE, SE, 0.3 * SE))
    assert met([*seen, at(10, -limit - 0.01, change=0.3)]) == 10


def test_the_verdict_says_what_it_accounts_for() -> None:
    """Its interval is the wider one, and how many evaluations it holds for stands in it."""
    (found,) = verdicts([*(at(step, 0.0, change=0.3) for step in range(10)), at(10, -3.5, change=0.3)])
    half = critical_value(0.95, 10 * angle(SE, SE, 0.3 * SE)) * SE
    assert (found.values["looks"], found.values["low"]) == (11, pytest.approx(3.0 - 3.5 * SE - half))


def test_a_miss_is_one_look() -> None:
    """The deadline evaluation alone decides a miss, by its ordinary interval."""
    seen = [*(at(step, 0.0, change=0.3) for step in range(10)), at(10, 1.97, change=0.3), EndObservation(11)]
    (found,) = verdicts(seen, TARGET)
    assert (found.outcome, found.values["low"]) == (Outcome.MISSED, pytest.approx(3.0 + 0.01 * SE, abs=1e-4))


# ---- other rows


def test_fresh_rows_are_not_met_by_the_lowest_of_many() -> None:
    """One low evaluation among others at the bound meets nothing, though it would alone."""
    seen = [at(step, 0.5 if step % 2 else -0.5, rows=step) for step in range(30)]
    assert met([*seen, at(30, -3.0, rows=30)]) is None


def test_fresh_rows_are_pooled() -> None:
    """Evaluations each of which tells nothing tell together; the number that is shown is their mean."""
    seen = [at(step, -1.0 - 0.1 * (step % 3), rows=step) for step in range(40)]
    (found,) = verdicts(seen)
    count = found.values["looks"]
    mean = 3.0 - SE * sum(1.0 + 0.1 * (step % 3) for step in range(count)) / count
    assert 5 < count == (found.step or 0) + 1 < 12
    assert found.values["value"] == pytest.approx(mean)
    assert "mean-of-drawn" in found.values["notes"]
    half = mixture_boundary(0.95, count * (1000 * SE) ** 2, 4.0 * (1000 * SE) ** 2) / (1000 * count)
    assert found.values["high"] == pytest.approx(mean + half)


def test_a_fall_on_fresh_rows_is_not_held_back() -> None:
    """What was surely above is forgotten: a loss that comes from far above is met soon after it is below."""
    falling = [at(step, 60.0 - step, rows=step) for step in range(60)]
    end = met([*falling, *(at(60 + step, -3.0, rows=60 + step) for step in range(20))])
    assert end is not None and end < 70
    plateau = [at(step, 2.0, rows=step) for step in range(60)]  # none is surely above alone, several are together
    end = met([*plateau, *(at(60 + step, -2.0, rows=60 + step) for step in range(20))])
    assert end is not None and end < 75


def test_rising_again_is_not_met_by_the_past() -> None:
    """The last evaluation itself must be below."""
    thrice = Target("exact_loss", 3.0, by="step:1000000", confirm=3)
    seen = [*(at(step, -1.2, rows=step) for step in range(8)), at(8, -3.0, rows=8)]
    assert met(seen) == 7
    assert met([*seen, at(9, 0.1, rows=9)], thrice) is None
    assert met([*seen, at(9, -0.1, rows=9)], thrice) == 9


def test_after_a_change_of_rows_one_evaluation_waits() -> None:
    """Other rows begin anew: their first evaluation decides at the deadline only, else the second does."""
    seen = [at(step, 5.0, change=0.1) for step in range(5)]
    changed = at(5, -2.5, rows=1)
    assert met([*seen, changed]) is None
    assert met([*seen, changed, at(6, -2.5, rows=1, change=0.1)]) == 6
    assert met([*seen, changed, EndObservation(6)], TARGET) == 6


def test_a_relative_target_is_not_pooled() -> None:
    """All share the error of the first evaluation, so that a mean of many is no surer."""
    relative = Target("exact_loss", -0.1, relative=True, by="step:1000000")
    seen = [at(step, 0.0 if step == 0 else -15.5, rows=step) for step in range(100)]
    assert met(seen, relative) is None


# ---- the formulas


def test_the_critical_value_spends_no_more_than_it_has() -> None:
    """The density of chances, summed over all angles, is the tail of one evaluation again."""
    turned = np.linspace(0.0, 4000.0, 4_000_001)
    values = np.array([critical_value(0.95, one) for one in turned[::1000]])
    rate = np.interp(turned, turned[::1000], np.exp(-values * values / 2.0) / (2.0 * math.pi))
    coarse = np.trapezoid(np.exp(-np.square([critical_value(0.95, one / 1000) for one in range(4000)]) / 2), dx=0.001)
    fine = coarse / (2.0 * math.pi) + np.trapezoid(rate[4000:], turned[4000:])
    assert 0.022 < fine < 0.0251


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, 0.99])
def test_a_chance_is_no_larger_than_its_angle(correlation: float) -> None:
    """Of 400,000 pairs of errors the share that passes the value anew is below the bound by the angle."""
    rng = np.random.default_rng(1)
    one, other = rng.standard_normal((2, 400_000))
    after = correlation * one + math.sqrt(1.0 - correlation**2) * other
    change = math.sqrt(2.0 - 2.0 * correlation)
    for value in (1.96, 2.5):
        share = float(np.mean((after > value) & (one <= value)))
        bound = angle(1.0, 1.0, change) / (2.0 * math.pi) * math.exp(-value * value / 2.0)
        assert 0.5 * bound < share < 1.1 * bound


@pytest.mark.parametrize("variance", [0.5, 30.0])
def test_the_boundary_is_that_of_the_mixture(variance: float) -> None:
    """There the likelihood ratios, mixed over normal effects by numerical integration, come to 20."""
    effects = np.linspace(-12.0, 12.0, 200_001)
    total = mixture_boundary(0.95, variance, 1.0)
    density = np.exp(-effects * effects / 2.0) / math.sqrt(2.0 * math.pi)
    ratio = np.trapezoid(np.exp(effects * total - effects**2 * variance / 2.0) * density, effects)
    assert ratio == pytest.approx(20.0)
