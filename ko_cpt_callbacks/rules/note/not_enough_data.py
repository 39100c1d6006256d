"""`not-enough-data`: the history ends too early to say how the loss develops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import Found, OnceRule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation
from ko_cpt_callbacks.run.progress import RunProgress
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["NotEnoughData"]


@dataclass(frozen=True, slots=True)
class NotEnoughData(OnceRule):
    """Says once, at the end, that there was too little to judge.

    Args:
        min_train_points: Training rows that are enough. Chosen, not measured: below it neither a trend nor
            its noise can be had from a log.
        min_evaluations: Evaluations of one set that are enough. Chosen, not measured: a first, a last, and
            one between.
    """

    info: ClassVar[RuleInfo] = RuleInfo("not-enough-data", (Severity.INFO,), (EndObservation,), place=340)

    min_train_points: int = limits.JUDGED_POINTS
    min_evaluations: int = limits.JUDGED_EVALUATIONS

    def judged(self, signals: Signals, *, live: bool) -> Found:
        """How many points there are of each kind."""
        run = signals.run
        points, most = run.train.points, max((split.evaluations for split in run.splits.values()), default=0)
        if points >= self.min_train_points or most >= self.min_evaluations:
            return ()
        values = {
            "train_points": points,
            "evaluations": most,
            "min_train_points": self.min_train_points,
            "min_evaluations": self.min_evaluations,
        }
        step = None if run == RunProgress() else run.length.row_step
        return (Finding(self.code, Severity.INFO, step, values=values),)
