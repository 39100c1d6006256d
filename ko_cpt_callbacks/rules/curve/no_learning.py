"""`no-learning`: the training loss is where it was at the start."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from ko_cpt_callbacks.rules.rule import Found, OnceRule, RuleInfo, Wakes
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, TrainObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.fit import line_through, median
from ko_cpt_callbacks.signal.signals import Signals, is_time
from ko_cpt_callbacks.signal.window import Recent, expected_steps, last_part

__all__ = ["NoLearning"]


@dataclass(frozen=True, slots=True)
class NoLearning(OnceRule):
    """Says once that the loss has not fallen from the start to now, nor do the evaluations of any set.

    While the run goes on: once the learning rate has been past its peak for a while, and the fall that can still be
    hidden in the noise is small even if it goes on like that to the end. When the run ends, or its log: where the fall
    is not beyond its noise. A log without learning rates is judged at its end alone, since its warm-up cannot be seen.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "no-learning", (Severity.WARNING,), (TrainObservation, EndObservation), place=240
    )

    least_points: int = limits.STANDSTILL_POINTS
    least_after: int = limits.STANDSTILL_AFTER
    errors: float = limits.STANDSTILL_ERRORS
    fallen: float = limits.STANDSTILL_FALLEN
    first: float = limits.STANDSTILL_FIRST
    hidden: float = limits.STANDSTILL_HIDDEN
    hidden_live: float = limits.STANDSTILL_HIDDEN_LIVE

    @property
    def wakes(self) -> Wakes:
        """From time to time, once there are enough points."""
        return Wakes((partial(is_time, points=self.least_points),))

    def judged(self, signals: Signals, *, live: bool) -> Found:
        """How the loss has not fallen since the start."""
        window, head = signals.window, signals.trend.head
        rate = window.rates[-1] if window.rates else None
        if live and (rate is None or window.count - signals.trend.peaked < self.least_after):
            return ()
        # What follows a seam has not started there; a learning rate at its highest may still warm up.
        if window.segment or not head or window.count in range(max(self.least_points, signals.trend.peaked + 1)):
            return ()
        values, _ = last_part(window, signals.trend.blocks, limits.STANDSTILL_PART)
        start, end, noise = median(head), median(values[len(values) // 2 :]), window.noise or limits.QUIET
        # What was learned in the first points, or in the very first row, was learned.
        if (
            start - end > max(self.fallen * end, limits.STANDSTILL_FALLEN_NOISES * noise)
            or head[0] - end > max(self.first * end, limits.STANDSTILL_FIRST_NOISES * noise)
            or end < limits.STANDSTILL_LEVEL
            or (line := line_through(values)) is None
        ):
            return ()
        level, error = line.start - 0.5 * line.fall, line.error
        most = max(limits.STANDSTILL_RISE_ERRORS * error, limits.STANDSTILL_RISE * level)
        if line.fall > self.errors * error or -line.fall > most:
            return ()
        if abs(line.fall) + error > self.hidden * level:
            return ()
        if live and self._may_fall(max(line.fall, 0.0) + error, level, window):
            return ()
        if any(series.falls() for series in signals.evaluations.sets.values()):
            return ()
        found: dict[str, Any] = {
            "level": level, "start": start, "fall": line.fall, "error": error, "noise": line.noise,
            "points": window.count, "values": line.points, "learning_rate": rate,
        }  # fmt: skip
        return (Finding(self.code, Severity.WARNING, window.step, "train", found),)

    def _may_fall(self, fall: float, level: float, window: Recent) -> bool:
        """Whether so large a fall until now may come to something by the end of the run."""
        planned, step = expected_steps(window), max(window.step or 0, 1)
        times = limits.STANDSTILL_LONGER if planned is None else max(1.0, planned / step)
        return fall * times > self.hidden_live * level
