"""`memorising`: the text of the epochs before is recognized, not learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EndObservation, Observation, TrainObservation
from ko_cpt_callbacks.core.retention import is_retention
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.epoch_end import Step, begun, step_at
from ko_cpt_callbacks.signal.evaluations import Evaluations, Mark
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.signal.window import Recent, median

__all__ = ["Memorising", "MemorisingState"]


@dataclass(frozen=True, slots=True)
class MemorisingState:
    """Where the run stands among its epochs, and whether it was said."""

    first: int | None = None
    """Epochs done when the log began; ``None`` before the first row with an epoch."""
    done: int = 0
    """Epochs done now."""
    began: int = 0
    """Training points of the segment before this epoch."""
    each: int = 0
    """Training points of the epoch before."""
    first_level: float | None = None
    """Level of the second half of the first epoch."""
    held: Mapping[str, Mark] = field(default_factory=dict)
    """The evaluation of each set at its end."""
    judged: bool = True
    """Whether the last end of an epoch was."""
    opening: float | None = None
    """Level after the end of an epoch before, as last judged."""
    steps: tuple[tuple[Step, bool], ...] = ()
    """The last ends of epochs, and whether the loss stepped down there."""
    said: bool = False


@dataclass(frozen=True, slots=True)
class Memorising(Rule):
    """Says once that the training loss steps down where epochs end, or is far below its first epoch after many.

    A step is a drop beyond the trend on both sides of an epoch's end that the whole of the new epoch keeps.

    Args:
        retention: Declared names of retention sets, whose evaluations do not count.
    """

    info: ClassVar = RuleInfo("memorising", (Severity.WARNING,), (TrainObservation, EndObservation))

    ends: int = limits.STEP_ENDS
    drop: float = limits.STEP_DROP
    drop_errors: float = limits.STEP_DROP_ERRORS
    deviations: float = limits.STEP_DEVIATIONS
    least_drop: float = limits.STEP_LEAST
    kept: float = limits.STEP_KEPT
    far: float = limits.FAR_BELOW
    many: int = limits.FAR_EPOCHS
    fell_along: float = limits.FAR_FELL_ALONG
    beside: float = limits.FAR_BESIDE
    retention: tuple[str, ...] = ()

    def initial(self) -> MemorisingState:
        """No row seen."""
        return MemorisingState()

    def step(self, state: MemorisingState, seen: Observation, signals: Signals) -> tuple[MemorisingState, Found]:
        """Judges a training row."""
        if state.said:
            return state, ()
        if isinstance(seen, TrainObservation):
            if signals.window.seam:
                state = MemorisingState()
            if not signals.window.grew:
                return state, ()
            state = self._counted(state, signals)
            found = self._found(state, signals)
        else:
            found = self.close(state, signals)
        return (replace(state, said=True) if found else state), found

    def close(self, state: MemorisingState, signals: Signals) -> Found:
        """Judges the last end of an epoch by what points there are after it."""
        if state.said or state.judged:
            return ()
        return self._found(self._stepped(state, signals.window, limits.EPOCH_MOST), signals)

    def _counted(self, state: MemorisingState, signals: Signals) -> MemorisingState:
        window = signals.window
        epoch = window.epochs[-1]
        if epoch is None:
            return state
        done, before = begun(epoch), window.count - 1
        if state.first is None:
            return replace(state, first=done, done=done, began=before)
        if done > state.done:
            level, held = state.first_level, state.held
            if level is None:
                level = _later_half(window, state.done)
                held = {name: series.last for name, series in signals.evaluations.sets.items()}
            judged = done != state.done + 1
            state = replace(
                state, done=done, began=before, each=before - state.began, first_level=level, held=held, judged=judged,
                opening=None if judged else state.opening,
            )  # fmt: skip
        most = min(limits.EPOCH_MOST, max(limits.EPOCH_LEAST, state.each // 2))
        # One more than that: the first may be a bit of both epochs.
        if not state.judged and window.count - state.began > most:
            state = self._stepped(state, window, most + 1)
        return state

    def _stepped(self, state: MemorisingState, window: Recent, most: int) -> MemorisingState:
        step = step_at(window, state.done, most)
        if step is None:
            return replace(state, judged=True, opening=None)
        share = step.drop / abs(step.before) if step.before else 0.0
        large = share > self.drop and step.drop > self.drop_errors * step.error
        sure = share > self.least_drop and step.drop > self.deviations * max(step.noise, step.error)
        kept = state.opening is None or state.opening - step.after > self.kept * step.drop
        down = (large or sure) and kept and not step.rate_fell
        steps = (*state.steps, (step, down))[-limits.STEP_REMEMBERED :]
        return replace(state, judged=True, opening=step.after, steps=steps)

    def _found(self, state: MemorisingState, signals: Signals) -> Found:
        window, first = signals.window, state.first_level
        variant, down = "steps", [step for step, is_down in state.steps if is_down]
        if len(down) >= self.ends:
            shares = [step.drop / abs(step.before) for step in down]
            values: dict[str, Any] = {
                "epochs": [step.epoch for step in down], "drops": [step.drop for step in down], "shares": shares,
                "errors": [step.error for step in down], "noise": down[-1].noise, "before": down[-1].before,
                "after": down[-1].after, "last_share": shares[-1], "ends": len(down),
            }  # fmt: skip
        else:
            if first is None or first <= 0.0 or state.done - (state.first or 0) < self.many:
                return ()
            last = window.losses[-limits.FAR_POINTS :]
            variant, level = "far-below", median(last) if last else first
            if level >= self.far * first or self._learns(state, level, signals.evaluations):
                return ()
            values = {
                "level": level, "first_level": first, "share": level / first, "limit": self.far,
                "epochs_done": state.done, "points": len(last),
            }  # fmt: skip
        return (Finding(self.code, Severity.WARNING, window.step, "train", values, variant=variant),)

    def _learns(self, state: MemorisingState, level: float, evaluations: Evaluations) -> bool:
        """Whether an evaluation set has fallen along since the first epoch, or lies no higher than training."""
        for name, series in evaluations.sets.items():
            if is_retention(name, self.retention):
                continue
            then, last = state.held.get(name, series.first), series.last.value
            # Of other rows, or of rows of another level, the first of which there are.
            then = then if then.step >= series.first.step else series.first
            if last < max(self.fell_along * then.value, self.beside * level):
                return True
        return False


def _later_half(window: Recent, done: int) -> float | None:
    """Level of the second half of an epoch, of its last point where there is none; ``None`` where nothing is left."""
    pairs = zip(window.losses, window.epochs, strict=True)
    of = [loss for loss, epoch in pairs if epoch is not None and begun(epoch) == done]
    return median(of[len(of) // 2 :]) if of else None
