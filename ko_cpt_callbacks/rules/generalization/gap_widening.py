"""`gap-widening`: training goes on down while an evaluation set stays where it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EvalObservation, Observation
from ko_cpt_callbacks.core.retention import is_retention
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.evaluations import Mark, Series
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.signal.window import median

__all__ = ["GapWidening"]


@dataclass(frozen=True, slots=True)
class GapWidening(Rule):
    """Says once per set that evaluation less training has grown since the beginning, and the evaluation does not fall.

    The size of the gap means nothing: two texts differ, dropout is off in an evaluation, and losses are averaged
    differently (RedWhale's is 1.16 to 1.18 nats from its first stage on, arXiv 2408.11294). Only its change counts.

    Args:
        retention: Declared names of retention sets, which are the business of ``forgetting``.
        limit: Nats per token beyond the median gap of the beginning. From that paper's four gaps, which differ by 0.02,
            and from evaluation sets of 100 rows, whose interval is 0.08 wide; chosen, not measured.
        errors: Nor fewer than so many standard errors. Chosen, not measured.
        evaluations: Evaluations in a row.
        early: Gaps of the beginning that make the median, at least; a fifth of all where that is more.
        fall_errors: The evaluation falls along where it has fallen by more than so many standard errors since the gap
            began to widen. Chosen, not measured.
        fall_share: And by more than this share of what training has. Chosen, not measured.
    """

    info: ClassVar = RuleInfo("gap-widening", (Severity.WARNING,), (EvalObservation,))

    retention: tuple[str, ...] = ()
    limit: float = 0.10
    errors: float = 4.0
    evaluations: int = 3
    early: int = 3
    fall_errors: float = 1.0
    fall_share: float = 0.2

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
        return (*state, split), (Finding(self.code, Severity.WARNING, seen.step, split, values),)

    def _judged(self, now: Series) -> dict[str, Any] | None:
        last = now.marks[-self.evaluations :]
        used = max(self.early, min(len(now.gaps), now.count // 5))
        if now.last.gap is None or now.count - 1 < used + self.evaluations or len(now.gaps) < used:
            return None
        usual = median(now.gaps[:used])
        gaps = [mark.gap - usual for mark in last if mark.gap is not None]
        noise = now.noise
        errors = [_error(mark, noise) for mark in last]
        # The median of a few early gaps is off as well, by 1.25 times what their mean would be.
        usual_error = 1.25 * max(errors) / math.sqrt(used)
        error = math.hypot(math.sqrt(sum(one * one for one in errors)) / len(errors), usual_error)
        widened = sum(gaps) / len(gaps)
        if len(gaps) < len(last) or widened <= max(self.limit, self.errors * error):
            return None
        if any(gap <= self.limit - one for gap, one in zip(gaps, errors, strict=True)):
            return None
        wide = [mark for mark in now.marks if mark.gap is not None and mark.gap - usual > 0.5 * self.limit]
        since = _unbroken(now.marks, wide, self.evaluations)
        fall, fall_error = _fall([mark.value for mark in since], noise)
        train_fall = _fall([mark.train for mark in since if mark.train is not None], None)[0]
        if fall > self.fall_errors * fall_error and fall > self.fall_share * train_fall:
            return None
        return {
            "gap": now.last.gap,
            "early_gap": usual,
            "widened": widened,
            "threshold": max(self.limit, self.errors * error),
            "error": error,
            "evaluations": len(last),
            "first_step": last[0].step,
            "since_step": since[0].step,
            "eval_fall": fall,
            "train_fall": train_fall,
            "loss": now.last.value,
            "train": now.last.train,
            "early_evaluations": used,
            "metric": now.metric,
        }


def _error(mark: Mark, noise: float | None) -> float:
    """Standard error of a gap: the mean of so many training points, and the mean of two evaluations."""
    return math.hypot((mark.noise or 0.0) / math.sqrt(max(mark.points, 1)), (noise or 0.0) / math.sqrt(2.0))


def _unbroken(marks: Sequence[Mark], wide: Sequence[Mark], least: int) -> Sequence[Mark]:
    """The last marks of ``marks`` that are all in ``wide``, and the one before them; at least ``least`` + 1."""
    steps = {mark.step for mark in wide}
    first = len(marks)
    while first > 0 and marks[first - 1].step in steps:
        first -= 1
    return marks[max(0, min(first, len(marks) - least - 1)) :]


def _fall(values: Sequence[float], noise: float | None) -> tuple[float, float]:
    """How far a straight line through the values falls from the first to the last, and its standard error."""
    n = len(values)
    if n < 2:
        return 0.0, 0.0
    middle, mean = (n - 1) / 2, sum(values) / n
    spread = sum((i - middle) ** 2 for i in range(n))
    slope = sum((i - middle) * (value - mean) for i, value in enumerate(values)) / spread
    return -slope * (n - 1), (noise or 0.0) * (n - 1) / math.sqrt(spread)
