"""At once or along a curve: a step beside ramps and curves."""

from __future__ import annotations

import math

import pytest
from run.curve import noisy

from ko_cpt_callbacks.signal.suddenness import gain_of, slope_of, step_of

NOISE = 0.01


def test_slope() -> None:
    """Per point, and not seeing one outlier."""
    line = [3.0 - 0.02 * i for i in range(12)]
    assert slope_of(tuple(line)) == pytest.approx(-0.02)
    assert slope_of((*line[:5], 9.0, *line[6:])) == pytest.approx(-0.02)


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
