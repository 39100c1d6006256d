"""A curve as a chart draws it: few enough points for any length of run, its extremes kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final, TypeAlias

__all__ = ["Line", "Point", "thinned"]

COLUMNS: Final = 700
"""Columns into which a curve is cut: about the pixels that a chart is wide. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a step.

    Args:
        x: Optimizer step, of a staged training counted through.
        y: The value; None where it was NaN or infinite.
        error: Its standard error, same unit; None where it has none.
        ends: Its interval, where that does not follow from an error.
    """

    x: int
    y: float | None
    error: float | None = None
    ends: tuple[float, float] | None = None


Segment: TypeAlias = tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve.

    Args:
        name: As the legend has it.
        segments: Its points, cut where two neighbors are not joined: between two stages.
        color: Number of its color, from 0.
        style: ``line``, ``thin`` (a noisy curve behind others), ``dashed`` or ``forecast``.
    """

    name: str
    segments: tuple[Segment, ...]
    color: int = 0
    style: str = "line"

    @property
    def points(self) -> Segment:
        """All its points."""
        return tuple(point for segment in self.segments for point in segment)

    @property
    def values(self) -> list[float]:
        """Those that are numbers."""
        return [point.y for point in self.points if point.y is not None]

    def pieces(self) -> Iterator[Segment]:
        """What is drawn without a break: the numbers between two that are none."""
        for segment in self.segments:
            for number, run in groupby(segment, lambda point: point.y is not None):
                if number:
                    yield tuple(run)

    def thin(self, start: int, end: int) -> Line:
        """The same curve with no more than four numbers and one that is none in each of `COLUMNS` columns."""
        return replace(self, segments=tuple(thinned(segment, start, end) for segment in self.segments))


def thinned(points: Sequence[Point], start: int, end: int, columns: int = COLUMNS) -> Segment:
    """The first, the lowest, the highest and the last point of every column, in their order.

    M4 (Jugel, Jerzak, Hackenbroich, Markl: "M4: A Visualization-Oriented Time Series Data Aggregation", VLDB 2014): a
    line through these four covers the pixels that the whole curve covers. The first value of a column that is no
    number is kept too.

    Args:
        points: By step.
        start: First step of the chart.
        end: Its last step.
        columns: How many.

    >>> [point.x for point in thinned([Point(x, abs(x - 7.0)) for x in range(100)], 0, 99, 2)]
    [0, 7, 49, 50, 99]
    """
    if len(points) <= 4 * columns:
        return tuple(points)
    width = max(end - start, 1) / columns
    kept: list[Point] = []
    for _, column in groupby(points, lambda point: min(int((point.x - start) / width), columns - 1)):
        kept.extend(_four(list(column)))
    return tuple(kept)


def _four(column: Sequence[Point]) -> Iterable[Point]:
    values = [math.nan if point.y is None else point.y for point in column]
    numbers = [at for at, value in enumerate(values) if math.isfinite(value)]
    lost = next((at for at, point in enumerate(column) if point.y is None), None)
    if not numbers:
        return column[:1]
    low, high = (choose(numbers, key=lambda at: values[at]) for choose in (min, max))
    chosen = {numbers[0], low, high, numbers[-1]} | (set() if lost is None else {lost})
    return [column[at] for at in sorted(chosen)]
