"""`memorizing`: the text of the epochs before is recognized, not learned from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo, Wakes
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import Observation, TrainObservation
from ko_cpt_callbacks.run.retention import is_retention
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.excursion import rate_falls
from ko_cpt_callbacks.signal.fit import line_through, median
from ko_cpt_callbacks.signal.signals import Signals, began_anew, began_epoch, begun
from ko_cpt_callbacks.signal.window import Recent

__all__ = ["EpochStep", "Memorizing", "MemorizingState", "step_at"]


class EpochStep(NamedTuple):
    """What happens at the end of an epoch, in nats per token.

    ``epoch``: epochs done; ``drop``: by how much the loss is lower after it than the trend on both sides explains, with
    standard error; ``noise``: standard deviation of a point; ``before``, ``after``: levels.
    """

    epoch: int
    drop: float
    error: float
    noise: float
    before: float
    after: float


def step_at(recent: Recent, epoch: int, most: int) -> EpochStep | None:
    """The step at the end of an epoch, from as many points before it as after it; ``None`` for too few.

    Args:
        recent: The window; its last points are those after the end.
        epoch: Epochs done then.
        most: Points on either side.
    """
    before, after = _losses_of(recent, epoch - 1), _losses_of(recent, epoch)
    last = max((at for at in recent.epochs if at is not None and begun(at) == epoch - 1), default=0.0)
    if len(after) > limits.EPOCH_LEAST and last < epoch - limits.EPOCH_EXACT:
        after = after[1:]  # a row that began before the end and was logged after it is a bit of both
    count = min(len(before), len(after), most)
    line = line_through([*before[-count:], *after[:count]], broken=True) if count >= limits.EPOCH_LEAST else None
    if line is None:
        return None
    return EpochStep(epoch, line.drop, line.drop_error, line.noise, median(before[-count:]), median(after[:count]))


def _losses_of(window: Recent, done: int) -> list[float]:
    """The losses of an epoch, as far as the window has them."""
    pairs = zip(window.losses, window.epochs, strict=True)
    return [loss for loss, epoch in pairs if epoch is not None and begun(epoch) == done]


@dataclass(frozen=True, slots=True)
class MemorizingState:
    """Where the run stands among its epochs, and whether it was reported.

    ``epoch``: epochs done, ``began``: points of the segment before this one, ``each``: points of the one before it;
    ``first``: the first epoch in whose course the loss hardly fell, ``level``: of its second half; ``opening``: level
    after the end before, ``steps``: the last ends, and whether the loss stepped down there; ``open``: the next row may
    bring a finding in any case.
    """

    epoch: int | None = None
    began: int = 0
    each: int = 0
    first: int = 0
    level: float | None = None
    opening: float | None = None
    steps: tuple[tuple[EpochStep, bool], ...] = ()
    said: bool = False
    open: bool = False


@dataclass(frozen=True, slots=True)
class Memorizing(Rule):
    """Says once that the training loss steps down where epochs end, or is far below its first epoch after many.

    A step is a drop beyond the trend on both sides of an epoch's end that the whole of the new epoch keeps. An epoch in
    whose course the loss falls is one of learning, and is not the first that the later ones are compared with. Where an
    evaluation set has fallen along, the model learns.

    Args:
        retention: Declared names of retention sets, whose evaluations do not count.
    """

    info: ClassVar[RuleInfo] = RuleInfo("memorizing", (Severity.WARNING,), (TrainObservation,), place=210)

    ends: int = limits.STEP_ENDS
    drop: float = limits.STEP_DROP
    drop_errors: float = limits.STEP_DROP_ERRORS
    kept: float = limits.STEP_KEPT
    learning: float = limits.FAR_LEARNING
    far: float = limits.FAR_BELOW
    many: int = limits.FAR_EPOCHS
    fell_along: float = limits.FAR_FELL_ALONG
    retention: tuple[str, ...] = ()

    @property
    def wakes(self) -> Wakes:
        """A row that begins an epoch, those until its begin is judged, and each after many epochs."""
        return Wakes((began_anew, began_epoch), open=("open",))

    def initial(self) -> MemorizingState:
        """No row seen."""
        return MemorizingState()

    def step(self, state: MemorizingState, seen: Observation, signals: Signals) -> tuple[MemorizingState, Found]:
        """Judges a training row."""
        window = signals.window
        if state.said:
            return state, ()
        state = MemorizingState() if window.seam else state
        epoch = window.epochs[-1] if window.grew else None
        if epoch is None:
            return state, ()
        done = begun(epoch)
        if state.epoch is None or done > state.epoch:
            state = self._begins(state, window, done)
        points = window.count - state.began
        enough, many = min(limits.EPOCH_MOST, max(limits.EPOCH_LEAST, state.each // 2)), done - state.first >= self.many
        state = replace(state, open=(state.each > 0 and points <= enough) or (many and state.level is not None))
        if state.each and points == enough + 1:  # the first of them may be of both epochs
            state = self._stepped(state, window, points)
            down = [step for step, is_down in state.steps if is_down]
            if len(down) >= self.ends:
                return replace(state, said=True, open=False), self._found("steps", window, _evidence(down))
        if not many or not state.level:
            return state, ()
        level = median(window.losses[-limits.FAR_POINTS :])
        if level >= self.far * state.level or self._learns(signals):
            return state, ()
        values = {
            "level": level, "first_level": state.level, "share": level / state.level, "limit": self.far,
            "epochs_done": done, "points": min(limits.FAR_POINTS, len(window.losses)),
        }  # fmt: skip
        return replace(state, said=True, open=False), self._found("far-below", window, values)

    def _begins(self, state: MemorizingState, window: Recent, done: int) -> MemorizingState:
        """The state where another epoch begins."""
        before, first, level = window.count - 1, state.first, state.level
        if state.epoch is None:
            return replace(state, epoch=done, began=before, first=done)
        losses = _losses_of(window, state.epoch)
        if level is None and losses:
            half = len(losses) // 2
            late = median(losses[half:])
            first, level = state.epoch, late if late >= self.learning * median(losses[:half] or losses) else None
        return replace(state, epoch=done, began=before, each=before - state.began, first=first, level=level)

    def _stepped(self, state: MemorizingState, window: Recent, points: int) -> MemorizingState:
        """The state after the end of an epoch was judged."""
        step = step_at(window, state.epoch or 0, points)
        if step is None:
            return replace(state, opening=None)
        large = step.drop > max(self.drop * abs(step.before), self.drop_errors * step.error)
        kept = state.opening is None or state.opening - step.after > self.kept * step.drop
        down = large and kept and not rate_falls(window, points)
        steps = (*state.steps, (step, down))[-limits.STEP_REMEMBERED :]
        return replace(state, opening=step.after, steps=steps)

    def _learns(self, signals: Signals) -> bool:
        """Whether an evaluation set has fallen along since its first evaluation."""
        return any(
            series.last.value < self.fell_along * series.first.value and not is_retention(name, self.retention)
            for name, series in signals.evaluations.sets.items()
        )

    def _found(self, variant: str, window: Recent, values: dict[str, Any]) -> Found:
        return (Finding(self.code, Severity.WARNING, window.step, "train", values, variant=variant),)


def _evidence(down: list[EpochStep]) -> dict[str, Any]:
    shares = [step.drop / abs(step.before) for step in down]
    return {
        "epochs": [step.epoch for step in down], "drops": [step.drop for step in down], "shares": shares,
        "errors": [step.error for step in down], "noise": down[-1].noise, "before": down[-1].before,
        "after": down[-1].after, "last_share": shares[-1], "ends": len(down),
    }  # fmt: skip
