"""`memorizing`: the text of the epochs before is recognized, not learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo, Wakes
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, Observation, TrainObservation
from ko_cpt_callbacks.run.retention import is_retention
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.evaluations import Evaluations, Mark
from ko_cpt_callbacks.signal.signals import Signals, began_anew, began_epoch, begun, epoch_slack
from ko_cpt_callbacks.signal.trend import line_through
from ko_cpt_callbacks.signal.window import Recent, median

__all__ = ["EpochStep", "Memorizing", "MemorizingState", "begun", "step_at"]

class EpochStep(NamedTuple):
    """What happens at the end of an epoch, in nats per token.

    ``epoch``: epochs done; ``drop``: by how much the loss is lower after it than the trend on both sides explains, with
    standard error; ``noise``: standard deviation of a point; ``before``, ``after``: levels; ``rate_fell``: the learning
    rate fell at the same place, which explains a drop.
    """

    epoch: int
    drop: float
    error: float
    noise: float
    before: float
    after: float
    rate_fell: bool


def step_at(recent: Recent, epoch: int, most: int) -> EpochStep | None:
    """The step at the end of an epoch, from as many points before it as after it; ``None`` for too few.

    Args:
        recent: The window; its last points are those after the end.
        epoch: Epochs done then.
        most: Points on either side.
    """
    at = [(i, one) for i, one in enumerate(recent.epochs) if one is not None]
    after = [i for i, one in at if begun(one) == epoch]
    before = [i for i, one in at if begun(one) == epoch - 1]
    near = [i for i, one in at if epoch_slack(one) == limits.EPOCH_ROUNDED and abs(one - epoch) < limits.EPOCH_ROUNDED]
    if len(near) > 1:
        # Many rows an epoch, and rounded: these are of either epoch.
        after, before = [i for i in after if i not in near], [i for i in before if i not in near]
    elif before and len(after) > limits.EPOCH_LEAST:
        last = recent.epochs[before[-1]]
        # A row that began before the end and was logged after it is a bit of both.
        if last is not None and last < epoch - 2 * epoch_slack(last):
            after = after[1:]
    after, before = after[:most], before[-most:]
    count = min(len(before), len(after))
    if count < limits.EPOCH_LEAST:
        return None
    old, new = ([recent.losses[i] for i in side] for side in (before[-count:], after[:count]))
    line = line_through([*old, *new], broken=True)
    if line is None:
        return None
    # Whether the learning rate fell between two rows by far more than between the rows before them.
    at_end = [recent.rates[i] for i in (max(0, 2 * before[-1] - after[0]), before[-1], after[0])]
    earlier, high, low = (one or 0.0 for one in at_end)
    fell = None not in at_end and high - low > limits.EPOCH_RATE_FELL * high + 2 * max(earlier - high, 0.0)
    return EpochStep(epoch, line.drop, line.drop_error, line.noise, median(old), median(new), fell)


@dataclass(frozen=True, slots=True)
class MemorizingState:
    """Where the run stands among its epochs, and whether it was reported.

    ``epoch``: epochs done, ``began``: points of the segment before this one, ``each``: points of the one before it;
    ``first``: the first epoch in whose course the loss hardly fell, ``level``: of its second half, ``held``: the
    evaluations at its end; ``judged``: whether the last end was, ``opening``: level after the end before, ``steps``:
    the last ends, and whether the loss stepped down there; ``open``: the next row may bring a finding in any case.
    """

    epoch: int | None = None
    began: int = 0
    each: int = 0
    first: int = 0
    level: float | None = None
    held: Mapping[str, Mark] = field(default_factory=dict)
    judged: bool = True
    opening: float | None = None
    steps: tuple[tuple[EpochStep, bool], ...] = ()
    said: bool = False
    open: bool = False


@dataclass(frozen=True, slots=True)
class Memorizing(Rule):
    """Says once that the training loss steps down where epochs end, or is far below its first epoch after many.

    A step is a drop beyond the trend on both sides of an epoch's end that the whole of the new epoch keeps. An epoch in
    whose course the loss falls is one of learning, and is not the first that the later ones are compared with.

    Args:
        retention: Declared names of retention sets, whose evaluations do not count.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "memorizing", (Severity.WARNING,), (TrainObservation, EndObservation), place=210
    )

    ends: int = limits.STEP_ENDS
    drop: float = limits.STEP_DROP
    drop_errors: float = limits.STEP_DROP_ERRORS
    deviations: float = limits.STEP_DEVIATIONS
    least_drop: float = limits.STEP_LEAST
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
        if state.said:
            return state, ()
        found: Found = ()
        if isinstance(seen, EndObservation):
            found = self.close(state, signals)
        else:
            before = state = MemorizingState() if signals.window.seam else state
            if signals.window.grew:
                state = self._counted(state, signals)
            # Nothing is new within the first epochs.
            if state is not before or (state.level is not None and (state.epoch or 0) - state.first >= self.many):
                found = self._found(state, signals)
        if found:
            return replace(state, said=True, open=False), found
        open_now = not state.judged or (state.level is not None and (state.epoch or 0) - state.first >= self.many)
        return (state if state.open == open_now else replace(state, open=open_now)), ()

    def close(self, state: MemorizingState, signals: Signals) -> Found:
        """Judges the last end of an epoch by what points there are after it."""
        if state.said or state.judged:
            return ()
        return self._found(self._stepped(state, signals.window, limits.EPOCH_MOST), signals)

    def _counted(self, state: MemorizingState, signals: Signals) -> MemorizingState:
        window = signals.window
        epoch, before = window.epochs[-1], window.count - 1
        if epoch is None:
            return state
        done, last = begun(epoch), state.epoch
        if last is None:
            return replace(state, epoch=done, began=before, first=done)
        if done > last:
            level, held = state.level, state.held
            if level is None and (halves := _halves(window, last)) and halves[1] >= self.learning * halves[0]:
                level, held = halves[1], {name: series.last for name, series in signals.evaluations.sets.items()}
            state = replace(
                state, epoch=done, began=before, each=before - state.began, first=last if state.level is None else
                state.first, level=level, held=held, judged=False,
            )  # fmt: skip
        if not state.judged:
            most = min(limits.EPOCH_MOST, max(limits.EPOCH_LEAST, state.each // 2))
            # One more than that: the first may be a bit of both epochs.
            if window.count - state.began > most:
                return self._stepped(state, window, most + 1)
        return state

    def _stepped(self, state: MemorizingState, window: Recent, most: int) -> MemorizingState:
        step = step_at(window, state.epoch or 0, most)
        if step is None:
            return replace(state, judged=True, opening=None)
        share = step.drop / abs(step.before) if step.before else 0.0
        large = share > self.drop and step.drop > self.drop_errors * step.error
        sure = share > self.least_drop and step.drop > self.deviations * max(step.noise, step.error)
        kept = state.opening is None or state.opening - step.after > self.kept * step.drop
        down = (large or sure) and kept and not step.rate_fell
        steps = (*state.steps, (step, down))[-limits.STEP_REMEMBERED :]
        return replace(state, judged=True, opening=step.after, steps=steps)

    def _found(self, state: MemorizingState, signals: Signals) -> Found:
        window, first, done = signals.window, state.level, (state.epoch or 0) - state.first
        variant, down = "steps", [step for step, is_down in state.steps if is_down]
        if len(down) >= self.ends:
            shares = [step.drop / abs(step.before) for step in down]
            values: dict[str, Any] = {
                "epochs": [step.epoch for step in down], "drops": [step.drop for step in down], "shares": shares,
                "errors": [step.error for step in down], "noise": down[-1].noise, "before": down[-1].before,
                "after": down[-1].after, "last_share": shares[-1], "ends": len(down),
            }  # fmt: skip
        else:
            last = window.losses[-limits.FAR_POINTS :]
            if first is None or first <= 0.0 or done < self.many or not last:
                return ()
            variant, level = "far-below", median(last)
            if level >= self.far * first or self._learns(state, signals.evaluations):
                return ()
            values = {
                "level": level, "first_level": first, "share": level / first, "limit": self.far,
                "epochs_done": state.epoch, "points": len(last),
            }  # fmt: skip
        return (Finding(self.code, Severity.WARNING, window.step, "train", values, variant=variant),)

    def _learns(self, state: MemorizingState, evaluations: Evaluations) -> bool:
        """Whether an evaluation set has fallen along since the first epoch, or since its rows are those of now."""
        for name, series in evaluations.sets.items():
            then = state.held.get(name, series.first)
            then = then if then.step >= series.first.step else series.first
            if series.last.value < self.fell_along * then.value and not is_retention(name, self.retention):
                return True
        return False


def _halves(window: Recent, done: int) -> tuple[float, float] | None:
    """Levels of the first and the second half of an epoch, as far as the window has it; ``None`` where it has not."""
    pairs = zip(window.losses, window.epochs, strict=True)
    of = [loss for loss, epoch in pairs if epoch is not None and begun(epoch) == done]
    late = of[len(of) // 2 :]
    return (median(of[: len(of) // 2] or late), median(late)) if of else None
