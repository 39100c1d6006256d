"""The evaluations of every set in their order, each beside the training since the one before it.

How a rule uses it::

    @dataclass(frozen=True, slots=True)
    class MyState:
        series: Evaluations = NOTHING

    def step(self, state, seen):
        series = state.series.add(seen)         # every observation
        now = series.new(state.series, seen)    # the set's series, where this row is an evaluation that counts
        ...
        return replace(state, series=series), findings

What may be compared is kept apart: a series begins anew at a seam (`ko_cpt_callbacks.signal.window`), where the loss
becomes exact or stops being so, where other rows are evaluated (`ko_cpt_callbacks.core.same_rows`), and where steps go
back. A loss that is not
finite, or has a batch that is not, is no evaluation. A repeat of the last step replaces it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from ko_cpt_callbacks.core.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.core.progress import EvalPoint
from ko_cpt_callbacks.core.same_rows import NO_ROWS, EvalRows
from ko_cpt_callbacks.signal.window import EMPTY, Recent, median, usable

__all__ = ["EARLY", "KEPT", "NEAR", "NOTHING", "Evaluations", "Mark", "Series", "noise_of"]

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
class Totals:
    """Training points of the segment so far, and their sum; ``before`` is without the last, which a repeat replaces."""

    points: int = 0
    total: float = 0.0
    step: int | None = None
    before: tuple[int, float] = (0, 0.0)

    def add(self, step: int, loss: float | None) -> Totals:
        """The totals after a training row; None where its loss is no level."""
        points, total = self.before if step == self.step else (self.points, self.total)
        if loss is None:
            return Totals(points, total, step, (points, total))
        return Totals(points + 1, total + loss, step, (points, total))


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
        before: Without the last, which a repeat replaces.
        rows: Which rows.
    """

    metric: str
    count: int
    first: Mark
    best: Mark
    marks: tuple[Mark, ...]
    gaps: tuple[float, ...] = ()
    before: Series | None = None
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
        return Series(
            self.metric, self.count + 1, self.first, best, marks, gaps, replace(self, before=None), rows,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Evaluations:
    """The series of every set, and the recent training points."""

    recent: Recent = EMPTY
    totals: Totals = Totals()
    sets: Mapping[str, Series] = field(default_factory=dict)

    def add(self, seen: Observation) -> Evaluations:
        """The series after an observation; remembers its last call, as `Recent.add` does, and for the same reason."""
        global _last
        given, row, answer = _last
        if given is self and row is seen and answer is not None:
            return answer
        after = self._add(seen)
        _last = (self, seen, after)
        return after

    def _add(self, seen: Observation) -> Evaluations:
        recent = self.recent.add(seen)
        if isinstance(seen, TrainObservation):
            level = seen.loss if usable(seen) else None
            if recent.segment != self.recent.segment:
                return Evaluations(recent, Totals().add(seen.step, level), {})
            return Evaluations(recent, self.totals.add(seen.step, level), self.sets)
        if isinstance(seen, EvalObservation):
            return self._evaluated(seen)
        return self if recent is self.recent else replace(self, recent=recent)

    def new(self, before: Evaluations, seen: Observation) -> Series | None:
        """The series of the set that ``seen`` evaluated; ``None`` where it is no evaluation that counts."""
        if not isinstance(seen, EvalObservation):
            return None
        series = self.sets.get(seen.split)
        return None if series is before.sets.get(seen.split) else series

    def _evaluated(self, seen: EvalObservation) -> Evaluations:
        point = EvalPoint.of(seen)
        if point is None or point.value is None or not point.finite:
            return self
        base = self.sets.get(seen.split)
        if base is not None and base.last.step == seen.step:
            base = base.before
        rows = (NO_ROWS if base is None else base.rows).add(seen)
        known = base
        if base is not None and (base.metric != point.metric or base.last.step > seen.step or rows.anew):
            known = None
        mark = self._mark(point, (0, 0.0) if known is None else known.last.total)
        if known is None:
            before = None if base is None else replace(base, before=None)
            series = Series(point.metric, 1, mark, mark, (mark,), before=before, rows=rows)
        else:
            series = known.then(mark, rows)
        return replace(self, sets={**self.sets, seen.split: series})

    def _mark(self, point: EvalPoint, since: tuple[int, float]) -> Mark:
        totals = self.totals
        points = totals.points - since[0]
        train = (totals.total - since[1]) / points if points > 0 else None
        near = self.recent.losses[-min(points, NEAR) :] if points > 0 else ()
        return Mark(
            point.step, point.value or 0.0, point.se, max(points, 0), train, median(near) if near else None,
            self.recent.noise, None, self.recent.rates[-1] if self.recent.rates else None,
            (totals.points, totals.total),
        )  # fmt: skip


NOTHING: Final = Evaluations()
"""Where every rule starts."""

_last: tuple[Evaluations | None, Observation | None, Evaluations | None] = (None, None, None)
# The last call of `Evaluations.add`; see `ko_cpt_callbacks.signal.window`.


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
