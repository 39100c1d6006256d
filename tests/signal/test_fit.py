"""Lines, steps and noises: how sure a fall is, a step beside ramps and curves, and what is no noise."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from run.curve import noisy

from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.fit import (
    bent_noise,
    curved_noise,
    fitted,
    gain_of,
    line_through,
    median,
    noise_of,
    second_farthest,
    step_of,
)

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


def test_the_line_and_the_noise() -> None:
    """Level at the last point, slope per point, the standard deviation around it; neither sees two outliers."""
    losses = [3.0 - 0.01 * i + e for i, e in enumerate(noisy(limits.LINE, 0.02, 4))]
    for bad in ({}, {7: 9.0, 20: 9.0}):
        fit = fitted([bad.get(i, loss) for i, loss in enumerate(losses)])
        assert fit.level == pytest.approx(3.0 - 0.01 * (limits.LINE - 1), abs=0.03)
        assert fit.slope == pytest.approx(-0.01, abs=0.002)
        assert fit.noise == pytest.approx(0.02, rel=0.5)


def test_noise_without_bends() -> None:
    """Second differences see neither slope nor bend; four apart they see noise whose neighbours correlate."""
    white = noisy(2000, 0.02, 1)
    assert bent_noise(white) == pytest.approx(0.02, rel=0.1)
    assert bent_noise([5.0 - 0.1 * i + 0.0005 * i * i + e for i, e in enumerate(white[:50])]) < 0.03
    last, wandering = 0.0, []
    for e in noisy(2000, 0.02 * math.sqrt(1 - 0.25), 2):
        last = 0.5 * last + e
        wandering.append(last)
    assert bent_noise(wandering) == pytest.approx(0.02, rel=0.12)
    steep = [3.0 + 4.0 * math.exp(-i / 6) + e for i, e in enumerate(noisy(25, 0.01, 3))]
    assert curved_noise(steep) < 0.03
    assert curved_noise([2.0] * 60) == limits.QUIET


def test_median() -> None:
    """Of odd and even numbers of values."""
    assert (median([3.0, 1.0, 2.0]), median([4.0, 1.0, 2.0, 3.0]), median([7.0])) == (2.0, 2.5, 7.0)


def _series(seed: int, fall: float, *, noise: float = 0.02, linked: float = 0.0, n: int = 60) -> list[float]:
    rng = random.Random(seed)
    last, found = 0.0, []
    for i in range(n):
        last = linked * last + (1 - linked**2) ** 0.5 * rng.gauss(0.0, noise)
        found.append(2.5 - fall * i / (n - 1) + last)
    return found


def test_a_straight_line() -> None:
    """Its fall, its start, and no less noise than there can be."""
    found = line_through([3.0 - 0.1 * i for i in range(11)])
    assert found is not None
    assert (found.fall, found.start, found.points) == (pytest.approx(1.0), pytest.approx(3.0), 11)
    assert found.noise == pytest.approx(0.002)


def test_too_few() -> None:
    """Five points are no line."""
    assert line_through([1.0] * 5) is None


@pytest.mark.parametrize("linked", [0.0, 0.5])
def test_the_error_is_the_error(linked: float) -> None:
    """Falls of 200 made series scatter by about the error that each of them names."""
    falls = [line_through(_series(seed, 0.1, linked=linked)) for seed in range(200)]
    off = [(one.fall - 0.1) / one.error for one in falls if one is not None]
    assert 0.7 < (sum(x * x for x in off) / len(off)) ** 0.5 < 1.35


def test_outliers_are_pulled_in() -> None:
    """Three points far off hardly move it."""
    values = _series(1, 0.1)
    for i in (3, 30, 57):
        values[i] += 2.0
    clean, found = line_through(_series(1, 0.1)), line_through(values)
    assert clean is not None
    assert found is not None
    assert found.fall == pytest.approx(clean.fall, abs=0.03)


@pytest.mark.parametrize("slope", [-0.01, 0.0, 0.02])
def test_a_broken_line(slope: float) -> None:
    """What it drops by in the middle is told from what it falls by on the way, and its error is the error."""
    drops = [
        line_through([slope * i - (0.3 if i >= 10 else 0.0) + off for i, off in enumerate(_series(seed, 0.0, n=20))],
                     broken=True)
        for seed in range(200)
    ]  # fmt: skip
    off = [(one.drop - 0.3) / one.drop_error for one in drops if one is not None]
    assert abs(sum(off)) / len(off) < 0.25
    assert 0.7 < (sum(x * x for x in off) / len(off)) ** 0.5 < 1.4


def test_neighbors_that_resemble_each_other() -> None:
    """They make the error twice as large, at most: a correlation of 0.6, however slow the wave is."""
    for period in (12, 30):
        line = line_through([2.0 + 0.01 * math.cos(2 * math.pi * i / period) for i in range(60)])
        assert line is not None
        plain = line.noise * 59 / math.sqrt(60 * (60**2 - 1) / 12)
        assert line.error == pytest.approx(2.0 * plain)


def test_how_far_an_outlier_counts() -> None:
    """After three fits a point a hundred deviations off, at the end, moves the line by 0.011 to 0.013 of itself; of one
    within three deviations nothing is taken."""
    zigzag = [0.01 * (-1) ** i for i in range(40)]
    far, near = line_through([*zigzag[:-1], 1.0]), line_through([*zigzag[:-1], -0.04])
    assert far is not None and near is not None
    slope = sum((i - 19.5) * value for i, value in enumerate([*zigzag[:-1], -0.04])) / 5330
    assert near.fall == pytest.approx(-39 * slope)
    assert -0.013 < far.fall < -0.010


def test_noise() -> None:
    """Neither a trend, nor a bend, nor an outlier is noise; what goes up and down is, whatever it rides on."""
    assert noise_of([1.0, 2.0]) is None
    assert noise_of([3.0 * 0.7**i for i in range(12)]) == pytest.approx(0.0, abs=0.02)
    wobble = [0.01 * math.sin(37.0 * i * i) for i in range(40)]
    flat = noise_of(wobble)
    assert flat == pytest.approx(0.0071, rel=0.4)
    assert noise_of([2.0 - 0.1 * i + x for i, x in enumerate(wobble)]) == pytest.approx(flat)
    assert noise_of([x + (5.0 if i == 20 else 0.0) for i, x in enumerate(wobble)]) == pytest.approx(flat, rel=0.3)


def test_noise_of_values_that_alternate() -> None:
    """Second differences say 4 steps over the square root of 6; third ones 8 over that of 20, which is no less."""
    five = [2.0, 2.01, 2.0, 2.01, 2.0]
    assert noise_of(five[:4]) is None
    assert noise_of(five) == pytest.approx(1.4826 * 0.02 / math.sqrt(6))
    assert noise_of(five * 4) == pytest.approx(1.4826 * 0.02 / math.sqrt(6))


@pytest.mark.parametrize(("wobble", "noise"), [(0.00135, 8 * 0.00135 / 20**0.5), (0.0014, 0.01 / 6**0.5)])
def test_noise_on_a_bend(wobble: float, noise: float) -> None:
    """A bend is in second differences, not in third ones: these count where they say less than 0.6 of the others."""
    values = [0.005 * i * i + wobble * (-1) ** i for i in range(12)]
    assert noise_of(values) == pytest.approx(1.4826 * noise)


@pytest.mark.parametrize(
    ("losses", "off", "steps"),
    [([0.0, 0.2, 0.3, 0.5, 0.2, 0.0], 0.15, 0.2), ([0.0, 0.2, 0.3, 0.4, 0.5, 0.2, 0.0], 0.2, 0.15)],
)
def test_noise_is_what_is_larger(losses: list[float], off: float, steps: float) -> None:
    """The median distance from the line, or that between neighbors over the root of two, as a standard deviation."""
    fit = fitted(losses)
    assert (fit.level, fit.slope) == (pytest.approx(0.2), pytest.approx(0.0))
    assert fit.noise == pytest.approx(1.4826 * off)
    assert fit.jitter == pytest.approx(1.4826 * steps / math.sqrt(2.0))


def test_the_second_farthest_point() -> None:
    """From the line through all of them: one odd point alone says nothing of how odd points are."""
    flat = [0.0] * 12
    assert second_farthest([*flat[:5], 0.9, *flat[6:]]) == pytest.approx(0.0)
    two_odd = [0.1 * i + {5: 0.9, 8: -0.4}.get(i, 0.0) for i in range(12)]
    assert second_farthest(two_odd) == pytest.approx(0.4)


def test_noise_of_few_points() -> None:
    """Up to fifteen, neighbours may correlate by 0.4, and 40 % are added; from sixteen on it shows whether they do."""
    zigzag = [0.01 * (-1) ** i for i in range(16)]
    plain = 1.4826 * 0.04 / math.sqrt(6.0)
    assert bent_noise(zigzag[:15]) == pytest.approx(1.4 * plain)
    assert bent_noise(zigzag) == pytest.approx(plain)


def test_noise_of_a_young_curve() -> None:
    """Of fewer than forty points the last twelve or twenty count, of forty all."""
    for points, quiet in ((39, True), (40, False)):
        losses = [2.5 + 0.05 * (-1) ** i * (i < points - 12) for i in range(points)]
        assert (curved_noise(losses) == limits.QUIET) is quiet
    for points, quiet in ((6, False), (8, True)):
        losses = [2.5 + 0.05 * (-1) ** i * (i < 30 - points) for i in range(30)]
        assert (curved_noise(losses) == limits.QUIET) is quiet


def test_a_young_curve_is_as_quiet_as_it_was_lately() -> None:
    """Of its last twelve points and its last twenty those that say less."""
    losses = [2.5 + e * (8.0 if i >= 23 else 1.0) for i, e in enumerate(noisy(30, 0.01, 5))]
    assert curved_noise(losses) == bent_noise(losses[-20:]) < bent_noise(losses[-12:])
