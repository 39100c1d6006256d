"""How sure a target is met, however many evaluations were looked at: the part of their error that moves is paid for.

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

from ko_cpt_callbacks.run.fold import EvalRows, Likeness
from ko_cpt_callbacks.watch.measurement import MeasuredLevel

__all__ = ["NO_LOOKS", "Looks", "angle", "critical_value", "mixture_boundary"]

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
        moved = angle(self.se, se, change if rows.last is Likeness.SAME else None)
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
        keeps = rows.last is Likeness.OTHER and self.pooled > 0
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
