"""`level-shift`: the level of the training loss changed at once, and stays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Final

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import Observation, TrainObservation
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.sawtooth import another, lengths_jumped, undone
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.signal.suddenness import at_once, is_ramp, slope_of, trend
from ko_cpt_callbacks.signal.window import Recent, curved_noise, fitted, median, wander

__all__ = ["LevelShift", "LevelShiftState"]

_SHORT: Final = 5  # points of a short median
_STRAIGHT: Final = 40  # points from which second differences tell the noise


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A shift that may be a tooth."""

    values: dict[str, Any]
    at: int
    due: int
    """Points since the window began, when it was seen and when it is to be said if it is still there."""


@dataclass(frozen=True, slots=True)
class LevelShiftState:
    """What was said, and what waits."""

    quiet_until: int = 0
    """No shift is looked for in a window of which this many points are not there yet: it would be the one just said."""
    seam: tuple[int, float, float, int] | None = None
    """The last seam that is still to be judged: its segment, the level and noise before it, and their points."""
    tooth: float = 0.0
    """The last jump that only undid a drift; a later one of its kind is another tooth."""
    doubt: _Doubt | None = None


@dataclass(frozen=True, slots=True)
class LevelShift(Rule):
    """Says that the loss went to another level between two points and stayed there.

    Points after a place are compared with what the window before it expected, a level and a trend. All of them must be
    on one side, at least half as far as their median; the points just before must still be on the old level, and the
    later ones on the new one: a curve that bends is not sudden. One point between the two may be anywhere. A large
    shift is said after ``few`` points, a small one after ``many``.

    Explained, and therefore not said: a fall where the learning rate dropped at once; a small change while it rises; an
    epoch boundary, unless the shift is far larger than what memorising does; a jump that only undoes the drift of the
    last points, or that came before, as the saw-teeth of rows grouped by length do
    (`ko_cpt_callbacks.signal.sawtooth`), or
    with which the tokens per step undo theirs. A ramp over some points is a bend of the curve.

    Across a seam only a fall is said, and a large one: a second run may begin anywhere above.

    All chosen, not measured, but for the noises: a shift is to be seen from about five.

    Args:
        noises: How far a shift must be, in noises of the window before.
        large: From so many noises it is large.
        few: Points after a large one.
        many: Points after a small one.
        window: Points before, at most: a longer piece of a curve is no line.
        least_nats: And at least so many nats,
        least_share: and this share of the level.
        early: A jump within so many points of the start may be the end of a first tooth: as many again are waited for.
        longest: Points that are waited for at most.
        seam_nats: Fall across a seam, nats.
        usual_wander: Where noise wanders more than this (`ko_cpt_callbacks.signal.window.wander`) the shift must be
            larger in proportion,
        worst: up to so many times.
    """

    info: ClassVar = RuleInfo("level-shift", (Severity.WARNING,), (TrainObservation,))

    noises: float = 4.1
    large: float = 8.0
    few: int = 6
    many: int = 9
    window: int = 24
    least_nats: float = 0.02
    least_share: float = 0.008
    early: int = 18
    longest: int = 24
    seam_nats: float = 0.5
    usual_wander: float = 1.35
    worst: float = 1.4

    def initial(self) -> LevelShiftState:
        """No row seen."""
        return LevelShiftState()


    def step(self, state: LevelShiftState, seen: Observation, signals: Signals) -> tuple[LevelShiftState, Found]:
        """Judges a training row."""
        watch, window = signals.watch, signals.window
        if not window.grew:
            return state, ()
        if watch.since == 1:
            state = replace(state, quiet_until=0, tooth=0.0, doubt=None)
        values: dict[str, Any] | None = None
        for count in (self.few, self.many):
            if values is None and watch.since - count - 1 >= state.quiet_until:
                values = self._shift(signals, count)
        shift = 0.0 if values is None else values["shift"]
        if values is not None and shift * state.tooth > 0 and 0.4 < shift / state.tooth < 2.5:
            values = None
        elif values is not None and another(watch.jumps, watch.since - values["points"] + 1, shift, values["before"]):
            values, state = None, replace(state, tooth=shift, quiet_until=watch.since)
        elif values is not None:
            values, state = self._doubted(values, signals, state)
        if values is None and state.doubt is not None:
            doubt = state.doubt
            stays = (watch.middles[-1] - doubt.values["before"]) / doubt.values["shift"] >= 0.6
            if not stays:
                state = replace(state, doubt=None, tooth=doubt.values["shift"])
            elif watch.since >= doubt.due:
                values = {**doubt.values, "points": doubt.values["points"] + watch.since - doubt.at}
                state = replace(state, doubt=None)
        variant = "" if values is None else "up" if values["shift"] > 0 else "down"
        if window.seam:
            state = replace(state, seam=_before(signals))
        elif state.seam is not None and window.count == 2 * _SHORT:
            if values is None:
                values, variant = self._across(signals, state.seam), "seam"
            state = replace(state, seam=None)
        if values is None:
            return state, ()
        finding = Finding(self.code, Severity.WARNING, seen.step, "train", values, variant=variant)
        return replace(state, quiet_until=watch.since), (finding,)

    def _shift(self, signals: Signals, count: int) -> dict[str, Any] | None:
        """The shift before the last ``count`` points, as evidence; None where there is none, or an explained one."""
        recent, middles = signals.window, signals.watch.middles
        losses, jitter = recent.losses, recent.jitter
        if len(losses) < count + 9 or len(middles) < count + 2 or jitter is None:
            return None
        if abs(middles[-1] - middles[-count - 2]) < 3.0 * jitter:
            return None  # what follows would find the same, at ten times the cost
        before, after = losses[: -count - 1], losses[-count:]
        lately = before[-self.window :]
        fit, points = fitted(lately), len(lately)
        # Around a line through a curve the points are farther off than their noise; from one to the next they are not.
        noise = curved_noise(before)
        if len(before) < _STRAIGHT:
            noise = min(fit.noise, noise)
        tail = median(before[-_SHORT:])
        sign = 1.0 if middles[-1] > tail else -1.0
        short = slope_of(before[-12:])
        long = fit.slope if len(before) >= 30 else short
        slope = sign * trend(sign * short, sign * long, sign * slope_of(after))
        base = tail + 3 * slope
        off = [sign * (loss - base - slope * i) for i, loss in enumerate(after)]
        size = median(off)
        unsure = 1 + 2 / points + 32 / points**2  # the fewer points, the less is known of their noise
        needed = max(self.noises * noise * unsure, self.least_nats, self.least_share * abs(base))
        if len(before) >= _STRAIGHT and size < needed * min(
            wander(before[-_STRAIGHT:]) / self.usual_wander, self.worst
        ):
            return None
        if size < needed or (count == self.few and size < self.large * noise):
            return None
        farthest = sorted(off)
        # One of them may be an outlier.
        if farthest[1] < max(0.5 * size, 0.8 * size - 2.0 * noise) or farthest[0] < 0.25 * size:
            return None
        if abs(median(off[count // 2 :]) - median(off[: count // 2])) > 0.25 * size + 1.2 * noise:
            return None
        if sign * (median(before[-3:]) - base) > max(2.0 * noise, 0.2 * size):
            return None
        # Between the levels lies one point, with noise a second: more are a bend.
        around = losses[-count - 4 : 4 - count] if size >= 14 * noise else losses[-count - 3 : 3 - count]
        across, bend = (
            sign * (after[0] - before[-1]),
            max(sign * (before[-1] - before[-3]), sign * (after[2] - after[0])),
        )
        if size >= self.large * noise and across - max(0.0, bend) < 0.4 * size:
            return None
        between = sum(0.22 < sign * (loss - base) / size < 0.78 for loss in around)
        if between > (1 if size >= 14 * noise else 2):
            return None
        if sign < 0 and middles[-1] > min(median(before[i : i + 3]) for i in range(len(before) - 2)) - 0.4 * size:
            return None  # the return from a spike, or from a shift up
        if is_ramp(losses[-count - 6 : -count + 5 or None]):
            return None
        if at_once(before, after, sign) < 0.5 * size or self._explained(recent, count, sign * size, base, noise):
            return None
        shift = sign * size
        return {
            "before": base, "after": base + shift, "shift": shift, "share": shift / base if base else None,
            "noise": noise, "noises": round(size / noise, 1), "threshold": needed, "first_step": recent.steps[-count],
            "points": count, "window": points, "tooth": undone(recent, before, base + shift, shift),
        }  # fmt: skip

    def _explained(self, recent: Recent, count: int, shift: float, base: float, noise: float) -> bool:
        rates = [rate for rate in recent.rates if rate is not None]
        if len(rates) == len(recent.rates):
            lately = rates[-count - 6 :]
            small = abs(shift) < max(self.large * noise, 0.05 * abs(base))
            if small and lately[-1] - lately[0] > 0.02 * recent.rate_peak:
                return True
            drops = [a - b for a, b in pairwise(rates)]
            if shift < 0 and max(drops[-count - 5 :]) > max(0.08 * recent.rate_peak, 4 * median(drops)):
                return True
        if lengths_jumped(recent.paces, count):
            return True
        # Where it jumped, to the point: a log may have few points in an epoch.
        near = range(-count - 3, 3 - count)
        at = max(near, key=lambda i: (recent.losses[i] - recent.losses[i - 1]) * shift)
        return _crosses(recent.epochs[at - 2 : at + 2]) and abs(shift) < max(0.5 * abs(base), 0.5)

    def _doubted(
        self, values: dict[str, Any], signals: Signals, state: LevelShiftState
    ) -> tuple[dict[str, Any] | None, LevelShiftState]:
        """The shift, or a state that waits whether it is a tooth of which the next will come."""
        watch = signals.watch
        back, start = values.pop("tooth"), watch.since - values["points"]
        before = signals.window.losses[: -values["points"] - 1][-40:]
        # A learning curve drifts down: only before a fall is a drift the other way odd.
        drifted = values["shift"] < 0 and 20 * slope_of(before[-30:]) > -0.25 * values["shift"]
        if back is None and start > self.early and not drifted:
            return values, state
        if back == 0 or drifted:
            return None, replace(state, tooth=values["shift"], quiet_until=watch.since)
        wait = start + 3 if back is None else int(0.6 * back)
        due = max(start + min(wait, self.longest), watch.since)
        if due == watch.since:
            return values, state
        return None, replace(state, doubt=_Doubt(values, watch.since, due), quiet_until=watch.since)

    def _across(self, signals: Signals, seam: tuple[int, float, float, int]) -> dict[str, Any] | None:
        segment, level, noise, window = seam
        now = signals.watch.middles[-1]
        shift = now - level
        needed = max(self.seam_nats, self.large * noise)
        if signals.window.segment != segment or shift > -needed:
            return None
        return {
            "before": level, "after": now, "shift": shift, "share": shift / level if level else None, "noise": noise,
            "noises": round(abs(shift) / noise, 1), "threshold": needed, "first_step": signals.window.steps[0],
            "points": signals.watch.since, "window": window,
        }  # fmt: skip


def _before(signals: Signals) -> tuple[int, float, float, int] | None:
    past = signals.past
    if past.noise is None or len(past.losses) < 2 * _SHORT:
        return None
    return signals.window.segment, median(past.losses[-_SHORT:]), past.noise, len(past.losses)


def _crosses(epochs: tuple[float | None, ...]) -> bool:
    """Whether an epoch ends within these points."""
    known = [epoch for epoch in epochs if epoch is not None]
    return len(known) > 1 and int(known[0] + 1e-6) < int(known[-1] + 1e-6)
