"""`loss-spike`: the training loss rose suddenly, far above its noise, and came back."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo, Wakes
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import Observation, TrainObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.excursion import Rise, epoch_ends, mega_batch, paces_differ
from ko_cpt_callbacks.signal.signals import Signals, ended_rise

__all__ = ["LossSpike"]


@dataclass(frozen=True, slots=True)
class LossSpike(Rule):
    """Says of each rise of the training loss, once it is back, that it was a spike.

    The loss rises when a point is above the band: the level of the window before (a robust line, or the last five
    points where that is higher) and some of its noises. It is back with the first point that has lost 70 % of the
    height. A rise that is not back after 30 points is no spike.

    How high it must have been depends on how many points it had, because one point may be a batch that was odd, on how
    many there were before, and on what else the window held: the second farthest point of it (heavy tails), and how far
    points went the other way (a noisy stretch). It must be higher among the first points, and where an epoch ends,
    whose last batch is short. With rows grouped by length the loss jumps up to where it was, and comes down: a rise
    that was up at once and took long must be far above the window before.

    The peers ask for twice the mean (llm-foundry's KillLossSpike) or 6 standard deviations (OLMo) of a point.
    """

    info: ClassVar[RuleInfo] = RuleInfo("loss-spike", (Severity.WARNING,), (TrainObservation,), place=100)

    one_noises: float = limits.SPIKE_ONE_NOISES
    noises: float = limits.SPIKE_NOISES
    more: float = limits.SPIKE_MORE
    dips: float = limits.SPIKE_DIPS
    least_nats: float = limits.SPIKE_LEAST_NATS
    early_nats: float = limits.SPIKE_EARLY_NATS
    epoch_end_nats: float = limits.SPIKE_EPOCH_END_NATS
    mega_batch_points: int = limits.SPIKE_MEGA_BATCH_POINTS
    most: int = limits.SPIKE_MOST

    @property
    def wakes(self) -> Wakes:
        """The row that ends a rise."""
        return Wakes((ended_rise,))

    def initial(self) -> int:
        """No spike reported."""
        return 0

    def step(self, state: int, seen: Observation, signals: Signals) -> tuple[int, Found]:
        """Judges a training row; the state is how many spikes were reported."""
        rise, window = signals.watch.ended, signals.window
        if rise is None or state >= self.most:
            return state, ()
        needed = self.needed(rise, window.count)
        if len(rise.before) > limits.ENOUGH and epoch_ends(window, rise.points + 1):
            needed = max(needed, self.epoch_end_nats)
        levels = signals.watch.middles[: -rise.points - 1]
        longer = rise.points > 1 and (
            paces_differ(window.paces, rise.points)
            or mega_batch(levels, rise.peak, rise.height, declared=signals.groups_by_length)
        )
        if rise.height <= needed or longer:
            return state, ()
        steps = window.steps[-rise.points - 1 : -1]
        values = {
            "peak": rise.peak, "peak_step": steps[rise.after.index(rise.peak)], "level": rise.base,
            "height": rise.height, "noise": rise.noise, "noises": round(rise.height / rise.noise, 1),
            "threshold": needed, "points": rise.points, "first_step": steps[0], "back": window.losses[-1],
            "window": len(rise.before),
        }  # fmt: skip
        variant = "point" if rise.points == 1 else "points"
        finding = Finding(self.code, Severity.WARNING, seen.step, "train", values, variant=variant)
        return state + 1, (finding,)

    def needed(self, rise: Rise, count: int) -> float:
        """The height that a rise must have, in nats, after so many points of the run."""
        noises = self.noises
        if rise.points == 1:  # the more points there are, the farther off is the farthest
            noises = self.one_noises * (1 + self.more * max(log2(count / limits.SPIKE_MORE_FROM), 0.0))
        far = limits.SPIKE_FAR * rise.far if rise.points <= limits.SPIKE_FEW else 0.0
        least = max(noises * rise.noise, self.least_nats, self.dips * rise.dip, far)
        if len(rise.before) < 2 * limits.ENOUGH:
            least = max(least, self.early_nats)
        # The end of the first mega-batch leads back to where the run began; later ones are known by those before.
        first = count - rise.points <= limits.MEGA_BATCH_LONGEST + 1 and 2 * rise.height > rise.reach
        slow = rise.points >= (0.5 if first else 1) * self.mega_batch_points
        if slow and rise.after[0] - rise.base >= limits.SPIKE_AT_ONCE * rise.height:
            least = max(least, rise.reach / limits.SPIKE_CEILING)
        return least
