"""Lines and steps through losses, oldest first and equally far apart, and how far off them a point is for no reason.

All levels and noises are in nats per token, slopes in nats per point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ko_cpt_callbacks.signal import limits

__all__ = [
    "Fit", "FittedLine", "LevelStep", "bent_noise", "curved_noise", "fitted", "gain_of", "line_through", "median",
    "noise_of", "second_farthest", "step_of",
]  # fmt: skip

Floats = npt.NDArray[np.float64]


def median(values: Sequence[float]) -> float:
    """The median of at least one value (``statistics.median`` takes ten times as long)."""
    ordered = sorted(values)
    n = len(ordered)
    return ordered[n // 2] if n % 2 else 0.5 * (ordered[n // 2 - 1] + ordered[n // 2])


def noise_of(values: Sequence[float]) -> float | None:
    """Standard deviation of one value of a smooth series, from the median of its absolute second differences.

    A trend, even a steep one, cancels, and a single outlier does not move the median. The bend of a falling loss does:
    third differences know less of it, and count where they say far less.

    Returns:
        ``None`` for fewer than five values.

    >>> noise_of([1.0, 2.0, 3.0, 4.0, 5.0])
    0.0
    """
    if len(values) < limits.EVAL_NOISE_VALUES + 2:
        return None
    noise, third = _bent(values, 1), np.abs(np.diff(np.diff(values, 2)))
    if len(third) >= limits.EVAL_NOISE_VALUES:
        bent = limits.MAD_TO_SD * median(third.tolist()) / limits.THIRD_DIFFERENCE
        noise = bent if bent < limits.EVAL_BENT * noise else noise
    return noise


def bent_noise(losses: Sequence[float]) -> float:
    """Standard deviation of one point, from second differences: slopes and bends of the curve are not in it.

    Between neighbors and, where there are enough points, between every fourth one, and the larger of the two: noise
    whose neighbors correlate by r shows in the first as sqrt(1 - 4 r / 3 + r^2 / 3) of itself only (0.65 at 0.5), in
    the second as 0.96. With too few points for the second, the first and 40 % (neighbors that correlate by 0.4).

    Args:
        losses: At least 3 points.
    """
    near = _bent(losses, 1)
    return max(near, _bent(losses, limits.FAR)) if len(losses) >= limits.FAR * limits.FAR else limits.CORRELATED * near


def curved_noise(losses: Sequence[float]) -> float:
    """`bent_noise` of the last 40 points; of a younger curve, whose first points bend most, of its very last ones.

    Args:
        losses: At least 3 points.
    """
    if len(losses) >= limits.STRAIGHT:
        return max(bent_noise(losses[-limits.STRAIGHT:]), limits.QUIET)
    return max(min(bent_noise(losses[-limits.STRAIGHT // 2 :]), bent_noise(losses[-limits.BENT_POINTS:])), limits.QUIET)


def _bent(losses: Sequence[float], lag: int) -> float:
    twice = [abs(a - 2.0 * b + c) for a, b, c in zip(losses, losses[lag:], losses[2 * lag :], strict=False)]
    return limits.MAD_TO_SD * median(twice) / limits.SECOND_DIFFERENCE


class Fit(NamedTuple):
    """A resistant line through some points: its level at the last one, and how far off they are.

    ``jitter``: standard deviation of one point from first differences; ``noise``: from those or from the residuals,
    whichever is larger.
    """

    level: float
    slope: float
    noise: float
    jitter: float


def fitted(losses: Sequence[float]) -> Fit:
    """The line through the medians of the first and the last third, and the noise around it.

    Args:
        losses: At least `limits.ENOUGH` points.
    """
    n = len(losses)
    third = n // limits.THIRDS
    slope = (median(losses[-third:]) - median(losses[:third])) / (n - third)
    flat = [loss - slope * i for i, loss in enumerate(losses)]
    start = median(flat)
    spread = limits.MAD_TO_SD * median([abs(value - start) for value in flat])
    jitter = max(limits.MAD_TO_SD * median([abs(b - a) for a, b in pairwise(flat)]) / math.sqrt(2.0), limits.QUIET)
    return Fit(start + slope * (n - 1), slope, max(spread, jitter), jitter)


def second_farthest(losses: Sequence[float]) -> float:
    """How far the second farthest of at least `limits.ENOUGH` points is from the line through them."""
    line = fitted(losses)
    return sorted(abs(line.level - line.slope * i - loss) for i, loss in enumerate(reversed(losses)))[-2]


class FittedLine(NamedTuple):
    """A straight line by least squares; a broken one drops in the middle.

    ``fall``: from the first point to the last; ``error``: its standard error; ``noise``: standard deviation of one
    point; ``start``: its value at the first point; ``drop``: beyond the fall, and its standard error.
    """

    fall: float
    error: float
    noise: float
    start: float
    points: int
    drop: float = 0.0
    drop_error: float = 0.0


def line_through(values: Sequence[float], *, broken: bool = False) -> FittedLine | None:
    """The line by least squares, outliers pulled in; the fall's error allows for neighbors that are alike.

    Args:
        values: Oldest first; an even number of them for a broken line.
        broken: Whether the level may drop in the middle, where the slope stays.

    Returns:
        ``None`` for too few.
    """
    n = len(values)
    if n < limits.LINE_LEAST:
        return None
    given, times = np.array(values), np.arange(n) - 0.5 * (n - 1)
    columns = np.column_stack([np.ones(n), times, np.copysign(0.5, times)][: 2 + broken])
    solved = np.linalg.solve(columns.T @ columns, columns.T)
    errors = np.sqrt((solved**2).sum(1))  # of what is solved for, in noises
    free = n - len(solved)  # residuals beyond what the line takes up
    used, noise = given, 0.0
    for _ in range(limits.LINE_TURNS):
        found = solved @ used
        line = columns @ found
        off = given - line
        noise = max(limits.MAD_TO_SD * median(np.abs(off).tolist()) * math.sqrt(n / free), limits.QUIET)
        off = off.clip(-limits.LINE_CLIP * noise, limits.LINE_CLIP * noise)
        used = line + off
    squares = float(off @ off)
    # The median is a poor guide where values are few or rounded; the mean square is not.
    noise = max(noise, math.sqrt(squares / free))
    linked = float(off[1:] @ off[:-1]) / squares if squares > np.finfo(float).eps else 0.0
    linked = min(max(linked, 0.0), limits.LINE_LINKED)
    error = noise * math.sqrt((1 + linked) / (1 - linked)) * (n - 1) * float(errors[1])
    drop, drop_error = (-float(found[2]), noise * float(errors[2])) if broken else (0.0, 0.0)
    return FittedLine(-float(found[1]) * (n - 1), error, noise, float(line[0]), n, drop, drop_error)


class LevelStep(NamedTuple):
    """Two lines, one before and one after a place, each of its own slope.

    Args:
        before: Where the line before is at the first point after.
        size: How far the line after is from that, nats; below 0 where it goes down.
        error: Standard error of the size.
        slope: Of the line before.
        bend: By how much the slope after is larger.
    """

    before: float
    size: float
    error: float
    slope: float
    bend: float


def step_of(values: Sequence[float], count: int, noise: float) -> LevelStep:
    """The step ``count`` points before the end.

    Args:
        values: Losses, at least three on either side; one point between the sides is left out, because a step may come
            within a logging window.
        count: Points after the step.
        noise: Standard deviation of one point.
    """
    before, after = values[: -count - 1], values[-count:]
    (level, slope, off), (start, later, less) = _line(before, len(before) + 1.0), _line(after, 0.0)
    return LevelStep(level, start - level, noise * (off + less) ** 0.5, slope, later - slope)


def _line(points: Sequence[float], at: float) -> tuple[float, float, float]:
    """A least-squares line: its value at a place, its slope, and the value's variance in variances of a point."""
    n = len(points)
    middle, mean = 0.5 * (n - 1), sum(points) / n
    spread = sum((i - middle) ** 2 for i in range(n))
    slope = sum((i - middle) * point for i, point in enumerate(points)) / spread
    return mean + slope * (at - middle), slope, 1.0 / n + (at - middle) ** 2 / spread


