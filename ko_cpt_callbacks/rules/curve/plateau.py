"""`plateau`: the training loss has stopped falling although the learning rate would let it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EndObservation, Observation, TrainObservation
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.portion import due, heading, last_share
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.signal.slope import fall_of
from ko_cpt_callbacks.signal.window import Recent, median

__all__ = ["Plateau", "PlateauState"]


@dataclass(frozen=True, slots=True)
class PlateauState:
    """The first points of the segment, and whether it was said."""

    head: tuple[float, ...] = ()
    said: bool = False


@dataclass(frozen=True, slots=True)
class Plateau(Rule):
    """Says once, as a note, that the last part of the run so far brought nothing that its noise would not.

    Nothing is said where the log has no learning rate: a loss that stops falling because the rate has come down is as
    it should be. Nor where the loss has not fallen before: that is ``no-learning``.

    Args:
        share: Of the run so far that must have brought nothing; nor is anything said, while it goes on, before this
            share of the planned steps. Chosen, not measured.
        rate_share: Learning rate as a share of its peak that still lets a model learn. Chosen, not measured.
        least_points: Training points before which nothing is said.
        errors: The fall over that part is below so many of its standard errors. Chosen, not measured: it is looked at
            again and again, so that a run at a standstill is found although at one look chance may hide it.
        end_errors: The same at the end of the run, where nobody looks again. Chosen, not measured.
        hidden: Share of all that the loss had fallen before. While the run goes on, the fall and two of its standard
            errors are below it. Chosen, not measured.
        rise_errors: While the run goes on, a rise by so many is none. Chosen, not measured.
        fallen_errors: The loss had fallen before by at least so many.
    """

    info: ClassVar = RuleInfo("plateau", (Severity.INFO,), (TrainObservation, EndObservation))

    share: float = 0.3
    rate_share: float = 0.3
    least_points: int = 27
    errors: float = 1.0
    end_errors: float = 1.8
    hidden: float = 0.02
    rise_errors: float = 1.5
    fallen_errors: float = 4.0

    def initial(self) -> PlateauState:
        """No row seen."""
        return PlateauState()

    def step(self, state: PlateauState, seen: Observation, signals: Signals) -> tuple[PlateauState, Found]:
        """Judges a training row from time to time, and the Trainer's last row."""
        window = signals.window
        if isinstance(seen, TrainObservation):
            state = PlateauState(heading(state.head, window), state.said)
            if state.said or not due(window):
                return state, ()
        found = self._found(state, window, live=isinstance(seen, TrainObservation))
        return (replace(state, said=True) if found else state), found

    def close(self, state: PlateauState, signals: Signals) -> Found:
        """Judges the history as it ends."""
        return self._found(state, signals.window, live=False)

    def _found(self, state: PlateauState, window: Recent, *, live: bool) -> Found:
        values = None if state.said else self._judged(state, window, live=live)
        if values is None:
            return ()
        return (Finding(self.code, Severity.INFO, window.step, "train", values),)

    def _judged(self, state: PlateauState, recent: Recent, *, live: bool) -> dict[str, Any] | None:
        rate = recent.rates[-1] if recent.rates else None
        if recent.count < self.least_points or rate is None or rate < self.rate_share * recent.rate_peak or rate <= 0.0:
            return None
        # Of a run that has just begun the last part is too short to be a part of the run.
        if live and recent.planned_steps is not None and (recent.step or 0) < self.share * recent.planned_steps:
            return None
        stretch = last_share(recent, self.share)
        # A rate that rises within it is still warming up.
        if stretch.rate is None or stretch.rate < self.rate_share * recent.rate_peak or rate > 1.001 * stretch.rate:
            return None
        last = fall_of(stretch.values)
        if last is None or last.fall > (self.errors if live else self.end_errors) * last.error:
            return None
        level = last.start - 0.5 * last.fall
        fallen = median(state.head) - level
        if fallen < self.fallen_errors * last.error or last.fall < -0.5 * fallen:
            return None
        # A loss that rises stands no more still than one that falls; at the end that is said all the same.
        if live and last.fall < -self.rise_errors * last.error:
            return None
        if live and last.fall + 2.0 * last.error > self.hidden * fallen:
            return None
        return {
            "level": level,
            "fall": last.fall,
            "error": last.error,
            "noise": last.noise,
            "values": last.points,
            "points": round(self.share * recent.count),
            "share": self.share,
            "fallen_before": fallen,
            "learning_rate": rate,
            "rate_share": rate / recent.rate_peak,
        }
