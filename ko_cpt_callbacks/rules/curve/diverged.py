"""`diverged`: the training loss left its level and does not come back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo, Wakes
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import Observation, TrainObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.evaluations import Evaluations
from ko_cpt_callbacks.signal.excursion import Low, Watch
from ko_cpt_callbacks.signal.explanation import begins_mega_batch, paces_differ, undone, within_saw
from ko_cpt_callbacks.signal.signals import Signals, risen
from ko_cpt_callbacks.signal.window import median

__all__ = ["Diverged", "DivergedState"]


@dataclass(frozen=True, slots=True)
class DivergedState:
    """The segment of which it was reported that it diverged."""

    said: int | None = None
    shifted: tuple[Low, float] | None = None
    """A shift of the level since it was lowest, nats: another rule's, and not to be counted here."""


@dataclass(frozen=True, slots=True)
class Diverged(Rule):
    """Says once per segment that the loss is far above its lowest level and stays there, or goes on rising.

    The level is a short median; the lowest is looked for since the start, the last seam, or the last restart of the
    learning rate. The rise must be larger than any bump that comes back: more so while the learning rate warms up
    or has just done so (`Watch.young`). That it does not come back is reported

    * when the level has been rising for ``rising`` points and still does, or for ``climbing`` points ever faster and
      to twice the height, or
    * when the points have been in the upper half of the rise for ``staying`` points, and the level does not fall, or
    * when it swings up and down, mostly up, over ``swinging`` points.

    A level that changed between two points and then goes on as before is a shift of the level (`level-shift`), not a
    divergence, unless it is by more than ``shift_nats``. Nor is a rise beside which an evaluation set is better than
    ever. With rows grouped by length the loss jumps up at each mega-batch and drifts back: within so many points of a
    jump, and not above where it led, that is one.

    All chosen, not measured: healthy runs of the labeled suite rise by up to 0.5 nats in a warm-up and by less
    than 0.15 afterwards; spikes of 20 points are back before.

    Args:
        noises: Height of the rise in noises of the time of the lowest level,
        nats: and at least in nats per token,
        swings: and so many times the largest rise so far that went back by itself,
        young_nats: and while the run is young.
        rising: Points since the level was within a fifth of the rise.
        staying: Points in the upper half of the rise.
        swinging: Points of which more than half are up, and some of the last.
        climbing: Points since the level was within a fifth of the rise, where it rises ever faster.
        shift_nats: Nats up to which a change between two points is a shift.
        beside: Share of the rise that the training points beside an evaluation must have, which is the best of its set:
            then the model gets better, and what it is trained on is harder than what it was lowest on.
        short: In a log of no more points than this a rise of three times what is needed is huge, and needs only
        short_rising: so many points,
        short_staying: or so many.
    """

    info: ClassVar[RuleInfo] = RuleInfo("diverged", (Severity.ERROR,), (TrainObservation,), may_stop=True, place=110)

    noises: float = limits.DIVERGED_NOISES
    nats: float = limits.DIVERGED_NATS
    swings: float = limits.DIVERGED_SWINGS
    young_nats: float = limits.DIVERGED_YOUNG_NATS
    rising: int = limits.DIVERGED_RISING
    staying: int = limits.DIVERGED_STAYING
    swinging: int = limits.DIVERGED_SWINGING
    climbing: int = limits.DIVERGED_CLIMBING
    shift_nats: float = limits.DIVERGED_SHIFT_NATS
    beside: float = limits.DIVERGED_BESIDE
    short: int = limits.DIVERGED_SHORT
    short_rising: int = limits.DIVERGED_SHORT_RISING
    short_staying: int = limits.DIVERGED_SHORT_STAYING

    @property
    def wakes(self) -> Wakes:
        """A row at which the loss is far enough above its lowest level."""
        return Wakes((partial(risen, nats=self.nats),))

    def initial(self) -> DivergedState:
        """No row seen."""
        return DivergedState()

    def step(self, state: DivergedState, seen: Observation, signals: Signals) -> tuple[DivergedState, Found]:
        """Judges a training row."""
        watch, window = signals.watch, signals.window
        low, middles = watch.low, watch.middles
        if not window.grew or low is None or state.said == window.segment or watch.since < limits.SOAR_POINTS:
            return state, ()
        if state.shifted is not None and state.shifted[0] != low:
            state = replace(state, shifted=None)
        lowest = low.level + (0.0 if state.shifted is None else state.shifted[1])
        height = middles[-1] - lowest
        if height < self.nats:
            return state, ()
        noise = low.noise if low.noise is not None else window.jitter or 0.0
        least = self.young_nats if watch.young else self.nats
        needed = max(least, self.noises * noise, self.swings * watch.swing)
        if height < needed:
            return state, ()
        losses = window.losses
        after = losses[-(watch.since - low.index + 1) :]
        soars = _soars(losses, watch.since, low)
        variant = "rising" if soars else self._variant(after, watch, lowest, height, needed)
        if variant == "staying" and (shift := self._shift(losses, height)) is not None:
            return replace(state, shifted=(low, lowest - low.level + shift)), ()
        if variant is None or _within_mega_batch(signals, low, height):
            return state, ()
        if paces_differ(window.paces, min(watch.since - low.index, limits.NEAR)):
            return state, ()
        if self._improves(signals.evaluations, low, lowest + self.beside * height):
            return state, ()
        values = {
            "level": middles[-1], "lowest": low.level, "lowest_step": low.step, "rise": height, "noise": noise,
            "threshold": needed, "points": watch.since - low.index, "window": limits.SHORT,
            "first": watch.first,
        }  # fmt: skip
        finding = Finding(self.code, Severity.ERROR, seen.step, "train", values, asks_to_stop=True, variant=variant)
        return replace(state, said=window.segment), (finding,)

    def _variant(
        self, after: tuple[float, ...], watch: Watch, lowest: float, height: float, needed: float
    ) -> str | None:
        """How the loss stays away: ``rising``, ``staying``, ``swinging``, or none of them yet."""
        middles = watch.middles
        if len(middles) < self.short_rising:
            return None
        began = min(limits.DIVERGED_BEGAN * height, limits.DIVERGED_BEGAN_NEEDED * needed)
        up = _since_below(middles, lowest + began)
        rising = self.rising
        staying = min(self.staying, len(middles) - 1)
        if height >= limits.DIVERGED_HUGE * needed and watch.since <= self.short:
            rising, staying = self.short_rising, min(self.short_staying, staying)
        goes_on = limits.DIVERGED_GOES_ON * height
        if up >= rising and middles[-1] - middles[-4] >= goes_on and middles[-1] >= max(middles[-up:]):
            return "rising"
        if up >= self.climbing and height >= 2 * needed and _ever_faster(middles, up, height):
            return "rising"
        half = lowest + 0.5 * height
        if up >= staying and len(after) >= staying and sum(loss < half for loss in after[-staying:]) <= 1:
            return "staying" if middles[-1] >= middles[-9:][0] - limits.DIVERGED_EASES * height else None
        lately = after[-self.swinging :]
        away = [loss > lowest + needed for loss in lately]
        mostly = sum(away) >= limits.DIVERGED_MOSTLY * len(away) and sum(away[-8:]) >= limits.DIVERGED_LATELY
        if len(lately) == self.swinging and mostly and _swung(lately, limits.DIVERGED_SWUNG * (max(lately) - lowest)):
            return "swinging"
        return None

    def _improves(self, series: Evaluations, low: Low, level: float) -> bool:
        """Explanation: an evaluation set is better than it ever was, measured while training was as high as now."""
        return any(one.improves(low.step, level) for one in series.sets.values())

    def _shift(self, losses: tuple[float, ...], height: float) -> float | None:
        """The shift of the level, nats, that the rise is; None where it is more, or not between two points."""
        if height > self.shift_nats:
            return None
        steps = [b - a for a, b in pairwise(losses)]
        at = max(range(len(steps) - 1), key=lambda i: steps[i] + steps[i + 1])
        before, after = losses[: at + 1], losses[at + 2 :]
        if min(len(before), len(after)) < limits.SHORT:
            return None
        landed = median(after[: limits.SHORT])
        size = landed - median(before[-limits.SHORT :])
        late = median(losses[-limits.SHORT :]) - landed
        least, most = limits.DIVERGED_SHIFT_SHARE
        return size if least * height < size < most * height and late < limits.DIVERGED_SHIFT_STILL * size else None


