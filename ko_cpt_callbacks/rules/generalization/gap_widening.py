"""`gap-widening`: training goes on down while an evaluation set stays where it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import linear_regression
from typing import Any, ClassVar

from ko_cpt_callbacks.rules.rule import EvaluationSetRule, RuleInfo
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import EvalObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.evaluations import Series
from ko_cpt_callbacks.signal.fit import median

__all__ = ["GapWidening"]


@dataclass(frozen=True, slots=True)
class GapWidening(EvaluationSetRule):
    """Says once per set that evaluation less training has grown since the beginning, and the evaluation does not fall.

    The size of the gap means nothing: two texts differ, dropout is off in an evaluation, and losses are averaged
    differently (RedWhale's is 1.16 to 1.18 nats from its first stage on, arXiv 2408.11294). Only its change counts.
    """

    info: ClassVar[RuleInfo] = RuleInfo("gap-widening", (Severity.WARNING,), (EvalObservation,), place=200)

    limit: float = limits.GAP_NATS
    errors: float = limits.GAP_ERRORS
    evaluations: int = limits.GAP_EVALUATIONS
    early: int = limits.GAP_EARLY
    fall_share: float = limits.GAP_FALL_SHARE

    def judged(self, now: Series) -> dict[str, Any] | None:
        """The gap, by how much it has widened, and the fall of both since."""
        used = max(self.early, min(len(now.gaps), int(limits.GAP_EARLY_SHARE * now.count)))
        if now.last.gap is None or now.count - 1 < used + self.evaluations or len(now.gaps) < used:
            return None
        last, usual = now.marks[-self.evaluations :], median(now.gaps[:used])
        gaps = [mark.gap - usual for mark in last if mark.gap is not None]
        widened = sum(gaps) / len(gaps)
        if len(gaps) < len(last) or widened <= self.limit:
            return None
        noise = now.noise or 0.0
        # A gap is the mean of so many training points, and of two evaluations.
        sides = [(one.noise or 0.0) / math.sqrt(max(one.points, 1)) for one in last]
        errors = [math.hypot(side, noise / math.sqrt(2.0)) for side in sides]
        usual_error = limits.GAP_EARLY_ERROR * max(errors) / math.sqrt(used)
        error = math.hypot(math.hypot(*errors) / len(errors), usual_error)
        threshold = max(self.limit, self.errors * error)
        if widened <= threshold or any(gap <= self.limit - one for gap, one in zip(gaps, errors, strict=True)):
            return None
        # Since before it began to widen, at least since before the evaluations in a row.
        wide = [*takewhile(lambda one: one.gap is not None and one.gap - usual > 0.5 * self.limit, now.marks[::-1])]
        since = now.marks[-max(len(wide), self.evaluations) - 1 :]
        fall = _fall([mark.value for mark in since])
        train_fall = _fall([mark.train for mark in since if mark.train is not None])
        if fall > max(self.fall_share * train_fall, 0.0):
            return None
        return {
            "gap": now.last.gap, "early_gap": usual, "widened": widened, "threshold": threshold, "error": error,
            "evaluations": len(last), "first_step": last[0].step, "since_step": since[0].step, "eval_fall": fall,
            "train_fall": train_fall, "loss": now.last.value, "train": now.last.train, "early_evaluations": used,
            "metric": now.metric,
        }  # fmt: skip


def _fall(values: Sequence[float]) -> float:
    """How far a line through the values falls from first to last."""
    return -linear_regression(range(len(values)), values).slope * (len(values) - 1)
