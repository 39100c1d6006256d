"""The whole run so far: how far its loss falls over a part of it, and how long it is to be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.window import Recent, median

__all__ = ["FittedLine", "expected_steps", "last_part", "line_through"]


class FittedLine(NamedTuple):
    """A straight line through equally spaced losses, in nats per token; a broken one drops in the middle.

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
    times = [i - 0.5 * (n - 1) for i in range(n)]
    sides = [math.copysign(0.5, time) if broken else 0.0 for time in times]
    tt, ts, ss = sum(t * t for t in times), sum(t * s for t, s in zip(times, sides, strict=True)), 0.5 * 0.5 * n
    rest = ss - ts * ts / tt  # of a drop that a slope cannot imitate
    free = n - 2 - broken  # residuals beyond what the line takes up
    used, off = list(values), list(values)
    mean = slope = jump = noise = 0.0
    for _ in range(limits.LINE_TURNS):
        mean, ty = sum(used) / n, sum(t * y for t, y in zip(times, used, strict=True))
        jump = (sum(s * y for s, y in zip(sides, used, strict=True)) - ts * ty / tt) / rest if broken else 0.0
        slope = (ty - jump * ts) / tt
        line = [mean + slope * t + jump * s for t, s in zip(times, sides, strict=True)]
        off = [value - at for value, at in zip(values, line, strict=True)]
        noise = max(limits.MAD_TO_SD * median([abs(one) for one in off]) * math.sqrt(n / free), limits.QUIET)
        most = limits.LINE_CLIP * noise
        off = [max(-most, min(most, one)) for one in off]
        used = [at + one for at, one in zip(line, off, strict=True)]
    squares = sum(one * one for one in off)
    # The median is a poor guide where values are few or rounded; the mean square is not.
    noise = max(noise, math.sqrt(squares / free))
    linked = sum(a * b for a, b in pairwise(off)) / squares if squares > 0.0 else 0.0
    linked = min(max(linked, 0.0), limits.LINE_LINKED)
    error = noise * math.sqrt((1 + linked) / (1 - linked)) * (n - 1) / math.sqrt(tt - ts * ts / ss)
    start = mean + slope * times[0] + jump * sides[0]
    return FittedLine(-slope * (n - 1), error, noise, start, n, -jump, noise / math.sqrt(rest) if broken else 0.0)


def last_part(
    window: Recent, blocks: Sequence[tuple[float, float | None]], share: float
) -> tuple[Sequence[float], float | None]:
    """The last ``share`` of the segment, as points where the window reaches that far back, else as blocks of it.

    Returns:
        Losses, oldest first, and the learning rate at their beginning.
    """
    points, levels = round(share * window.count), [*zip(window.losses, window.rates, strict=True)]
    if points > len(levels):
        points, levels = round(share * len(blocks)), [*blocks]
    part = levels[len(levels) - points :]
    return [loss for loss, _ in part], part[0][1] if part else None


def expected_steps(window: Recent) -> int | None:
    """The last step, as planned, or else where the learning rate will reach 0 if it goes on falling as it does.

    A cosine's tangent meets 0 later than the cosine does, so that the beginning of a run is at worst taken for longer.

    Returns:
        ``None`` where nothing tells, and the learning rate is not falling.
    """
    if window.planned_steps is not None:
        return window.planned_steps
    points = [(step, rate) for step, rate in zip(window.steps, window.rates, strict=True) if rate is not None][-2:]
    if len(points) < 2 or not 0.0 < points[1][1] < points[0][1]:
        return None
    (before, high), (step, low) = points
    return round(step + low * (step - before) / (high - low))
