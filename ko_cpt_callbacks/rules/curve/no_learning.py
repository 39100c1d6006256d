"""`no-learning`: the training loss is where it was at the start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EndObservation, Observation, TrainObservation
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.evaluations import FALLEN, Series
from ko_cpt_callbacks.signal.portion import due, heading, whole
from ko_cpt_callbacks.signal.run_length import expected_steps
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.signal.slope import fall_of
from ko_cpt_callbacks.signal.window import median

__all__ = ["NoLearning", "NoLearningState"]

_FEW = 2


@dataclass(frozen=True, slots=True)
class NoLearningState:
    """The first points, how many since the learning rate last reached a peak, and whether it was said."""

    head: tuple[float, ...] = ()
    after: int = 0
    said: bool = False


@dataclass(frozen=True, slots=True)
class NoLearning(Rule):
    """Says once that the loss has not fallen from the start to now.

    Nor is it said where the evaluations of a set fall: the model learns, whatever its training points show.

    While the run goes on: once the learning rate has been past its peak for a while, and the fall that can still be
    hidden in the noise is small even if it goes on like that to the end. When the run ends, or its log: where the fall
    is not beyond its noise. A log without learning rates is judged at its end alone, since its warm-up cannot be seen.

    Args:
        least_points: Training points before which nothing is said. Chosen, not measured.
        least_after: And points past the warm-up while the run goes on. Chosen, not measured.
        least_unplanned: And points in all then, where nothing tells how long the run is to be. Chosen, not measured.
        errors: The fall from start to end is below so many of its standard errors.
        nothing: Or below this share of the level. Chosen, not measured.
        rise_errors: A rise by more than this share and so many of its standard errors is none. Chosen, not measured.
        fallen: Nor was the start higher than now by more than this share of the level: a model that learned what there
            was in its first points has learned. Chosen, not measured.
        hidden: The fall and one of its standard errors are below this share of the level. Chosen, not measured.
        hidden_live: And while the run goes on, what they come to at its end (as planned, or as the learning rate
            tells, or else four times as long) below
            this. Chosen, not measured.
        eval_errors: Nor may the evaluations of a set fall by more than so many standard errors. Chosen, not measured.
        eval_fallen: And more than this share of their level. Chosen, not measured.
        least_level: Nats per token; a loss around 0 is none that has to fall (policy gradients). Chosen.
    """

    info: ClassVar = RuleInfo("no-learning", (Severity.WARNING,), (TrainObservation, EndObservation))

    least_points: int = 20
    least_after: int = 40
    least_unplanned: int = 100
    errors: float = 2.0
    nothing: float = 0.003
    rise_errors: float = 3.0
    fallen: float = 0.018
    hidden: float = 0.03
    hidden_live: float = 0.008
    eval_errors: float = 3.0
    eval_fallen: float = 0.006
    least_level: float = 0.1

    def initial(self) -> NoLearningState:
        """No row seen."""
        return NoLearningState()

    def step(self, state: NoLearningState, seen: Observation, signals: Signals) -> tuple[NoLearningState, Found]:
        """Judges a training row from time to time, and the Trainer's last row."""
        if isinstance(seen, EndObservation):
            found = self.close(state, signals)
            return (replace(state, said=True) if found else state), found
        window, past = signals.window, signals.past
        rate = window.rates[-1] if window.rates else None
        peaked = rate is not None and window.segment == past.segment and window.rate_peak <= past.rate_peak
        state = NoLearningState(heading(state.head, window), state.after + 1 if peaked else 0, state.said)
        if state.said or state.after < self.least_after or not due(window):
            return state, ()
        found = self._found(state, signals, live=True)
        return (replace(state, said=True) if found else state), found

    def close(self, state: NoLearningState, signals: Signals) -> Found:
        """Judges the history as it ends."""
        return () if state.said else self._found(state, signals, live=False)

    def _found(self, state: NoLearningState, signals: Signals, *, live: bool) -> Found:
        values = self._judged(state, signals, live=live)
        if values is None:
            return ()
        return (Finding(self.code, Severity.WARNING, signals.window.step, "train", values),)

    def _judged(self, state: NoLearningState, signals: Signals, *, live: bool) -> dict[str, Any] | None:
        recent = signals.window
        rates = [rate for rate in recent.rates if rate is not None]
        # What follows a seam has not started there.
        if recent.segment or recent.count < self.least_points or (rates and not state.after):
            return None
        all_of_it = whole(recent)
        skipped = max(1, len(all_of_it) // 10)
        line = fall_of(all_of_it[skipped:])
        if line is None:
            return None
        level = line.start - 0.5 * line.fall
        start = median(state.head) if state.head else level
        if level < self.least_level or start - (line.start - line.fall) > max(
            self.fallen * level, 1.5 * (recent.noise or line.noise)
        ):
            return None
        if line.fall > max(self.errors * line.error, self.nothing * level):
            return None
        # A loss that rises is no standstill either: the weights move.
        if -line.fall > max(self.rise_errors * line.error, self.nothing * level):
            return None
        if max(line.fall, 0.0) + line.error > self.hidden * level or -line.fall - line.error > self.hidden * level:
            return None
        if any(self._falls(series) for series in signals.evaluations.sets.values()):
            return None
        if live:
            planned = expected_steps(recent)
            if planned is None and recent.count < self.least_unplanned:
                return None
            planned = planned or 4 * (recent.step or 0)
            times = max(1.0, planned / max(recent.step or 0, 1))
            if (max(line.fall, 0.0) + line.error) * times > self.hidden_live * level:
                return None
        return {
            "level": level,
            "start": start,
            "fall": line.fall,
            "error": line.error,
            "noise": line.noise,
            "points": recent.count,
            "values": line.points,
            "learning_rate": rates[-1] if rates else None,
        }

    def _falls(self, series: Series) -> bool:
        """Whether the evaluations of a set fall, which have less noise than training points."""
        line = fall_of([mark.value for mark in series.marks])
        if line is not None:
            return line.fall > max(self.eval_errors * line.error, self.eval_fallen * abs(series.last.value))
        # Too few for a line: from the first to the last, or ever lower, of the same rows.
        values = [mark.value for mark in series.marks]
        ever = len(values) > _FEW and series.rows.alike and all(b < a for a, b in pairwise(values))
        fallen = values[0] - values[-1] > FALLEN * abs(values[-1])
        return series.fell(series.first, series.last) or (ever and fallen)
