"""`memorising`: the text of the epochs before is recognised, not learned from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EndObservation, EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.core.progress import EvalPoint
from ko_cpt_callbacks.core.retention import is_retention
from ko_cpt_callbacks.core.same_rows import NO_ROWS, EvalRows
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.epoch_end import LEAST, MOST, Step, begun, step_at
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.signal.window import Recent, median

__all__ = ["Memorising", "MemorisingState"]

_REMEMBERED = 3
_NOW = 5


@dataclass(frozen=True, slots=True)
class Epochs:
    """Where the run stands among its epochs.

    Args:
        first: Epochs done when the log began; ``None`` before the first row with an epoch.
        done: Epochs done now.
        points: Training points of this epoch so far.
        each: Of the epoch before.
        first_level: Level of the second half of the first epoch.
        judged: Whether the last end of an epoch was.
        opening: Level after the end of an epoch before, as last judged.
        steps: The last ends of epochs, and whether the loss stepped down there.
    """

    first: int | None = None
    done: int = 0
    points: int = 0
    each: int = 0
    first_level: float | None = None
    judged: bool = True
    opening: float | None = None
    steps: tuple[tuple[Step, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class MemorisingState:
    """The epochs, evaluations, and whether it was said.

    ``evals``: per set its evaluation nearest the end of the first epoch, or the first of the rows that are evaluated
    now, and the last; ``rows``: which rows they are of.
    """

    epochs: Epochs = Epochs()
    evals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    rows: Mapping[str, EvalRows] = field(default_factory=dict)
    said: bool = False


@dataclass(frozen=True, slots=True)
class Memorising(Rule):
    """Says once that the training loss steps down where epochs end, or is far below its first epoch after many.

    A step is a drop beyond the trend on both sides of an epoch's end that the whole of the new epoch keeps: rows
    grouped by length fall there too, and rise again within the epoch.

    Args:
        ends: Ends of epochs, of the last three, at which the loss steps down.
        drop: A share of the level. Chosen: a public run (STYLE of three epochs) drops by 15 to 20 %.
        drop_errors: And so many standard errors. Chosen, not measured.
        deviations: Or so many standard deviations of a point, which may be less. Chosen, not measured.
        least_drop: But not less than this share of the level: small steps are what several epochs are for (up to four
            are as good as new text, arXiv 2305.16264). Chosen, not measured.
        kept: Share of the drop by which the epoch begins lower than the one before. Chosen, not measured.
        far: Far below is below this share of the first epoch's level. Chosen, not measured.
        many: Epochs after the first that are many. Chosen, not measured: see ``least_drop``.
        fell_along: An evaluation set that fell to this share of what it was then makes it learning. Chosen.
        retention: Declared names of retention sets, whose evaluations do not count for that.
    """

    info: ClassVar = RuleInfo("memorising", (Severity.WARNING,), (TrainObservation, EvalObservation, EndObservation))

    ends: int = 2
    drop: float = 0.07
    drop_errors: float = 2.0
    deviations: float = 2.5
    least_drop: float = 0.03
    kept: float = 0.5
    far: float = 0.5
    many: int = 4
    fell_along: float = 0.7
    retention: tuple[str, ...] = ()

    def initial(self) -> MemorisingState:
        """No row seen."""
        return MemorisingState()

    def step(self, state: MemorisingState, seen: Observation, signals: Signals) -> tuple[MemorisingState, Found]:
        """Judges a training row; notes an evaluation."""
        if isinstance(seen, EndObservation):
            found = self.close(state, signals)
            return (replace(state, said=True) if found else state), found
        if isinstance(seen, EvalObservation):
            return self._evaluated(state, seen), ()
        window, epochs, evals = signals.window, state.epochs, state.evals
        if window.segment != signals.past.segment:
            epochs, evals = Epochs(), {}
        if window.grew:
            epochs = self._counted(epochs, window)
        state = MemorisingState(epochs, evals, state.rows, state.said)
        found = () if state.said else self._found(state, window)
        return (replace(state, said=True) if found else state), found

    def close(self, state: MemorisingState, signals: Signals) -> Found:
        """Judges the last end of an epoch by what points there are after it."""
        if state.said or state.epochs.judged:
            return ()
        window = signals.window
        return self._found(replace(state, epochs=self._stepped(state.epochs, window, MOST)), window)

    def _counted(self, epochs: Epochs, recent: Recent) -> Epochs:
        epoch = recent.epochs[-1]
        if epoch is None:
            return epochs
        done = begun(epoch)
        if epochs.first is None:
            return replace(epochs, first=done, done=done, points=1)
        if done > epochs.done:
            level = epochs.first_level
            if level is None:
                level = _later_half(recent, epochs.done)
            judged = done != epochs.done + 1
            epochs = replace(
                epochs, done=done, points=1, each=epochs.points, first_level=level, judged=judged,
                opening=None if judged else epochs.opening,
            )  # fmt: skip
        elif done == epochs.done:
            epochs = Epochs(
                epochs.first, done, epochs.points + 1, epochs.each, epochs.first_level, epochs.judged, epochs.opening,
                epochs.steps,
            )  # fmt: skip
        most = min(MOST, max(LEAST, epochs.each // 2))
        # One more than that: the first may be a bit of both epochs.
        if not epochs.judged and epochs.points > most:
            epochs = self._stepped(epochs, recent, most + 1)
        return epochs

    def _stepped(self, epochs: Epochs, recent: Recent, most: int) -> Epochs:
        step = step_at(recent, epochs.done, most)
        if step is None:
            return replace(epochs, judged=True, opening=None)
        share = step.drop / abs(step.before) if step.before else 0.0
        large = share > self.drop and step.drop > self.drop_errors * step.error
        sure = step.drop > max(self.deviations * step.noise, self.deviations * step.error) and share > self.least_drop
        kept = epochs.opening is None or epochs.opening - step.after > self.kept * step.drop
        down = (large or sure) and kept and not step.rate_fell
        steps = (*epochs.steps, (step, down))[-_REMEMBERED:]
        return replace(epochs, judged=True, opening=step.after, steps=steps)

    def _evaluated(self, state: MemorisingState, seen: EvalObservation) -> MemorisingState:
        point = EvalPoint.of(seen)
        if point is None or point.value is None or not point.finite or is_retention(seen.split, self.retention):
            return state
        rows = state.rows.get(seen.split, NO_ROWS).add(seen)
        first = state.evals.get(seen.split, (point.value, 0.0))[0]
        if state.epochs.first_level is None or rows.anew:
            first = point.value
        evals = {**state.evals, seen.split: (first, point.value)}
        return replace(state, evals=evals, rows={**state.rows, seen.split: rows})

    def _found(self, state: MemorisingState, recent: Recent) -> Found:
        epochs = state.epochs
        down = [step for step, is_down in epochs.steps if is_down]
        if len(down) >= self.ends:
            values: dict[str, Any] = {
                "epochs": [step.epoch for step in down],
                "drops": [step.drop for step in down],
                "shares": [step.drop / abs(step.before) for step in down],
                "errors": [step.error for step in down],
                "noise": down[-1].noise,
                "before": down[-1].before,
                "after": down[-1].after,
                "last_share": down[-1].drop / abs(down[-1].before),
                "ends": len(down),
            }
            return (Finding(self.code, Severity.WARNING, recent.step, "train", values, variant="steps"),)
        first = epochs.first_level
        if first is None or first <= 0.0 or epochs.done - (epochs.first or 0) < self.many or not recent.losses:
            return ()
        level = median(recent.losses[-_NOW:])
        if level >= self.far * first or any(last < self.fell_along * then for then, last in state.evals.values()):
            return ()
        values = {
            "level": level,
            "first_level": first,
            "share": level / first,
            "limit": self.far,
            "epochs_done": epochs.done,
            "points": min(_NOW, len(recent.losses)),
        }
        return (Finding(self.code, Severity.WARNING, recent.step, "train", values, variant="far-below"),)


def _later_half(recent: Recent, done: int) -> float | None:
    """Level of the second half of an epoch, of its last point where there is none; ``None`` where nothing is left."""
    of = [
        loss
        for loss, epoch in zip(recent.losses, recent.epochs, strict=True)
        if epoch is not None and begun(epoch) == done and math.isfinite(epoch)
    ]
    if not of:
        return None
    return median(of[len(of) // 2 :])