def gain_of(values: Sequence[float], count: int, noise: float) -> float:
    """By how much better a step fits than any ramp of more points does, or any curve, in squared noises.

    A step with a bend is compared with ramps with one (`limits.RAMPS`), a step on a parabola with a cubic. A point that
    is far off counts as `limits.FAR_OFF` noises for either.

    Args:
        values: As for `step_of`.
        count: Likewise.
        noise: Likewise.
    """
    given, places = np.array(values), np.arange(len(values)) - 0.5 * len(values)
    ones, squares, at = np.ones(len(values)), places**2, 0.5 * len(values) - count

    def cost(*columns: Any) -> float:
        """Squared noises that a least-squares fit leaves."""
        fit = np.column_stack([ones, places, *columns])
        off = (given - fit @ np.linalg.lstsq(fit, given, rcond=None)[0]) / noise
        return float(np.minimum(off**2, limits.FAR_OFF**2).sum())

    def ramp(middle: float, points: float) -> Floats:
        return ((places - middle) / points + 0.5).clip(0.0, 1.0)

    def bent(middle: float, points: float) -> float:
        return cost((places - middle).clip(0.0), ramp(middle, points))

    steps = ((at - 0.5, 1.0), (at - 1.0, 2.0), (at - 1 - 0.5, 1.0))
    ramps = [(at + aside, points) for points in limits.RAMPS for aside in (-2.0, -0.5, 1.0)]
    straight, curved = min(bent(*step) for step in steps), min(cost(squares, ramp(*step)) for step in steps)
    return min(min(bent(*one) for one in ramps) - straight, cost(squares, places * squares) - curved)
