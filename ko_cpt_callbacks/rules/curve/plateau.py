"""`plateau`: the training loss has stopped falling although the learning rate would let it."""

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
from ko_cpt_callbacks.signal.window import last_part

__all__ = ["Plateau"]


@dataclass(frozen=True, slots=True)
class Plateau(OnceRule):
    """Says once, as a note, that the last part of the run so far brought nothing that its noise would not.

    Nothing is reported where the log has no learning rate: a loss that stops falling because the rate has come down is
    as it should be. Nor where the loss has not fallen before: that is ``no-learning``.
    """

    info: ClassVar[RuleInfo] = RuleInfo("plateau", (Severity.INFO,), (TrainObservation, EndObservation), place=230)

    share: float = limits.PLATEAU_SHARE
    rate_share: float = limits.PLATEAU_RATE_SHARE
    least_points: int = limits.PLATEAU_POINTS
    errors: float = limits.PLATEAU_ERRORS
    end_errors: float = limits.PLATEAU_END_ERRORS
    hidden: float = limits.PLATEAU_HIDDEN
    rise_errors: float = limits.PLATEAU_RISE_ERRORS
    fallen_errors: float = limits.PLATEAU_FALLEN_ERRORS

    @property
    def wakes(self) -> Wakes:
        """From time to time, once there are enough points."""
        return Wakes((partial(is_time, points=self.least_points),))

    def judged(self, signals: Signals, *, live: bool) -> Found:
        """How the last part of the run stands still."""
        window = signals.window
        rate, peak = window.rates[-1] if window.rates else None, window.rate_peak
        if window.count < self.least_points or rate is None or rate < self.rate_share * peak or rate <= 0.0:
            return ()
        # Of a run that has just begun the last part is too short to be a part of the run.
        if live and window.planned_steps is not None and (window.step or 0) < self.share * window.planned_steps:
            return ()
        values, then = last_part(window, signals.trend.blocks, self.share)
        # A rate that rises within it is still warming up.
        if then is None or rate > limits.PLATEAU_RATE_RISE * then:
            return ()
        last = line_through(values)
        if last is None or last.fall > (self.errors if live else self.end_errors) * last.error:
            return ()
        level = last.start - 0.5 * last.fall
        fallen = median(signals.trend.head) - level
        if fallen < self.fallen_errors * last.error:
            return ()
        # A loss that rises stands no more still than one that falls; at the end that is reported all the same.
        if live and (last.fall < -self.rise_errors * last.error or last.fall + 2 * last.error > self.hidden * fallen):
            return ()
        found: dict[str, Any] = {
            "level": level, "fall": last.fall, "error": last.error, "noise": last.noise, "values": last.points,
            "points": round(self.share * window.count), "share": self.share, "fallen_before": fallen,
            "learning_rate": rate, "rate_share": rate / peak,
        }  # fmt: skip
        return (Finding(self.code, Severity.INFO, window.step, "train", found),)
