"""`overfitting`: an evaluation set gets worse while the training loss does not."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from statistics import NormalDist
from typing import Any, ClassVar

from ko_cpt_callbacks.rules.rule import EvaluationSetRule, RuleInfo
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import EvalObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.evaluations import Mark, Series
from ko_cpt_callbacks.watch.stopping import Patience

__all__ = ["Overfitting"]


@dataclass(frozen=True, slots=True)
class Overfitting(EvaluationSetRule):
    """Says once per set that its loss is above its best in several evaluations in a row, and not by chance.

    The best of many noisy evaluations lies low by chance, and the more so the more of them there are at its level;
    that is added to the noise. Silent where the log has no training loss: then a model that gets worse at everything
    looks the same. Retention sets are the business of ``forgetting``.

    Args:
        patience: Evaluations in a row, and by how much they must be above the best; where no number is given, two,
            and the noise alone.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "overfitting", (Severity.WARNING,), (EvalObservation,), may_stop=True, place=190
    )

    patience: Patience = field(default_factory=Patience)
    noises: float = limits.OVERFIT_NOISES
    least_nats: float = limits.OVERFIT_NATS
    least_share: float = limits.OVERFIT_SHARE
    drawn: float = limits.OVERFIT_DRAWN
    drawn_errors: float = limits.OVERFIT_DRAWN_ERRORS
    few: float = limits.OVERFIT_FEW_TIMES
    each: float = limits.OVERFIT_EACH
    train_share: float = limits.OVERFIT_TRAIN_SHARE
    train_errors: float = limits.OVERFIT_TRAIN_ERRORS
    restart_errors: float = limits.OVERFIT_RESTART_ERRORS

    def judged(self, now: Series) -> dict[str, Any] | None:
        """The rise above the best, its threshold, and the rise of training beside it."""
        wanted = self.patience.evaluations or limits.OVERFIT_EVALUATIONS
        best, least, last = now.best, self._least(now), now.marks[-wanted:]
        rises = [mark.value - best.value for mark in last]
        if len(rises) < wanted or min(rises) <= least:  # the best itself does not rise
            return None
        noise, rise = now.noise, sum(rises) / wanted
        threshold = self._threshold(now, noise, least)
        if min(rises) <= self.each * threshold or rise <= threshold:
            return None
        # So few as there are have to go up one after the other where their noise might be as large.
        since = [mark for mark in now.marks if mark.step >= best.step]
        surely = noise is None or rise > self.noises * noise
        if not surely and any(later.value <= earlier.value - least for earlier, later in pairwise(since)):
            return None
        above = [*takewhile(lambda mark: mark.value - best.value > least, now.marks[::-1])]
        beside = _beside(best, above)
        if beside is None:
            return None
        # After a restart of the learning rate both rise, and come back: there it has to be surer.
        restarted = (now.last.rate or 0.0) > limits.OVERFIT_RESTART * (best.rate or math.inf)
        errors = self.restart_errors if restarted else self.train_errors
        higher, train_rise, error = beside
        if train_rise + errors * error > self.train_share * higher:
            return None
        return {
            "loss": now.last.value, "best": best.value, "best_step": best.step, "rise": now.last.value - best.value,
            "threshold": threshold, "noise": noise, "se": now.last.se, "evaluations": wanted,
            "first_step": last[0].step, "above": len(above), "train_rise": train_rise, "train_error": error,
            "metric": now.metric,
        }  # fmt: skip

    def _least(self, now: Series) -> float:
        best = abs(now.best.value)
        if self.patience.min_delta > 0.0:
            return self.patience.min_delta * (best if self.patience.relative else 1.0)
        return max(self.least_nats, self.least_share * best)

    def _threshold(self, now: Series, noise: float | None, least: float) -> float:
        se = now.last.se or 0.0
        if noise is not None and noise > self.drawn * se:
            # As far off as its standard error says: other rows each time, of which the best is as uncertain.
            se *= self.drawn_errors
        few = (1.0 if self.patience.min_delta > 0.0 else self.few) * least
        if noise is None:
            return max(few, se)
        beside = sum(mark.value - now.best.value <= limits.OVERFIT_LEVEL * noise for mark in now.marks)
        noise *= self.noises + _lowest_of(max(limits.OVERFIT_COMPETE, beside))
        if now.count <= limits.OVERFIT_FEW:
            # Of so few the noise is badly known, and most of it may be the bend of the curve.
            noise = min(noise, limits.OVERFIT_FEW_NOISE * few)
        return max(least, se, noise)


def _lowest_of(count: int) -> float:
    """How far below their mean the lowest of so many normal values lies, in standard deviations."""
    return -NormalDist().inv_cdf((1 - limits.BLOM) / (count + 1 - 2 * limits.BLOM))


def _beside(best: Mark, above: list[Mark]) -> tuple[float, float, float] | None:
    """By how much evaluations and training beside them are higher than at the best, and the error of the latter.

    All over the same intervals, each with the mean of the evaluations at its ends. Beside the best one is the interval
    that ends with it; where that is the first of all, the last points before it.

    Returns:
        ``None`` where there are no training points to compare.
    """
    points = sum(mark.points for mark in above)
    if best.gap is None:
        level, then, train = best.value, min(best.points, limits.EVAL_NEAR), best.near
    else:
        level, then, train = best.gap + (best.train or 0.0), best.points, best.train
    if train is None or not points:
        return None
    after = sum((mark.train or 0.0) * mark.points for mark in above) / points
    gap = sum((mark.gap or 0.0) * mark.points for mark in above) / points
    noise = max(mark.noise or 0.0 for mark in (best, *above))
    return gap + after - level, after - train, noise * math.sqrt(1.0 / points + 1.0 / then)
