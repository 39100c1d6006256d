"""At once or along a curve: a step beside ramps and curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from run.curve import noisy

from ko_cpt_callbacks.signal.step_fit import gain_of, step_of

NOISE = 0.01


@pytest.mark.parametrize("size", [0.1, -0.3])
@pytest.mark.parametrize("between", [0.0, 0.5, 1.0])
def test_a_step_between_two_lines(size: float, between: float) -> None:
    """Its size, the level and slopes around it, and its error; the point between the lines may be anywhere."""
    line = [2.5 - 0.02 * i for i in range(15)]
    values = [*line[:14], line[14] + between * size, *(line[14] - 0.02 + size - 0.03 * i for i in range(9))]
    step = step_of(values, 9, NOISE)
    assert (step.before, step.size) == (pytest.approx(2.2), pytest.approx(size))
    assert (step.slope, step.bend) == (pytest.approx(-0.02), pytest.approx(-0.01))
    assert step.error == pytest.approx(0.0088, abs=0.0003)


def test_its_error_is_that_of_noise() -> None:
    """Over many draws the size of a step that is none spreads as the error says."""
    steps = [step_of(noisy(24, NOISE, seed), 9, NOISE) for seed in range(300)]
    spread = math.sqrt(sum(step.size**2 for step in steps) / len(steps))
    assert spread == pytest.approx(steps[0].error, rel=0.15)


def _share(form: list[float], size: float = 0.1) -> float:
    """Share of draws in which the step fits better than what is none, by two squared noises."""
    draws = [[size * one + e for one, e in zip(form, noisy(24, NOISE, seed), strict=True)] for seed in range(60)]
    return sum(gain_of(values, 9, NOISE) >= 2.0 for values in draws) / len(draws)


def test_steps_and_what_is_none() -> None:
    """A step of ten noises fits better than any ramp or curve, most also where one point is between; a ramp of five
    points, a kink and an exponential do not."""
    at = range(24)
    assert _share([float(i >= 15) for i in at]) > 0.9
    assert _share([0.5 if i == 14 else float(i > 14) for i in at]) > 0.8
    assert _share([min(max((i - 12) / 5, 0.0), 1.0) for i in at]) < 0.2
    assert _share([max(i - 14, 0.0) / 4 for i in at]) < 0.1
    assert _share([3.0 * math.exp(-i / 6) for i in at]) < 0.1


def test_on_a_curve() -> None:
    """A step on a parabola is one: the curve is in either fit."""
    at = range(24)
    assert _share([(i - 30) ** 2 / 1000 + float(i >= 15) for i in at]) > 0.8


def test_one_point_far_off_decides_nothing() -> None:
    """It counts as three noises for the step and for the ramp."""
    values = [0.1 * (i >= 15) + e for i, e in enumerate(noisy(24, NOISE))]
    values[5] += 0.5
    assert gain_of(values, 9, NOISE) >= 2.0


def _gain(values: list[float]) -> float:
    return gain_of(values, 9, NOISE)


def test_what_a_step_is_compared_with() -> None:
    """Ramps of four, six and nine points, and a cubic: what is one of them fits no worse than a step, by nothing."""
    at = range(24)
    for points in (4.0, 6.0, 9.0):
        ramp = [min(max((i - 14.5) / points + 0.5, 0.0), 1.0) for i in at]
        assert _gain(ramp) < 0.0
        assert _gain([3.0 * one - 0.1 * i for i, one in enumerate(ramp)]) < 0.0
    assert _gain([((i - 12) / 6) ** 3 for i in at]) < 0.0
    assert _gain([float(i >= 15) for i in at]) > 100.0


def test_how_much_a_large_step_gains() -> None:
    """A point beside a fit counts as three noises: nine squared noises each, for as many as there are at most."""
    step = [1.0 * (i >= 15) for i in range(24)]
    assert 9.0 * 12 < _gain(step) < 9.0 * 18
    assert 9.0 * 12 < _gain([10.0 * one for one in step]) < 9.0 * 24


# -- against numpy: the same fits, written down anew ----


def _left(values: Sequence[float], *columns: Callable[[float], float]) -> float:
    """Squares that numpy's least-squares fit leaves, a point no more than three noises of it."""
    fit = np.array([[column(i) for column in columns] for i in range(len(values))])
    rest = np.array(values) - fit @ np.linalg.lstsq(fit, np.array(values), rcond=None)[0]
    return float(np.minimum(rest**2, (3.0 * NOISE) ** 2).sum())


