"""The evaluations of every set in their order, each beside the training since the one before it.

A series begins anew at a seam, where the loss becomes exact or stops being so, where other rows are evaluated
(`ko_cpt_callbacks.run.fold`), where steps go back, and where the evaluation alone is at another level from one
time to the next and stays there: other rows again, in a log that has no fingerprints. A loss that is not finite, or has
a batch that is not, is no evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from ko_cpt_callbacks.run.fold import NO_ROWS, EvalRows
from ko_cpt_callbacks.run.observation import EvalObservation
from ko_cpt_callbacks.run.progress import EvalPoint
from ko_cpt_callbacks.run.retention import is_retention
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.fit import line_through, median, noise_of
from ko_cpt_callbacks.signal.window import Recent

__all__ = ["Evaluations", "Mark", "Series"]


@dataclass(frozen=True, slots=True)
class Mark:
    """One evaluation: its loss in nats per token, and the standard error of an exact one.

    ``points``: training points since the evaluation of the set before it, or the start; ``train``: their mean,
    ``near``: the median of the last of them, ``noise``: standard deviation of one; ``rate``: learning rate; ``total``:
    training points and their sum since the start. ``gap``: the mean of this evaluation and the one before it, less
    ``train``, so that both are of the same interval: the end of an interval alone is lower, the more a loss falls.
    """

    step: int
    value: float
    se: float | None = None
    points: int = 0
    train: float | None = None
    near: float | None = None
    noise: float | None = None
    rate: float | None = None
    total: tuple[int, float] = (0, 0.0)
    gap: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """The evaluations of one set that may be compared with each other.

    ``metric``: ``exact_loss`` or ``loss``; ``marks``: the last ones, oldest first; ``gaps``: the first ones; ``waits``:
    the last may be of another level, which the next one tells; ``left``: the last of another level, where the series
    began for that.
    """

    metric: str
    count: int
    first: Mark
    best: Mark
    marks: tuple[Mark, ...]
    gaps: tuple[float, ...] = ()
    rows: EvalRows = NO_ROWS
    waits: bool = False
    left: Mark | None = None

    @property
    def last(self) -> Mark:
        """The last evaluation."""
        return self.marks[-1]

    @property
    def swapped(self) -> bool:
        """Whether the last evaluation showed that the one before it was the first of another level."""
        return self.left is not None and self.count == 2

    @property
    def noise(self) -> float | None:
        """How far an evaluation lies off for no reason; see `noise_of`."""
        return noise_of([mark.value for mark in self.marks])

    def improves(self, since: int, level: float) -> bool:
        """Whether the last evaluation is the best of all, surely below those before, with training high beside it.

        It explains a training loss above its lowest, of step ``since``: what the model is trained on is harder. The
        points beside the evaluation have to be at ``level``: one from before the loss rose explains nothing.
        """
        last = self.last
        if last.step <= since or last != self.best or last.near is None or last.near < level:
            return False
        earlier = [mark for mark in self.marks[:-1] if mark.step <= since] or [self.marks[0]]
        return self.fell(earlier[-1], last)

    def fell(self, then: Mark, now: Mark) -> bool:
        """Whether the loss fell from one evaluation to another by more than its level and their errors explain."""
        errors, times = (limits.EVAL_SAME_ERRORS, 1) if self.rows.alike else (limits.EVAL_OTHER_ERRORS, 2)
        least = times * limits.EVAL_FALLEN * abs(now.value)
        return then.value - now.value > max(least, errors * math.hypot(then.se or 0.0, now.se or 0.0))

    def falls(self) -> bool:
        """Whether a line through the evaluations falls; of few, whether the last is below the first, or each lower."""
        values = [mark.value for mark in self.marks]
        least, line = limits.EVAL_FALLEN * abs(values[-1]), line_through(values)
        if line is not None:
            return line.fall > max(limits.EVAL_LINE_ERRORS * line.error, 2 * least)
        lower = len(values) > 2 and self.rows.alike and all(b < a for a, b in pairwise(values))
        return self.fell(self.first, self.last) or (lower and values[0] - values[-1] > least)

    def then(self, mark: Mark, rows: EvalRows, *, alone: bool) -> Series:
        """The series after one more evaluation; ``alone``: a level of its own is one of other rows, not forgotten."""
        if mark.train is not None:
            mark = replace(mark, gap=0.5 * (self.last.value + mark.value) - mark.train)
        new = () if mark.gap is None else (mark.gap,)
        best = mark if mark.value < self.best.value else self.best
        if self.waits:
            before, first = self.marks[-2:]
            size = first.value - before.value
            if abs(mark.value - first.value) <= limits.JUMP_STAYS * abs(size) and _alone(before, mark, size):
                first = replace(first, gap=None)
                best = mark if mark.value < first.value else first
                return Series(self.metric, 2, first, best, (first, mark), new, rows, left=before)
        return Series(
            self.metric, self.count + 1, self.first, best, (*self.marks, mark)[-limits.EVAL_KEPT :],
            (*self.gaps, *new)[: limits.EVAL_EARLY], rows, alone and not rows.known and self._jumps(mark), self.left,
        )  # fmt: skip

    def _jumps(self, mark: Mark) -> bool:
        """Whether an evaluation is farther from the one before than any two were, and training stayed."""
        last, lately = self.last, self.marks[-limits.JUMP_LOOK :]
        if len(lately) < limits.JUMP_BEFORE:
            return False
        size = mark.value - last.value
        usual = limits.JUMP_TIMES * max(abs(b.value - a.value) for a, b in pairwise(lately))
        errors = limits.JUMP_ERRORS * max(last.se or 0.0, mark.se or 0.0)
        return abs(size) > max(usual, errors, limits.JUMP_SHARE * abs(last.value)) and _alone(last, mark, size)


def _alone(before: Mark, mark: Mark, size: float) -> bool:
    """Whether training is known to have stayed beside a change between two evaluations, neither falling as it rose."""
    known = before.near is not None and mark.near is not None
    return known and abs((mark.near or 0.0) - (before.near or 0.0)) < limits.JUMP_TRAIN * abs(size)


@dataclass(frozen=True, slots=True)
class Evaluations:
    """The series of every set, by prefix."""

    sets: Mapping[str, Series] = field(default_factory=dict)
    now: Series | None = None
    """The series of the set that the last row evaluated; ``None`` where that was no evaluation that counts as yet."""

    def trained(self, window: Recent) -> Evaluations:
        """The series after a training row; a seam begins them anew."""
        if window.seam:
            return Evaluations()
        return self if self.now is None else replace(self, now=None)

    def evaluated(self, seen: EvalObservation, window: Recent, total: float) -> Evaluations:
        """The series after an evaluation; ``total``: the sum of all training losses since the last seam."""
        point = EvalPoint.of(seen)
        if point is None or point.value is None or not point.finite:
            return self if self.now is None else replace(self, now=None)
        known = self.sets.get(seen.split)
        rows = (NO_ROWS if known is None else known.rows).add(seen)
        if known is not None and (known.metric != point.metric or known.last.step > seen.step or rows.anew):
            known = None
        mark = _mark(point, (0, 0.0) if known is None else known.last.total, window, total)
        if known is None:
            series = Series(point.metric, 1, mark, mark, (mark,), rows=rows)
        else:
            series = known.then(mark, rows, alone=not is_retention(seen.split, ()))
        return Evaluations({**self.sets, seen.split: series}, None if series.waits else series)


def _mark(point: EvalPoint, since: tuple[int, float], window: Recent, total: float) -> Mark:
    points = window.count - since[0]
    near = window.losses[-min(points, limits.EVAL_NEAR) :] if points > 0 else ()
    return Mark(
        point.step, point.value or 0.0, point.se, points, (total - since[1]) / points if points > 0 else None,
        median(near) if near else None, window.noise, window.rates[-1] if window.rates else None, (window.count, total),
    )  # fmt: skip
