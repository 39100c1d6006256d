"""`level-shift`: the level of the training loss changed at once, and stays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo, Wakes
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import Observation, TrainObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.excursion import (
    epoch_ends,
    first_mega_batch,
    mega_batch,
    paces_differ,
    rate_falls,
    rate_rises,
)
from ko_cpt_callbacks.signal.fit import curved_noise, gain_of, median, step_of
from ko_cpt_callbacks.signal.signals import Signals, began_anew, moved
from ko_cpt_callbacks.signal.window import Recent

__all__ = ["LevelShift", "LevelShiftState"]


@dataclass(frozen=True, slots=True)
class LevelShiftState:
    """What was found, and what waits.

    Args:
        quiet_until: No shift is looked for in a window of which this many points are not there yet: it would be the
            last one.
        seam: Level, noise and points before the last seam, which is still to be judged.
        mega_batch: The last shift that was a mega-batch's; one up to twice as large is that of another.
        doubt: A shift that may be a mega-batch's, and the points of the window before it.
    """

    quiet_until: int = 0
    seam: tuple[float, float, int] | None = None
    mega_batch: float = 0.0
    doubt: tuple[dict[str, Any], int] | None = None


@dataclass(frozen=True, slots=True)
class LevelShift(Rule):
    """Says that the loss went to another level between two points and stayed there.

    Two lines, before a place and after it (`step_of`), must be apart by ``sure`` standard errors; the points after keep
    to their side, and no ramp or curve fits as well (`gain_of`). One point between the two may be anywhere. A large
    shift is reported after ``few`` points, a small one after ``many``.

    Explained, and therefore not reported (`ko_cpt_callbacks.signal.excursion`): a fall where the learning rate
    dropped at once; a change while it rises; an epoch's end; the return from a spike; a mega-batch of rows grouped by
    length, which leads back to where the loss drifted from. The end of the first may be any jump of a young run: it
    waits whether the loss stays, or for the next.

    Across a seam only a fall is reported, and a large one: a second run may begin anywhere above.
    """

    info: ClassVar[RuleInfo] = RuleInfo("level-shift", (Severity.WARNING,), (TrainObservation,), place=120)

    sure: float = limits.SHIFT_SURE
    jitters: float = limits.SHIFT_JITTERS
    gain: float = limits.SHIFT_GAIN
    large: float = limits.SHIFT_LARGE
    few: int = limits.SHIFT_FEW
    many: int = limits.SHIFT_MANY
    seam_nats: float = limits.SEAM_NATS

    @property
    def wakes(self) -> Wakes:
        """A row at which the level has moved, or a shift or a seam waits to be judged."""
        # The short median moves by less than the lines are apart. Asked at every row, on seeds 0 to 6 and 10 to 16, the
        # rule found no shift more.
        far = partial(moved, points=(self.few, self.many), noises=0.5 * self.jitters)
        return Wakes((began_anew, far), open=("doubt", "seam"))

    def initial(self) -> LevelShiftState:
        """No row seen."""
        return LevelShiftState()

    def step(self, state: LevelShiftState, seen: Observation, signals: Signals) -> tuple[LevelShiftState, Found]:
        """Judges a training row."""
        watch, window = signals.watch, signals.window
        if not window.grew:
            return state, ()
        if window.seam:
            return LevelShiftState(seam=_before(signals.past)), ()
        if watch.since == 1:
            state = LevelShiftState(seam=state.seam)
        if state.seam is not None and window.count == 2 * limits.SHORT:
            return replace(state, seam=None), self._across(signals, *state.seam)
        for count in (self.few, self.many):
            start = watch.since - count
            if start <= state.quiet_until or (values := self._shift(signals, count)) is None:
                continue
            state = replace(state, quiet_until=watch.since, doubt=None)
            shift, levels = values["shift"], watch.middles[: -count - 1]
            grouped = mega_batch(levels, values["after"], shift, declared=signals.groups_by_length)
            if grouped or first_mega_batch(window, count, levels, shift):
                return replace(state, mega_batch=shift), ()
            if state.mega_batch and 0 < shift / state.mega_batch < 2:
                return state, ()
            # A fall may end a first mega-batch wherever it leads: a young run's own fall hides the drift.
            if start <= (limits.MEGA_BATCH_EARLY if shift > 0 else limits.MEGA_BATCH_LONGEST + 1):
                return replace(state, doubt=(values, start)), ()
            return state, self._said(signals, values)
        if state.doubt is None:
            return state, ()
        values, start = state.doubt
        shift = values["shift"]
        early = start <= limits.MEGA_BATCH_EARLY
        due = watch.since >= start + (start + limits.AROUND if early else limits.MEGA_BATCH_WAIT)
        least = limits.MEGA_BATCH_FALLS if due and shift < 0 and not early else limits.MEGA_BATCH_STAYS
        again = (median(window.losses[-3:]) - median(window.losses[-6:-3])) / shift > limits.MEGA_BATCH_STAYS
        if again or (watch.middles[-1] - values["before"]) / shift < least:
            return replace(state, doubt=None, mega_batch=shift), ()
        if not due:
            return state, ()
        return replace(state, doubt=None, quiet_until=watch.since), self._waited(signals, state.doubt)

    def close(self, state: LevelShiftState, signals: Signals) -> Found:
        """Says the shift that still waits."""
        return () if state.doubt is None else self._waited(signals, state.doubt)

    def _waited(self, signals: Signals, doubt: tuple[dict[str, Any], int]) -> Found:
        return self._said(signals, {**doubt[0], "points": signals.watch.since - doubt[1]})

    def _said(self, signals: Signals, values: dict[str, Any], variant: str = "") -> Found:
        variant = variant or ("up" if values["shift"] > 0 else "down")
        return (Finding(self.code, Severity.WARNING, signals.window.step, "train", values, variant=variant),)

    def _shift(self, signals: Signals, count: int) -> dict[str, Any] | None:
        """The shift before the last ``count`` points, as evidence; None where there is none, or an explained one."""
        window, middles = signals.window, signals.watch.middles
        losses, jitter = window.losses, window.jitter
        if len(losses) < count + limits.SHIFT_LEAST or jitter is None:
            return None
        before, after = losses[: -count - 1], losses[-count:]
        noise = curved_noise(before)
        local = losses[-count - 1 - limits.SHIFT_BEFORE :]
        step = step_of(local, count, noise)
        sign, size, base = 1.0 if step.size > 0 else -1.0, abs(step.size), step.before
        needed = max(self.sure * step.error, self.jitters * jitter)
        if size < needed or (count == self.few and size < self.large * noise):
            return None
        if sign * (middles[-1] - middles[-count - 2]) < limits.SHIFT_MOVED_NOISES * noise:
            return None  # the line only makes up for its slope
        off = sorted(sign * (loss - base - step.slope * i) for i, loss in enumerate(after))
        bend = step.bend * count
        if abs(bend) > limits.SHIFT_BEND * size or (sign > 0 and -bend > limits.SHIFT_WANES * size + 2 * noise):
            return None  # another slope, or a spike on its way back
        if off[0] < limits.SHIFT_HELD[0] * size or off[1] < limits.SHIFT_HELD[1] * size:
            return None
        if gain_of(local, count, noise) < self.gain:
            return None
        lowest = min(median(before[i : i + 3]) for i in range(len(before) - 2))
        if sign < 0 and middles[-1] > lowest - limits.SHIFT_NEW * size:
            return None  # the return from a spike, or from a shift up
        if _explained(window, count, step.size, base, self.large * noise):
            return None
        return _values(base, step.size, noise, needed, window.steps[-count], count, len(local) - count - 1)

    def _across(self, signals: Signals, level: float, noise: float, points: int) -> Found:
        """The fall across a seam."""
        shift, needed = signals.watch.middles[-1] - level, max(self.seam_nats, self.large * noise)
        if shift > -needed:
            return ()
        values = _values(level, shift, noise, needed, signals.window.steps[0], signals.watch.since, points)
        return self._said(signals, values, "seam")


def _before(past: Recent) -> tuple[float, float, int] | None:
    if past.noise is None or len(past.losses) < 2 * limits.SHORT:
        return None
    return median(past.losses[-limits.SHORT :]), past.noise, len(past.losses)


def _explained(window: Recent, count: int, shift: float, base: float, large: float) -> bool:
    """Whether something explains a shift; what is ``large``, nats, or half of the level has another reason."""
    size, level = abs(shift), abs(base)
    return (
        (size < max(large, limits.SHIFT_SMALL * level) and rate_rises(window, count))
        or (shift < 0 and rate_falls(window, count))
        or paces_differ(window.paces, count)
        or (size < limits.EPOCH_NATS * max(level, 1) and epoch_ends(window, count))
    )


def _values(
    before: float, shift: float, noise: float, needed: float, step: int, points: int, window: int
) -> dict[str, Any]:
    return {
        "before": before, "after": before + shift, "shift": shift, "share": shift / before if before else None,
        "noise": noise, "noises": round(abs(shift) / noise, 1), "threshold": needed, "first_step": step,
        "points": points, "window": window,
    }  # fmt: skip
