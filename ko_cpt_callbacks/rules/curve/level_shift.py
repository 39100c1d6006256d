"""`level-shift`: the level of the training loss changed at once, and stays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo, Wakes
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import Observation, TrainObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.excursion import Watch
from ko_cpt_callbacks.signal.explanation import (
    another_mega_batch,
    epoch_ends,
    lengths_jumped,
    rate_falls,
    rate_rises,
    undone,
    within_saw,
)
from ko_cpt_callbacks.signal.signals import Signals, began_anew, moved
from ko_cpt_callbacks.signal.step_fit import gain_of, step_of
from ko_cpt_callbacks.signal.window import Recent, curved_noise, median

__all__ = ["LevelShift", "LevelShiftState"]


@dataclass(frozen=True, slots=True)
class WaitingShift:
    """A shift that may be a mega-batch's."""

    values: dict[str, Any]
    at: int
    due: int
    """Points since the window began, when it was seen and when it is reported if it is still there."""


@dataclass(frozen=True, slots=True)
class LevelShiftState:
    """What was reported, and what waits."""

    quiet_until: int = 0
    """No shift is looked for in a window of which this many points are not there yet: it would be the last one."""
    seam: tuple[int, float, float, int] | None = None
    """The last seam that is still to be judged: its segment, the level and noise before it, and their points."""
    mega_batch: float = 0.0
    """The last jump that only undid a drift; a later one of its kind is another mega-batch."""
    doubt: WaitingShift | None = None


