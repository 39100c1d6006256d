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
from ko_cpt_callbacks.signal.excursion import Low, mega_batch, paces_differ
from ko_cpt_callbacks.signal.fit import median
from ko_cpt_callbacks.signal.signals import Signals, risen

__all__ = ["Diverged", "DivergedState"]


@dataclass(frozen=True, slots=True)
class DivergedState:
    """The segment of which it was reported that it diverged.

    ``shifted``: a shift of the level since it was lowest, nats, which another rule reports and this one does not count.
    """

    said: int | None = None
    shifted: tuple[Low, float] | None = None


@dataclass(frozen=True, slots=True)
class Diverged(Rule):
    """Says once per segment that the loss is far above its lowest level and stays there, or goes on rising.

    The level is a short median; the lowest is looked for since the start, the last seam, or the last restart of the
    learning rate. That it does not come back is reported

    * when the level has been rising for ``rising`` points and still does, or for ``climbing`` points ever faster and
      to twice the height, or
    * when the points have been in the upper half of the rise for ``staying`` points, and the level does not fall, or
    * when it swings up and down, mostly up, over ``swinging`` points.

    A level that changed between two points and then goes on as before is a shift of the level (`level-shift`), not a
    divergence, unless it is by more than ``shift_nats``. Nor is a rise beside which an evaluation set is better than
    ever, or whose rows are of another length.

    Healthy runs of the labeled suite rise by up to 0.5 nats in a warm-up and by less than 0.15 afterwards: a young
    run must rise by more. Spikes of 20 points are back before. In a short log fewer points of a huge rise are enough.
    """

    info: ClassVar[RuleInfo] = RuleInfo("diverged", (Severity.ERROR,), (TrainObservation,), may_stop=True, place=110)

    noises: float = limits.DIVERGED_NOISES
    nats: float = limits.DIVERGED_NATS
    rising: int = limits.DIVERGED_RISING
    staying: int = limits.DIVERGED_STAYING
    swinging: int = limits.DIVERGED_SWINGING
    climbing: int = limits.DIVERGED_CLIMBING
    shift_nats: float = limits.DIVERGED_SHIFT_NATS
    beside: float = limits.DIVERGED_BESIDE

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
        shifted = state.shifted[1] if state.shifted is not None and state.shifted[0] == low else 0.0
        lowest = low.level + shifted
        height, noise = middles[-1] - lowest, low.noise if low.noise is not None else window.jitter or 0.0
        needed = max(self.nats, self.noises * noise, limits.DIVERGED_YOUNG_NATS if signals.young else 0.0)
        if height < needed:
            return state, ()
        losses, points = window.losses, watch.since - low.index
        soars = watch.since == len(losses) and _soars(losses, low)
        huge = watch.since <= limits.DIVERGED_SHORT and height >= limits.DIVERGED_HUGE * needed
        variant = "rising" if soars else self._variant(losses[-points - 1 :], middles, lowest, height, needed, huge)
        if variant == "staying" and (shift := self._shift(losses, height)) is not None:
            return replace(state, shifted=(low, shifted + shift)), ()
        if variant is None or paces_differ(window.paces, limits.NEAR):
            return state, ()
        levels, size, declared = middles[: -points - 1], middles[-1] - low.level, signals.groups_by_length
        if mega_batch(levels, middles[-1], size, declared=declared):
            return state, ()
        if _improves(signals.evaluations, low, lowest + self.beside * height):
            return state, ()
        values = {
            "level": middles[-1], "lowest": low.level, "lowest_step": low.step, "rise": height, "noise": noise,
            "threshold": needed, "points": points, "window": limits.SHORT, "first": watch.first,
        }  # fmt: skip
        finding = Finding(self.code, Severity.ERROR, seen.step, "train", values, asks_to_stop=True, variant=variant)
        return replace(state, said=window.segment), (finding,)

    def _variant(
        self, after: tuple[float, ...], middles: tuple[float, ...], lowest: float, height: float, needed: float,
        huge: bool,
    ) -> str | None:  # fmt: skip
        """How the loss stays away: ``rising``, ``staying``, ``swinging``, or none of them yet."""
        began = lowest + min(limits.DIVERGED_BEGAN * height, limits.DIVERGED_BEGAN_NEEDED * needed)
        up = next((i for i, middle in enumerate(reversed(middles)) if middle < began), len(middles))
        highest = up > 0 and middles[-1] >= max(middles[-up:])
        rising, staying = self.rising, self.staying
        if huge:
            rising, staying = min(rising, limits.DIVERGED_SHORT_RISING), min(staying, limits.DIVERGED_SHORT_STAYING)
        if highest and up >= rising and middles[-1] - middles[-4] >= limits.DIVERGED_GOES_ON * height:
            return "rising"
        if up >= self.climbing and height >= 2 * needed and _ever_faster(middles, up, height):
            return "rising"
        enough = min(up, len(after)) >= staying
        low = sum(loss < lowest + 0.5 * height for loss in after[-staying:])
        eases = middles[-1] < middles[-9:][0] - limits.DIVERGED_EASES * height
        if enough and low <= 1:
            return None if eases else "staying"
        lately = after[-self.swinging :]
        away = [loss > lowest + needed for loss in lately]
        mostly = sum(away) >= limits.DIVERGED_MOSTLY * self.swinging
        full = mostly and len(lately) == self.swinging
        return "swinging" if full and _swung(lately, limits.DIVERGED_SWUNG * (max(lately) - lowest)) else None

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


def _improves(evaluations: Evaluations, low: Low, level: float) -> bool:
    """Whether an evaluation set is better than it ever was, measured while training was as high as now."""
    return any(one.improves(low.step, level) for one in evaluations.sets.values())


def _soars(losses: tuple[float, ...], low: Low) -> bool:
    """Whether the loss has been rising since the first points, to many times what it was: no spike begins there."""
    if low.index > limits.SOAR_FROM or len(losses) > limits.SOAR_UNTIL:
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
