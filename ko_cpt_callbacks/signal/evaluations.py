"""The evaluations of every set in their order, each beside the training since the one before it.

What may be compared is kept apart: a series begins anew at a seam (`ko_cpt_callbacks.signal.window`), where the loss
becomes exact or stops being so, where other rows are evaluated (`ko_cpt_callbacks.core.same_rows`), and where steps go
back. A loss that is not
finite, or has a batch that is not, is no evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from ko_cpt_callbacks.core.observation import EvalObservation
from ko_cpt_callbacks.core.progress import EvalPoint
from ko_cpt_callbacks.core.same_rows import NO_ROWS, EvalRows
from ko_cpt_callbacks.signal.window import Recent, median

__all__ = ["EARLY", "KEPT", "NEAR", "Evaluations", "Mark", "Series", "noise_of"]

KEPT: Final = 40
"""Evaluations of a set that are kept beside the first and the best; older ones are forgotten. Chosen, not measured."""
EARLY: Final = 8
"""Gaps of the beginning that are kept. Chosen, not measured."""
NEAR: Final = 8
"""Training points that make the level at an evaluation, at most. Chosen, not measured."""
FALLEN: Final = 0.003
"""Share of its level that an evaluation falls by, or has not fallen; twice that where its rows are not known to be the
same. Chosen: as `no-learning` has it of training."""
SAME_ERRORS: Final = 0.7
"""And so many joint standard errors of two evaluations of the same rows, which differ by far less than the errors say
(by less than a third of one, see `overfitting`). Chosen, not measured."""
OTHER_ERRORS: Final = 3.0
"""Of rows that are not known to be the same. Chosen, not measured."""
_NOISE_FROM: Final = 3  # second differences
_MAD_TO_SD: Final = 1.4826  # for normal noise
_BENT: Final = 0.6
"""Share of the one estimate that the other is below where the series bends; without a bend it is so by chance in 7 % of
series of 8 values and in 1 % of 20 (simulated)."""
# SD of second and third differences of independent noise of SD 1.
_SECOND: Final = math.sqrt(6.0)
_THIRD: Final = math.sqrt(20.0)


@dataclass(frozen=True, slots=True)
class Mark:
    """One evaluation.

    Args:
        step: Optimizer step.
        value: Loss, nats per token.
        se: Standard error of an exact loss.
        points: Training points since the evaluation of the set before it (since the start, for the first).
        train: Their mean, nats per token; ``None`` where there is none.
        near: Median of the last of them, at most eight.
        noise: Standard deviation of one training point.
        gap: This evaluation and the one before it, their mean, less ``train``: both are then means over the same
            interval. A single evaluation lies at the interval's end, where a falling loss is lower, so that its gap
            would widen as the fall slows down. ``None`` for the first evaluation.
        rate: Learning rate.
        total: Training points and their sum since the start, for the next mark.
    """

    step: int
    value: float
    se: float | None = None
    points: int = 0
    train: float | None = None
    near: float | None = None
    noise: float | None = None
    gap: float | None = None
    rate: float | None = None
    total: tuple[int, float] = (0, 0.0)


@dataclass(frozen=True, slots=True)
class Series:
    """The evaluations of one set that may be compared with each other.

    Args:
        metric: ``exact_loss`` or ``loss``.
        count: How many.
        first: The first.
        best: The lowest.
        marks: The last `KEPT`, oldest first.
        gaps: The first `EARLY` gaps.
        rows: Which rows.
    """

    metric: str
    count: int
    first: Mark
    best: Mark
    marks: tuple[Mark, ...]
    gaps: tuple[float, ...] = ()
    rows: EvalRows = NO_ROWS

    @property
    def last(self) -> Mark:
        """The last evaluation."""
        return self.marks[-1]

    @property
    def noise(self) -> float | None:
        """How far an evaluation lies off for no reason; see `noise_of`."""
        return noise_of([mark.value for mark in self.marks])

    def improves(self, since: int, level: float) -> bool:
        """Whether the last evaluation is the best of all, surely below those before, with training high beside it.

        It explains a training loss that is above its lowest: the model gets better, so what it is trained on is harder,
        as where a stage begins rows again that the one before had learned.

        Args:
            since: Step of the lowest training loss.
            level: Nats per token at which the training points beside the evaluation have to be: one from before the
                loss rose, or rose as far as now, explains nothing.
        """
        last = self.last
        if last.step <= since or last != self.best or last.near is None or last.near < level:
            return False
        earlier = [mark for mark in self.marks[:-1] if mark.step <= since] or [self.marks[0]]
        return earlier[-1] is not last and self.fell(earlier[-1], last)

    def fell(self, then: Mark, now: Mark) -> bool:
        """Whether the loss fell from one evaluation to another by more than chance explains.

        By more than a share of its level, and where the rows are known to be the same, of which both errors are the
        same, by more than one standard error; where they are not, by more than several.
        """
        errors, share = (SAME_ERRORS, FALLEN) if self.rows.alike else (OTHER_ERRORS, 2.0 * FALLEN)
        fall, least = then.value - now.value, share * abs(now.value)
        return fall > max(least, errors * math.hypot(then.se or 0.0, now.se or 0.0))

    def then(self, mark: Mark, rows: EvalRows) -> Series:
        """The series after one more evaluation."""
        gaps = self.gaps
        if mark.train is not None:
            mark = replace(mark, gap=0.5 * (self.last.value + mark.value) - mark.train)
            gaps = (*gaps, mark.gap)[:EARLY] if mark.gap is not None else gaps
        best = mark if mark.value < self.best.value else self.best
        marks = (*self.marks, mark)[-KEPT:]
        return Series(self.metric, self.count + 1, self.first, best, marks, gaps, rows)


@dataclass(frozen=True, slots=True)
class Evaluations:
    """The series of every set.

    Args:
        sets: By prefix.
        now: The series of the set that the last row evaluated; ``None`` where that was no evaluation that counts.
        total: Training points of the segment so far, and the sum of their losses.
    """

    sets: Mapping[str, Series] = field(default_factory=dict)
    now: Series | None = None
    total: tuple[int, float] = (0, 0.0)

    def trained(self, window: Recent) -> Evaluations:
        """The series after a training row; a seam begins them anew."""
        points, total = self.total
        if window.seam:
            return Evaluations(total=(1, window.losses[-1])) if window.grew else Evaluations()
        if window.grew:
            return Evaluations(self.sets, None, (points + 1, total + window.losses[-1]))
        return self if self.now is None else replace(self, now=None)

    def evaluated(self, seen: EvalObservation, window: Recent) -> Evaluations:
        """The series after an evaluation."""
        point = EvalPoint.of(seen)
        if point is None or point.value is None or not point.finite:
            return self if self.now is None else replace(self, now=None)
        base = self.sets.get(seen.split)
        rows = (NO_ROWS if base is None else base.rows).add(seen)
        known = base
        if base is not None and (base.metric != point.metric or base.last.step > seen.step or rows.anew):
            known = None
        mark = self._mark(point, (0, 0.0) if known is None else known.last.total, window)
        series = Series(point.metric, 1, mark, mark, (mark,), rows=rows) if known is None else known.then(mark, rows)
        return Evaluations({**self.sets, seen.split: series}, series, self.total)

    def _mark(self, point: EvalPoint, since: tuple[int, float], window: Recent) -> Mark:
        points = self.total[0] - since[0]
        train = (self.total[1] - since[1]) / points if points > 0 else None
        near = window.losses[-min(points, NEAR) :] if points > 0 else ()
        return Mark(
            point.step, point.value or 0.0, point.se, max(points, 0), train, median(near) if near else None,
            window.noise, None, window.rates[-1] if window.rates else None, self.total,
        )  # fmt: skip


def noise_of(values: Sequence[float]) -> float | None:
    """Standard deviation of one value of a smooth series, from the median of its absolute second differences.

    A trend, even a steep one, cancels, and a single outlier does not move the median. The bend of a falling loss does:
    third differences know less of it, and count where they say far less.

    Returns:
        ``None`` for fewer than five values.

    >>> noise_of([1.0, 2.0, 3.0, 4.0, 5.0])
    0.0
    """
    second = [a - 2.0 * b + c for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    if len(second) < _NOISE_FROM:
        return None
    noise = median([abs(one) for one in second]) / _SECOND
    third = [b - a for a, b in pairwise(second)]
    if len(third) >= _NOISE_FROM:
        bent = median([abs(one) for one in third]) / _THIRD
        noise = bent if bent < _BENT * noise else noise
    return _MAD_TO_SD * noise
