"""Whether the loss went from one level to another at once, or along a curve: a step is fitted beside what is none."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

from ko_cpt_callbacks.signal import limits

__all__ = ["LevelStep", "gain_of", "step_of"]


class LevelStep(NamedTuple):
    """Two lines, one before and one after a place, each of its own slope.

    Args:
        before: Where the line before is at the first point after.
        size: How far the line after is from that, nats; below 0 where it goes down.
        error: Standard error of the size.
        slope: Of the line before, nats per point.
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
        values: Losses, oldest first, at least three on either side; one point between the sides is left out, because
            a step may come within a logging window.
        count: Points after the step.
        noise: Standard deviation of one point.
    """
    before, after = values[: -count - 1], values[-count:]
    (level, slope, off), (start, later, less) = _line(before, len(before) + 1.0), _line(after, 0.0)
    return LevelStep(level, start - level, noise * (off + less) ** 0.5, slope, later - slope)


def gain_of(values: Sequence[float], count: int, noise: float) -> float:
    """By how much better a step fits than any ramp of more points does, or any curve, in squared noises.

    A step with a bend is compared with ramps with one (`limits.RAMPS`), a step on a parabola with a cubic. A point that
    is far off counts as `limits.FAR_OFF` noises for either.

    Args:
        values: As for `step_of`.
        count: Likewise.
        noise: Likewise.
    """
    n, most = len(values), (limits.FAR_OFF * noise) ** 2
    places, ones = [i - 0.5 * n for i in range(n)], [1.0] * n
    squares, at = [x * x for x in places], n - count

    def ramp(middle: float, points: float) -> list[float]:
        return [min(max((i - middle) / points + 0.5, 0.0), 1.0) for i in range(n)]

    def bent(middle: float, points: float) -> float:
        return _cost((ones, places, [max(i - middle, 0.0) for i in range(n)], ramp(middle, points)), values, most)

    steps = ((at - 0.5, 1.0), (at - 1.0, 2.0), (at - 1 - 0.5, 1.0))
    straight = min(bent(*step) for step in steps)
    curved = min(_cost((ones, places, squares, ramp(*step)), values, most) for step in steps)
    ramps = min(bent(at + aside, points) for points in limits.RAMPS for aside in (-2.0, -0.5, 1.0))
    cubic = _cost((ones, places, squares, list(map(mul, squares, places))), values, most)
    return min(ramps - straight, cubic - curved) / noise**2


def _line(points: Sequence[float], at: float) -> tuple[float, float, float]:
    """A least-squares line: its value at a place, its slope, and the value's variance in variances of a point."""
    n = len(points)
    middle, mean = 0.5 * (n - 1), sum(points) / n
    spread = sum((i - middle) ** 2 for i in range(n))
    slope = sum((i - middle) * point for i, point in enumerate(points)) / spread
    return mean + slope * (at - middle), slope, 1.0 / n + (at - middle) ** 2 / spread


def _cost(columns: Sequence[list[float]], values: Sequence[float], most: float) -> float:
    """Squares that a least-squares fit leaves, each ``most`` at the most."""
    rest, done = list(values), list[tuple[list[float], float]]()
    for column in columns:
        for other, length in done:
            part = sum(map(mul, column, other)) / length
            column = [x - part * y for x, y in zip(column, other, strict=True)]
        length = sum(map(mul, column, column))
        if length > sys.float_info.epsilon:  # else it is a sum of the others
            part = sum(map(mul, rest, column)) / length
            rest = [x - part * y for x, y in zip(rest, column, strict=True)]
            done.append((column, length))
    return sum(min(x * x, most) for x in rest)