@dataclass(frozen=True, slots=True)
class LevelShift(Rule):
    """Says that the loss went to another level between two points and stayed there.

    Two lines, before a place and after it (`step_of`), must be apart by ``sure`` standard errors; their slopes must be
    much the same, the points after keep to their side, and no ramp or curve fit as well (`gain_of`). One point between
    the two may be anywhere. A large shift is reported after ``few`` points, a small one after ``many``.

    Explained, and therefore not reported (`ko_cpt_callbacks.signal.explanation`): a fall where the learning rate
    dropped at once; a small change while it rises; an epoch's end, unless the shift is far larger than what memorizing
    does; the return from a spike; a mega-batch of rows grouped by length, or any level that they had. A jump that may
    end the first mega-batch, because it leads back to where the loss began, or down, waits whether the loss drifts
    back, or for the next.

    Across a seam only a fall is reported, and a large one: a second run may begin anywhere above.

    Args:
        sure: Standard errors of its size that a shift must have,
        jitters: and noises as first differences of the whole window tell it,
        gain: and squared noises by which it fits better than what is none.
        large: From so many noises it is large.
        few: Points after a large one.
        many: Points after a small one.
        least_nats: And at least so many nats.
        seam_nats: Fall across a seam, nats.
    """

    info: ClassVar[RuleInfo] = RuleInfo("level-shift", (Severity.WARNING,), (TrainObservation,), place=120)

    sure: float = limits.SHIFT_SURE
    jitters: float = limits.SHIFT_JITTERS
    gain: float = limits.SHIFT_GAIN
    large: float = limits.SHIFT_LARGE
    few: int = limits.SHIFT_FEW
    many: int = limits.SHIFT_MANY
    least_nats: float = limits.SHIFT_NATS
    seam_nats: float = limits.SEAM_NATS

    @property
    def wakes(self) -> Wakes:
        """A row at which the level has moved, or a shift or a seam waits to be judged."""
        far = partial(moved, points=(self.few, self.many), nats=0.5 * self.least_nats)
        return Wakes((began_anew, far), open=("doubt", "seam"))

    def initial(self) -> LevelShiftState:
        """No row seen."""
        return LevelShiftState()

    def step(self, state: LevelShiftState, seen: Observation, signals: Signals) -> tuple[LevelShiftState, Found]:
        """Judges a training row."""
        watch, window = signals.watch, signals.window
        if not window.grew:
            return state, ()
        if watch.since == 1:
            state = LevelShiftState(seam=state.seam)
        values: dict[str, Any] | None = None
        for count in (self.few, self.many):
            if values is None and watch.since - count - 1 >= state.quiet_until:
                values = self._shift(signals, count)
        if values is not None:
            values, state = self._doubted(values, signals, state)
        elif state.doubt is not None:
            values, state = self._settled(watch, state, state.doubt)
        variant = "" if values is None else "up" if values["shift"] > 0 else "down"
        if window.seam:
            state = replace(state, seam=_before(signals))
        elif state.seam is not None and window.count == 2 * limits.SHORT:
            if values is None:
                values, variant = self._across(signals, state.seam), "seam"
            state = replace(state, seam=None)
        if values is None:
            return state, ()
        finding = Finding(self.code, Severity.WARNING, seen.step, "train", values, variant=variant)
        return replace(state, quiet_until=watch.since), (finding,)

    def close(self, state: LevelShiftState, signals: Signals) -> Found:
        """Says the shift that still waits."""
        if state.doubt is None:
            return ()
        values = {**state.doubt.values, "points": state.doubt.values["points"] + signals.watch.since - state.doubt.at}
        variant = "up" if values["shift"] > 0 else "down"
        return (Finding(self.code, Severity.WARNING, signals.window.step, "train", values, variant=variant),)

    def _shift(self, signals: Signals, count: int) -> dict[str, Any] | None:
        """The shift before the last ``count`` points, as evidence; None where there is none, or an explained one."""
        window = signals.window
        losses, jitter = window.losses, window.jitter
        if len(losses) < count + limits.SHIFT_LEAST or jitter is None or len(signals.watch.middles) < count + 2:
            return None
        middles = signals.watch.middles
        if abs(middles[-1] - middles[-count - 2]) < max(jitter, 0.5 * self.least_nats):
            return None  # what follows would find the same, at ten times the cost
        before, after = losses[: -count - 1], losses[-count:]
        noise = curved_noise(before)
        local = losses[-count - 1 - limits.SHIFT_BEFORE :]
        step = step_of(local, count, noise)
        sign, size, base = 1.0 if step.size > 0 else -1.0, abs(step.size), step.before
        needed = max(self.sure * step.error, self.jitters * jitter, self.least_nats)
        moved = sign * (middles[-1] - middles[-count - 2])
        if size < needed or moved < limits.SHIFT_MOVED * noise or (count == self.few and size < self.large * noise):
            return None
        off = sorted(sign * (loss - base - step.slope * i) for i, loss in enumerate(after))
        if off[0] < limits.SHIFT_HELD[0] * size or off[1] < limits.SHIFT_HELD[1] * size:
            return None
        bend = step.bend * count
        if abs(bend) > limits.SHIFT_BEND * size or (sign > 0 and -bend > limits.SHIFT_WANES * size + 2 * noise):
            return None  # another slope, or a spike on its way back
        if gain_of(local, count, noise) < self.gain:
            return None
        lowest = min(median(before[i : i + 3]) for i in range(len(before) - 2))
        if sign < 0 and middles[-1] > lowest - limits.SHIFT_NEW * size:
            return None  # the return from a spike, or from a shift up
        shift = sign * size
        if self._explained(window, count, shift, base, noise):
            return None
        return {
            "before": base, "after": base + shift, "shift": shift, "share": shift / base if base else None,
            "noise": noise, "noises": round(size / noise, 1), "threshold": needed, "first_step": window.steps[-count],
            "points": count, "window": len(local) - count - 1,
        }  # fmt: skip

    def _explained(self, window: Recent, count: int, shift: float, base: float, noise: float) -> bool:
        small = abs(shift) < max(self.large * noise, limits.SHIFT_SMALL * abs(base))
        return (
            (small and rate_rises(window, count))
            or (shift < 0 and rate_falls(window, count))
            or lengths_jumped(window.paces, count)
            or (abs(shift) < limits.EPOCH_NATS * max(abs(base), 1) and epoch_ends(window, count))
        )

    def _doubted(
        self, values: dict[str, Any], signals: Signals, state: LevelShiftState
    ) -> tuple[dict[str, Any] | None, LevelShiftState]:
        """The shift, or a state that waits whether it is a mega-batch's of which the next will come."""
        watch, shift = signals.watch, values["shift"]
        least, most = limits.MEGA_BATCHES_ALIKE
        if shift * state.mega_batch > 0 and least < shift / state.mega_batch < most:
            return None, state
        start = watch.since - values["points"]
        aside = replace(state, mega_batch=shift, quiet_until=watch.since, doubt=None)
        if another_mega_batch(watch.jumps, start + 1, shift, values["before"]):
            return None, aside
        if signals.grouped and within_saw(signals.window, values["points"] + 1, values["after"]):
            return None, aside
        back = undone(signals.window, signals.window.losses[: -values["points"] - 1], values["after"], shift)
        if back:
            return None, aside
        # The first has no more points than a mega-batch has batches. A fall may end one wherever it leads: the loss of
        # a young run falls too, and hides the drift up.
        if start > (limits.MEGA_BATCH_EARLY if back is False and shift > 0 else limits.MEGA_BATCH_LONGEST + 1):
            return values, state
        wait = start + limits.AROUND if start <= limits.MEGA_BATCH_EARLY else limits.MEGA_BATCH_WAIT
        due = max(start + wait, watch.since)
        if due == watch.since:
            return values, state
        return None, replace(state, doubt=WaitingShift(values, watch.since, due), quiet_until=watch.since)

    def _settled(
        self, watch: Watch, state: LevelShiftState, doubt: WaitingShift
    ) -> tuple[dict[str, Any] | None, LevelShiftState]:
        """The shift that waited, once it is due; forgotten once the loss has gone back, or the next mega-batch came."""
        before, shift = doubt.values["before"], doubt.values["shift"]
        again = any(jump.index > doubt.at and 2 * jump.size / shift > 1 for jump in watch.jumps)
        stays, due = (watch.middles[-1] - before) / shift, watch.since >= doubt.due
        drifts = due and shift < 0 and doubt.at - doubt.values["points"] > limits.MEGA_BATCH_EARLY
        if again or stays < (limits.MEGA_BATCH_FALLS if drifts else limits.MEGA_BATCH_STAYS):
            return None, replace(state, doubt=None, mega_batch=shift)
        if not due:
            return None, state
        return {**doubt.values, "points": doubt.values["points"] + watch.since - doubt.at}, replace(state, doubt=None)

    def _across(self, signals: Signals, seam: tuple[int, float, float, int]) -> dict[str, Any] | None:
        segment, level, noise, window = seam
        now = signals.watch.middles[-1]
        shift, needed = now - level, max(self.seam_nats, self.large * noise)
        if signals.window.segment != segment or shift > -needed:
            return None
        return {
            "before": level, "after": now, "shift": shift, "share": shift / level if level else None, "noise": noise,
            "noises": round(abs(shift) / noise, 1), "threshold": needed, "first_step": signals.window.steps[0],
            "points": signals.watch.since, "window": window,
        }  # fmt: skip


def _before(signals: Signals) -> tuple[int, float, float, int] | None:
    past = signals.past
    if past.noise is None or len(past.losses) < 2 * limits.SHORT:
        return None
    return signals.window.segment, median(past.losses[-limits.SHORT :]), past.noise, len(past.losses)