def _expected(values: Sequence[float], count: int) -> float:
    """What the step gains: over ramps with a kink, and over a cubic."""
    first = len(values) - count

    def kinked(begins: float, points: float) -> float:
        return _left(
            values, lambda i: 1.0, lambda i: i, lambda i: max(i - begins - 0.5 * points, 0.0),
            lambda i: np.clip((i - begins) / points, 0, 1),
        )  # fmt: skip

    def curved(begins: float, points: float) -> float:
        return _left(values, lambda i: 1.0, lambda i: i, lambda i: i**2, lambda i: np.clip((i - begins) / points, 0, 1))

    # A step is a ramp of one point before the first point after, or the one before that, or of both.
    steps = ((first - 1.0, 1.0), (first - 2.0, 1.0), (first - 2.0, 2.0))
    ramps = [(first + aside - 0.5 * points, points) for points in (4.0, 6.0, 9.0) for aside in (-2.0, -0.5, 1.0)]
    straight, bent = min(kinked(*step) for step in steps), min(curved(*step) for step in steps)
    cubic = _left(values, lambda i: 1.0, lambda i: i, lambda i: i**2, lambda i: i**3)
    return float(min(min(kinked(*ramp) for ramp in ramps) - straight, cubic - bent)) / NOISE**2


FORMS: dict[str, Callable[[int], float]] = {
    "noise": lambda i: 0.0,
    "a step": lambda i: 0.06 * (i >= 15),
    "one point between": lambda i: 0.06 * (i >= 15) + 0.03 * (i == 14),
    "a point later": lambda i: 0.06 * (i >= 14),
    "a long ramp": lambda i: 0.01 * min(max(i - 10, 0), 9),
    "a short ramp": lambda i: 0.02 * min(max(i - 12, 0), 4),
    "a kink": lambda i: -0.01 * max(i - 14, 0),
    "a step on a curve": lambda i: 0.001 * i * i - 0.05 * (i >= 15),
    "a cubic": lambda i: 2e-5 * (i - 12) ** 3,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [9, 6])
def test_the_gain_is_that_of_least_squares(form: str, count: int) -> None:
    """Of every form, in noise and with a point far off, over nine points and over six."""
    for seed in range(3):
        values = [2.0 + FORMS[form](i) + e for i, e in enumerate(noisy(24, NOISE, seed))]
        values[4 + seed] += 0.1 * seed
        late = values[9 - count :]
        assert gain_of(late, count, NOISE) == pytest.approx(_expected(late, count), abs=1e-6)


@pytest.mark.parametrize(("before", "count"), [(14, 9), (9, 6), (3, 3)])
def test_the_lines_are_those_of_least_squares(before: int, count: int) -> None:
    """And the error is that of the first point after, by both lines."""
    values = noisy(before + 1 + count, NOISE, 3)
    old, new = (np.polynomial.Polynomial.fit(range(len(side)), side, 1).convert().coef
                for side in (values[:before], values[-count:]))  # fmt: skip
    step = step_of(values, count, NOISE)
    assert step.before == pytest.approx(old[0] + old[1] * (before + 1))
    assert step.size == pytest.approx(new[0] - step.before)
    assert (step.slope, step.bend) == (pytest.approx(old[1]), pytest.approx(new[1] - old[1]))
    shares = [
        1 / n + (at - (n - 1) / 2) ** 2 / sum((i - (n - 1) / 2) ** 2 for i in range(n))
        for n, at in ((before, before + 1), (count, 0))
    ]
    assert step.error == pytest.approx(NOISE * math.sqrt(sum(shares)))


@pytest.mark.parametrize("count", [1, 2])
def test_after_one_or_two_points_a_kink_is_a_step(count: int) -> None:
    """It is left out where it is the same, and what is gained is a number."""
    values = noisy(20, NOISE)
    assert gain_of(values, count, NOISE) == pytest.approx(_expected(values, count), abs=1e-6)
