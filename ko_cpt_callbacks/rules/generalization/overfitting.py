"""`overfitting`: an evaluation set gets worse while the training loss does not."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import NormalDist
from typing import Any, ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EvalObservation, Observation
from ko_cpt_callbacks.core.patience import Patience
from ko_cpt_callbacks.core.retention import is_retention
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.evaluations import NEAR, Mark, Series
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["Overfitting"]


_FEW = 7


@dataclass(frozen=True, slots=True)
class Overfitting(Rule):
    """Says once per set that its loss is above its best in several evaluations in a row, and not by chance.

    The best of many noisy evaluations lies low by chance, and the more so the more of them there are at its level;
    that is added to the noise. Silent where the log has no training loss: then a model that gets worse at everything
    looks the same. Retention sets are the business of ``forgetting``.

    Args:
        patience: Evaluations in a row, and by how much they must be above the best; where no number is given, two,
            and the noise alone.
        retention: Declared names of retention sets.
        noises: Standard deviations of an evaluation above the best. Chosen, not measured.
        least_nats: Never less than this many nats per token above the best, unless ``min_delta`` says so. Chosen:
            healthy evaluations of small sets differ by 0.002 to 0.01.
        least_share: Nor less than this share of the best. Chosen likewise.
        drawn: An evaluation whose noise is more than this share of its standard error scores other rows each time; the
            same rows differ by far less. Chosen, not measured.
        drawn_errors: Standard errors of one that it then takes: twice that of a difference.
        few: With fewer than five evaluations nothing is known of their noise; then this many times the least.
            Chosen, not measured.
        each: One of these evaluations may be this share of the threshold above the best; their mean may not. Chosen.
        train_share: Training rises along where its loss rises by more than this share of what the evaluations do.
            Chosen, not measured.
        train_errors: So many of its standard errors are added to its rise: where the training points are too few to
            tell, it waits. Chosen, not measured.
        restart_errors: The same where the learning rate is higher than at the best evaluation.
    """

    info: ClassVar = RuleInfo("overfitting", (Severity.WARNING,), (EvalObservation,), may_stop=True)

    patience: Patience = field(default_factory=Patience)
    retention: tuple[str, ...] = ()
    noises: float = 3.0
    least_nats: float = 0.012
    least_share: float = 0.006
    drawn: float = 0.33
    drawn_errors: float = 2.8
    few: float = 3.0
    each: float = 0.7
    train_share: float = 0.5
    train_errors: float = 0.5
    restart_errors: float = 2.0

    def initial(self) -> tuple[str, ...]:
        """Said of no set."""
        return ()

    def step(self, state: tuple[str, ...], seen: Observation, signals: Signals) -> tuple[tuple[str, ...], Found]:
        """Judges an evaluation; the state is the sets of which it was said."""
        now, split = signals.evaluations.now, getattr(seen, "split", "")
        if now is None or split in state or is_retention(split, self.retention):
            return state, ()
        values = self._judged(now)
        if values is None:
            return state, ()
        return (*state, split), (Finding(self.code, Severity.WARNING, seen.step, split, values, asks_to_stop=True),)

    def _judged(self, now: Series) -> dict[str, Any] | None:
        wanted = self.patience.evaluations or 2
        best, least = now.best, self._least(now)
        rises = [mark.value - best.value for mark in now.marks[-wanted:]]
        if len(rises) < wanted or now.marks[-wanted].step <= best.step or min(rises) <= least:
            return None
        threshold = self._threshold(now)
        if min(rises) <= self.each * threshold or sum(rises) / wanted <= threshold:
            return None
        if not self._rising(now, sum(rises) / wanted, least):
            return None
        beside = _beside(now, _above(now, least))
        if beside is None:
            return None
        # After a restart of the learning rate both rise, and come back: there it has to be surer.
        errors = self.restart_errors if _restarted(now) else self.train_errors
        if beside.train + errors * beside.error > self.train_share * beside.rise:
            return None
        return {
            "loss": now.last.value,
            "best": best.value,
            "best_step": best.step,
            "rise": now.last.value - best.value,
            "threshold": threshold,
            "noise": now.noise,
            "se": now.last.se,
            "evaluations": wanted,
            "first_step": now.marks[-wanted].step,
            "above": beside.evaluations,
            "train_rise": beside.train,
            "train_error": beside.error,
            "metric": now.metric,
        }

    def _rising(self, now: Series, rise: float, least: float) -> bool:
        """Whether so few evaluations as there are go up one after the other, where their noise might be as large."""
        if now.count > _FEW:
            return True
        noise = now.noise
        if noise is None or rise > self.noises * noise:
            return True
        since = [mark.value for mark in now.marks if mark.step >= now.best.step]
        return all(later > earlier - least for earlier, later in pairwise(since))

    def _least(self, now: Series) -> float:
        best = abs(now.best.value)
        if self.patience.min_delta > 0.0:
            return self.patience.min_delta * (best if self.patience.relative else 1.0)
        return max(self.least_nats, self.least_share * best)

    def _threshold(self, now: Series) -> float:
        least, se, noise = self._least(now), now.last.se or 0.0, now.noise
        if noise is not None and noise > self.drawn * se:
            # As far off as its standard error says: other rows each time, of which the best is as uncertain.
            se *= self.drawn_errors
        few = (1.0 if self.patience.min_delta > 0.0 else self.few) * least
        if noise is None:
            return max(few, se)
        level = max(3, sum(mark.value - now.best.value <= 4.0 * noise for mark in now.marks))
        noise *= self.noises + _lowest_of(level)
        if now.count <= _FEW:
            # Of so few the noise is badly known, and most of it may be the bend of the curve.
            noise = min(noise, 1.7 * few)
        return max(least, se, noise)


def _restarted(now: Series) -> bool:
    rate, then = now.last.rate, now.best.rate
    return rate is not None and then is not None and rate > 1.2 * then


def _lowest_of(count: int) -> float:
    """How far below their mean the lowest of so many normal values lies, in standard deviations (Blom 1958)."""
    return -NormalDist().inv_cdf((1.0 - 0.375) / (count + 0.25)) if count > 1 else 0.0


def _above(now: Series, least: float) -> list[Mark]:
    """The last evaluations that are all above the best by ``least``, oldest first."""
    above: list[Mark] = []
    for mark in reversed(now.marks):
        if mark.step <= now.best.step or mark.value - now.best.value <= least:
            break
        above.append(mark)
    return above[::-1]


@dataclass(frozen=True, slots=True)
class _Beside:
    """By how much evaluations, and the training loss beside them, are higher than at the best; error of the latter."""

    rise: float
    train: float
    error: float
    evaluations: int


def _beside(now: Series, above: list[Mark]) -> _Beside | None:
    """Evaluations and training over the same intervals, each the mean of the evaluations at its ends.

    Beside the best one is the interval that ends with it; where that is the first of all, whose interval begins with
    the start of the run, the last points before it.

    Returns:
        ``None`` where there are no training points to compare.
    """
    best, above = now.best, [mark for mark in above if mark.train is not None and mark.gap is not None]
    points = sum(mark.points for mark in above)
    if best.gap is None:
        level, then, train = best.value, min(best.points, NEAR), best.near
    else:
        level, then, train = best.gap + (best.train or 0.0), best.points, best.train
    if train is None or not points:
        return None
    after = sum((mark.train or 0.0) * mark.points for mark in above) / points
    rise = sum(((mark.gap or 0.0) + (mark.train or 0.0)) * mark.points for mark in above) / points - level
    noise = max(mark.noise or 0.0 for mark in (best, *above))
    return _Beside(rise, after - train, noise * math.sqrt(1.0 / points + 1.0 / then), len(above))
