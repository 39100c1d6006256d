"""`loss-spike`: the training loss rose suddenly, far above its noise, and came back."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo, Wakes
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import Observation, TrainObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.excursion import Rise
from ko_cpt_callbacks.signal.explanation import another_mega_batch, paces_differ, within_saw
from ko_cpt_callbacks.signal.signals import Signals, ended_rise

__all__ = ["LossSpike"]


@dataclass(frozen=True, slots=True)
class LossSpike(Rule):
    """Says of each rise of the training loss, once it is back, that it was a spike.

    The loss rises when a point is above the band: the level of the window before (a robust line, or the last five
    points where that is higher) and some of its noises. It is back with the first point that has lost 70 % of the
    height, or is within 2.5 noises of the level. A rise that is not back after 30 points is no spike.

    How high it must have been depends on how many points it had, because one point may be a batch that was odd, and
    on what else the window held: the second farthest point of it (heavy tails), and how far points went the other way
    (a noisy stretch). A point that closes an epoch holds a short batch and must be higher still.

    The noises are measured on the labelled suite, the rest is chosen. The peers ask for twice the mean (llm-foundry's
    KillLossSpike) or 6 standard deviations (OLMo) of a point.

    Args:
        one_noises: Height of a single point, in noises.
        few_noises: Of two or three points.
        many_noises: Of more.
        wilds: A single point must also be this many times as far off as the second farthest of the window; two or
            three, twice as far.
        dips: Any must be this many times as high as the points before went low.
        least_nats: And at least so many nats high.
        epoch_end_nats: Height of a rise that begins where an epoch ends, nats.
        bump_climb: While the learning rate warms up, or just has, a rise that took more points than this to its peak
        bump_nats: must be so many nats high: else it is a bump. So must one after fewer points than a line needs.
        more: Share by which a single point must be higher with each doubling of the points beyond 128.
        mega_batch_points: A rise that was up at once and took so many points to come back must be above the window
            before by three tenths of its height: with rows grouped by length the loss jumps up to where it was, and
            comes down. Half as many points where it may be the end of the first mega-batch.
        early_nats: Height after fewer than twelve points, nats.
        most: Spikes that are reported of one run; after them it is plain.
    """

    info: ClassVar[RuleInfo] = RuleInfo("loss-spike", (Severity.WARNING,), (TrainObservation,), place=100)

    one_noises: float = limits.SPIKE_ONE_NOISES
    few_noises: float = limits.SPIKE_FEW_NOISES
    many_noises: float = limits.SPIKE_MANY_NOISES
    wilds: float = limits.SPIKE_WILDS
    dips: float = limits.SPIKE_DIPS
    least_nats: float = limits.SPIKE_LEAST_NATS
    epoch_end_nats: float = limits.SPIKE_EPOCH_END_NATS
    bump_climb: int = limits.SPIKE_BUMP_CLIMB
    bump_nats: float = limits.SPIKE_BUMP_NATS
    more: float = limits.SPIKE_MORE
    mega_batch_points: int = limits.SPIKE_MEGA_BATCH_POINTS
    early_nats: float = limits.SPIKE_EARLY_NATS
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
        rise = signals.watch.ended
        if rise is None or state >= self.most:
            return state, ()
        needed = self.needed(rise, signals.window.count)
        if rise.height <= needed or self._grouped(signals, rise):
            return state, ()
        values = {
            "peak": rise.peak, "peak_step": rise.peak_step, "level": rise.base, "height": rise.height,
            "noise": rise.noise, "noises": round(rise.height / rise.noise, 1), "threshold": needed,
            "points": rise.points, "first_step": rise.step, "back": signals.window.losses[-1], "window": rise.window,
        }  # fmt: skip
        variant = "point" if rise.points == 1 else "points"
        finding = Finding(self.code, Severity.WARNING, seen.step, "train", values, variant=variant)
        return state + 1, (finding,)

    def _grouped(self, signals: Signals, rise: Rise) -> bool:
        """Whether rows grouped by length explain it: other tokens per step, a level that they had, a mega-batch."""
        if rise.points < 2:
            return False
        start = signals.watch.since - rise.points
        if signals.grouped and within_saw(signals.window, rise.points + 1, rise.peak):
            return True
        if paces_differ(signals.window.paces, rise.points):
            return True
        return rise.points > 2 and another_mega_batch(signals.watch.jumps, start, rise.height, rise.base)

    def needed(self, rise: Rise, count: int = 0) -> float:
        """The height that a rise must have, in nats.

        Args:
            rise: Which.
            count: After so many points: the more there are, the farther off is the farthest.
        """
        few = rise.points <= limits.SPIKE_FEW
        noises = self.one_noises if rise.points == 1 else self.few_noises if few else self.many_noises
        least = [noises * rise.noise, self.dips * rise.dip, self.least_nats]
        if (rise.young and rise.climb > self.bump_climb) or rise.window < limits.ENOUGH:
            least.append(self.bump_nats)
        if rise.window < 2 * limits.ENOUGH:
            least.append(self.early_nats)
        if few:
            least.append((self.wilds if rise.points == 1 else 2.0) * rise.wild)
        # The end of the first mega-batch leads back to where the run began; later ones are known by those before.
        first = count - rise.points <= limits.MEGA_BATCH_LONGEST + 1 and 2 * rise.height > rise.ceiling - rise.base
        at_once = rise.first - rise.base >= limits.SPIKE_AT_ONCE * rise.height
        if rise.points >= (0.5 if first else 1) * self.mega_batch_points and at_once:
            least.append((rise.ceiling - rise.base) / limits.SPIKE_CEILING)
        if rise.points == 1 and count:
            least[0] *= 1 + self.more * max(log2(count / limits.SPIKE_MORE_FROM), 0.0)
        if rise.epoch_end:
            least.append(self.epoch_end_nats)
        return max(least)
