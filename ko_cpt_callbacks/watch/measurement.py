"""One evaluation measured against one target: value, interval and bound on a scale where errors are symmetric.

How sure a target is met, however many evaluations were looked at: the part of their error that moves is paid for.

The error of an evaluation has a part that all evaluations of the same rows share, the choice of these documents, and a
part that moves with the weights. Looking again at the shared part is no new chance. One evaluation is below its bound
by luck with probability a = (1 - confidence) / 2; all later ones together may add as much again, so that a target whose
bound the loss only reaches is ever called met with probability 1 - confidence at most (`benchmarks/stopping.py`).

**The same rows each time.** Two errors e, f of correlation r, in units of their standard errors, are an angle
t = arccos(r) apart, and f is beyond a critical value c where e was not with probability

    P(f > c, e <= c) = 1/(2 pi) * integral from 0 to t of exp(-c^2 / (1 + cos u)) du  <=  t / (2 pi) * exp(-c^2 / 2)

(Sheppard's formula of the bivariate normal; a step of Rice's count of level crossings, 1944). Summed over the
evaluations, with T the sum of their angles, this stays below a where exp(-c^2 / 2) / (2 pi) falls with T as
a * b / (b + T)^2; b is what makes c the ordinary z at T = 0. So the first evaluation near the bound has the ordinary
interval, and the later ones a wider one by as much as the weights have moved the rows. Angles add up at most (the
triangle's inequality on a sphere), so an evaluation far above the bound is passed over and its angle kept. Where the
row does not say how far the errors moved, they count as independent: a quarter turn.

**Other rows each time** (a set that is drawn anew). The evaluations are pooled as if they were one: S sums their
differences from the bound times their tokens (bytes, for bits per byte), V the squares of these tokens times se. Then
|S| stays below the two-sided normal-mixture boundary (Robbins 1970; Howard, Ramdas, McAuliffe and Sekhon 2021, Annals
of Statistics 49:1055, proposition 5)

    sqrt((V + v) * log((V + v) / (v * (2 a)^2)))

at all V at once. Weights by 1 / se^2 would lean to one side: a low loss has a small error. Where S is above the
boundary the target was surely not met so far, and the sequence begins anew: a loss that falls is not held back by its
own past.

A change of rows begins anew too. Its first evaluation decides at the deadline only: with the second one it shows
whether these are the rows from now on, or whether the set is drawn each time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.metrics.perplexity import interval, perplexity
from ko_cpt_callbacks.run.fold import EvalRows
from ko_cpt_callbacks.run.observation import EvalObservation, Level, finite_error, level_of
from ko_cpt_callbacks.watch.target import Target

__all__ = [
    "NO_LOOKS", "Looks", "MeasuredLevel", "angle", "critical_value", "measure", "mixture_boundary", "rows_needed",
    "shown", "unit",
]  # fmt: skip

_NEAR: Final = 4.0
"""Standard errors above the bound from which an evaluation is an occasion for chance. Chosen, not measured: beyond them
chance meets a target once in 500,000 evaluations."""
_PRIOR: Final = 4.0
"""The mixture's v over the first evaluation's V: narrowest at about 30 evaluations of one size. Chosen, then measured
in `benchmarks/stopping.py`; a factor of two makes little difference (Howard et al. 2021, section 3.5)."""
_QUARTER: Final = math.pi / 2.0


def angle(before: float | None, now: float | None, change: float | None) -> float:
    """How far the error of an evaluation has moved since the one before, as an angle: 0 to a quarter turn.

    Args:
        before: Standard error of the evaluation before, nats per token.
        now: Standard error of this one.
        change: Standard error of their difference on the same rows. Any of them ``None``, or 0: not known.

    >>> angle(0.03, 0.03, 0.0), round(angle(0.03, 0.03, 0.003), 3), angle(0.03, 0.03, None) == math.pi / 2
    (0.0, 0.1, True)
    """
    if change is None or not before or not now:
        return _QUARTER
    cosine = (before / now + now / before - (change / before) * (change / now)) / 2.0  # tiny errors have no squares
    return math.acos(min(max(cosine, 0.0), 1.0)) if math.isfinite(cosine) else _QUARTER


def critical_value(confidence: float, turned: float) -> float:
    """Standard errors of an interval that holds at every evaluation, after errors have turned by so much.

    >>> round(critical_value(0.95, 0.0), 3), round(critical_value(0.95, 1.0), 3)
    (1.96, 2.545)
    """
    tail = (1.0 - confidence) / 2.0
    ordinary = NormalDist().inv_cdf(1.0 - tail)
    rate = math.exp(-ordinary * ordinary / 2.0) / (2.0 * math.pi)
    scale = tail / rate
    return math.sqrt(ordinary * ordinary + 4.0 * math.log1p(turned / scale))


def mixture_boundary(confidence: float, variance: float, prior: float) -> float:
    """What the absolute value of a sum never passes while its variance grows.

    Args:
        confidence: With which it never does, above 0 and below 1.
        variance: Of the sum so far.
        prior: The mixture's own variance.
    """
    total, tail = variance + prior, 1.0 - confidence
    return math.sqrt(total * math.log(total / (prior * tail * tail)))


@dataclass(frozen=True, slots=True)
class Looks:
    """What was looked at so far.

    Args:
        count: Evaluations that could meet the target by chance.
        turned: Sum of the angles between them.
        passed: Angles since the last of them.
        se: Standard error of the last evaluation, nats per token.
        waits: The rows are others than before, and have been evaluated once.
        pooled: Evaluations in the mean of those on rows of their own.
        weight: Sum of their weights: tokens, or bytes.
        total: Sum of their differences from the bound times their weights.
        variance: Of that sum.
        prior: The mixture's variance.
        mean: Whether that mean decides: the set is drawn anew each time.
    """

    count: int = 0
    turned: float = 0.0
    passed: float = 0.0
    se: float | None = None
    waits: bool = False
    pooled: int = 0
    weight: float = 0.0
    total: float = 0.0
    variance: float = 0.0
    prior: float = 0.0
    mean: bool = False

    def add(
        self, last: MeasuredLevel, rows: EvalRows, confidence: float, *, se: float | None, change: float | None,
        weight: float | None,
    ) -> Looks:  # fmt: skip
        """What was looked at after one more evaluation.

        Args:
            last: The evaluation against the target.
            rows: Its rows, and those before.
            confidence: The target's.
            se: Standard error of its exact loss, nats per token.
            change: Standard error of the change since the evaluation before, on the same rows.
            weight: Its tokens, or bytes; ``None`` where evaluations of other rows cannot be pooled.
        """
        if last.fault is not None or not last.se:
            return self
        moved = angle(self.se, se, change if rows.same else None)
        now = replace(self, se=se, waits=rows.anew, mean=bool(weight) and rows.drawn)
        if weight:
            now = now._pool(last, rows, confidence, weight)
        if rows.anew:
            return replace(now, count=0, turned=0.0, passed=0.0)
        if last.value - last.bound >= _NEAR * last.se:
            return replace(now, passed=min(now.passed + moved, _QUARTER))
        turn = min(now.passed + moved, _QUARTER) if now.count else 0.0
        return replace(now, count=now.count + 1, turned=now.turned + turn, passed=0.0)

    def _pool(self, last: MeasuredLevel, rows: EvalRows, confidence: float, weight: float) -> Looks:
        keeps = rows.same is False and self.pooled > 0
        error = weight * (last.se or 0.0)
        square = error * error  # of 1e160 infinite, where ** raises
        base = self if keeps else replace(self, pooled=0, weight=0.0, total=0.0, variance=0.0, prior=_PRIOR * square)
        total, variance = base.total + weight * (last.value - last.bound), base.variance + square
        if not 0.0 < base.prior <= variance * _PRIOR < math.inf:  # an error of 1e-160 or 1e160 has no square
            return replace(self, pooled=0)
        if total <= mixture_boundary(confidence, variance, base.prior):
            return replace(base, pooled=base.pooled + 1, weight=base.weight + weight, total=total, variance=variance)
        return replace(self, pooled=0)._pool(last, rows, confidence, weight) if base.pooled else replace(self, pooled=0)

    def widened(self, last: MeasuredLevel, confidence: float) -> MeasuredLevel:
        """The evaluation with an interval that holds however often one looks; where the mean decides, that mean."""
        if last.fault is not None or not last.se:
            return last
        if not self.mean:
            return replace(last, half=critical_value(confidence, self.turned) * last.se)
        if not self.pooled:  # surely above by itself
            return last
        half = mixture_boundary(confidence, self.variance, self.prior) / self.weight
        notes = (*last.notes, "mean-of-drawn") if self.pooled > 1 else last.notes
        return replace(last, value=last.bound + self.total / self.weight, half=half, notes=notes)

    @property
    def accounted(self) -> int:
        """Evaluations that the interval accounts for."""
        return max(1, self.pooled if self.mean else self.count)


NO_LOOKS: Final = Looks()
"""Before the first evaluation."""


_MOST_ROWS: Final = 10_000_000  # no one evaluates on more. Chosen, not measured.


@dataclass(frozen=True, slots=True)
class MeasuredLevel:
    """One evaluation against a target, on a scale where errors are symmetric; every number is finite.

    Args:
        step: Optimizer step.
        value: Nats per token (of ``ppl`` too) or bits per byte; with a relative target the change since the first
            evaluation, as a fraction (of ``ppl``: in nats).
        se: Standard error of the value; ``None`` where none is known.
        half: Half the interval's width; ``None`` without an error bar.
        bound: The target on the same scale.
        level: The target in nats per token or bits per byte, also where it is relative.
        rows: Rows of the set.
        notes: How it was come by.
        fault: Why it cannot be judged: ``non-finite``, ``unmeasured``, or ``substitute`` where only another loss is
            there.
        absent: With ``substitute``: why the callback measured no exact loss; ``None`` where it was not there.
    """

    step: int
    value: float = 0.0
    se: float | None = None
    half: float | None = None
    bound: float = 0.0
    level: float = 0.0
    rows: int | None = None
    notes: tuple[str, ...] = ()
    fault: str | None = None
    absent: str | None = None

    @property
    def below(self) -> bool:
        """Surely below the target."""
        return self.fault is None and self.value + (self.half or 0.0) < self.bound

    @property
    def above(self) -> bool:
        """Surely not below the target."""
        if self.fault is not None:
            return False
        return self.value >= self.bound if self.half is None else self.value - self.half > self.bound


def measure(target: Target, seen: EvalObservation, first: Level | None = None) -> MeasuredLevel:
    """One evaluation against a target.

    Args:
        target: The target; its set is not looked at.
        seen: The evaluation.
        first: The metric at the set's first evaluation, for a relative target; ``None``: this is the first.
    """
    level = level_of(target.metric, seen)
    if isinstance(level, str):
        return MeasuredLevel(seen.step, fault=level, absent=seen.exact_loss_absent if level == "substitute" else None)
    value, se, bound = level.value, level.se, target.below
    if target.metric == keys.PPL:
        bound = math.log1p(bound) if target.relative else math.log(bound)
    absolute = bound
    if target.relative:
        # The two evaluations are on the same rows, so their errors partly cancel; rows.jsonl does not say how far.
        base = level if first is None else first
        both = None if se is None or base.se is None else (se, base.se)
        absolute = base.value + bound if target.metric == keys.PPL else base.value * (1.0 + bound)
        if target.metric == keys.PPL:
            value -= base.value
            se = None if both is None else finite_error(math.hypot(*both))
        elif base.value <= 0:
            return MeasuredLevel(seen.step, fault="unmeasured")
        else:
            ratio = value / base.value
            se = None if both is None else finite_error(math.hypot(both[0], ratio * both[1]) / base.value)
            value = ratio - 1.0
    half = None if se is None else interval(0.0, se, target.confidence)[1]
    if not (math.isfinite(value) and math.isfinite(absolute)):
        return MeasuredLevel(seen.step, fault="non-finite")
    if half is not None and not math.isfinite(value + half):
        se = half = None
    notes = level.notes if half is not None or "no-error-bar" in level.notes else (*level.notes, "no-error-bar")
    return MeasuredLevel(seen.step, value, se, half, bound, absolute, seen.rows, notes)


def rows_needed(rows: int | None, half: float | None, distance: float) -> int | None:
    """Rows of the same kind whose interval would be narrower than ``distance``: the error falls as their root.

    Returns:
        ``None`` where rows or error are unknown, or beyond ten million rows.

    >>> rows_needed(100, 0.08, 0.04)
    401
    """
    if rows is None or half is None or distance <= 0:
        return None
    ratio = half / distance
    needed = rows * ratio * ratio
    return math.floor(needed) + 1 if needed < _MOST_ROWS else None


def unit(target: Target) -> str:
    """How numbers on the target's scale are written: ``loss``, ``ppl`` or ``percent``."""
    if target.relative:
        return "percent"
    return "ppl" if target.metric == keys.PPL else "loss"


def shown(target: Target, value: float) -> float:
    """A number of the target's scale (see `MeasuredLevel`) as users know it; infinite where it overflows."""
    if target.metric != keys.PPL:
        return value
    return perplexity(value) - 1.0 if target.relative else perplexity(value)