def _within_mega_batch(signals: Signals, low: Low, height: float) -> bool:
    """Whether rows grouped by length may explain the rise for now: it drifts back from a jump, as in a saw."""
    watch, window = signals.watch, signals.window
    level, jump = watch.middles[-1], watch.jumps[-1] if watch.jumps else None
    if jump is None:
        return signals.groups_by_length and within_saw(window, watch.since - low.index, level)
    if watch.since - jump.index > limits.MEGA_BATCH_LONGEST or level > jump.after + limits.SAW_BEYOND * jump.size:
        return False
    count = watch.since - jump.index + 1
    back = undone(window, window.losses[: -count - 1], jump.after, jump.size)
    first = 2 * jump.size > height and (back is None or (back and begins_mega_batch(window, count)))
    return first or signals.grouped


def _soars(losses: tuple[float, ...], since: int, low: Low) -> bool:
    """Whether the loss has been rising since the first points, to many times what it was: no spike begins there."""
    if since != len(losses) or low.index > limits.SOAR_FROM or since > limits.SOAR_UNTIL:
        return False
    rise = losses[limits.SOAR_FROM :]
    grows = all(now > before for before, now in zip(rise, rise[2:], strict=False))
    return grows and losses[-1] > max(limits.SOAR_TIMES * low.level, low.level + limits.SOAR_NATS)


def _ever_faster(middles: tuple[float, ...], up: int, height: float) -> bool:
    """Whether each third of the way up was steeper than the one before, which no spike is."""
    third = min(up, len(middles) - 1) // limits.THIRDS
    a, b, c, d = (middles[-1 - i * third] for i in reversed(range(limits.THIRDS + 1)))
    times = limits.DIVERGED_FASTER
    return d - c > times * (c - b) > times**2 * max(b - a, 0.0) and d - a > limits.DIVERGED_FASTER_SHARE * height


def _swung(losses: tuple[float, ...], by: float) -> bool:
    """Whether the loss came down and went up again by so much: a spike only comes down."""
    top = bottom = losses[0]
    for loss in losses:
        bottom = min(bottom, loss)
        if loss > top:
            top = bottom = loss
        elif top - bottom > by and loss - bottom > by:
            return True
    return False


def _since_below(middles: tuple[float, ...], level: float) -> int:
    """Points since a short median was below a level."""
    return next((i for i, middle in enumerate(reversed(middles)) if middle < level), len(middles))
