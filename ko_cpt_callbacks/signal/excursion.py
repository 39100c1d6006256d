"""Where the training loss has left its level: what `loss-spike`, `diverged` and `level-shift` judge.

A fold beside `ko_cpt_callbacks.signal.window`, which it looks at. It keeps

* the short medians of the last points, and the lowest of them in this window (`Low`), which a divergence leaves;
* the rise that is going on (`Rise`): it begins with a point above the band and ends with the first that is back;
* jumps between two points that stayed (`Jump`): mega-batches have one after the other.

Everything is in log points, not in steps. All thresholds are chosen, not measured; they were tried on a labeled suite
of made runs and on 14 public logs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.window import Recent, curved_noise, fitted, median

__all__ = ["IDLE", "Jump", "Low", "Rise", "Watch"]


@dataclass(frozen=True, slots=True)
class Normal:
    """What the window showed before a point."""

    high: float
    """The line at its end, going up if it does, or the short median: whichever is higher."""
    noise: float
    wild: float
    """As `Recent.wild`."""
    count: int
    """Points in the window."""
    steep: bool = False
    """The level has come down by more than its noise in a few points."""


@dataclass(frozen=True, slots=True)
class Jump:
    """From one level to another between two points; three points before and three after are where they should be."""

    index: int
    """Points since the window began, of the first one after it."""
    size: float
    """Nats, below 0 where it went down."""
    after: float
    """The level then."""


@dataclass(frozen=True, slots=True)
class Low:
    """The lowest level since the window began."""

    level: float
    noise: float | None
    index: int
    """Points since the window began."""
    step: int


@dataclass(frozen=True, slots=True)
class Rise:
    """Points above the band."""

    step: int
    """Of the first of them."""
    base: float
    """The level they rose from, nats."""
    noise: float
    wild: float
    window: int
    """Points that base and noise are from."""
    dip: float
    """How far the points before went below that level: noise that goes up and down alike is no rise."""
    ceiling: float
    """The second highest loss of the window before."""
    first: float
    peak: float
    peak_step: int
    points: int = 1
    climb: int = 1
    """Points up to the peak."""
    young: bool = False
    """It began while the learning rate warmed up, or soon after."""
    epoch_end: bool = False
    """Its first point closes an epoch."""

    @property
    def height(self) -> float:
        """Nats above the base."""
        return self.peak - self.base


@dataclass(frozen=True, slots=True)
class Watch:
    """Where the loss stands against what was normal."""

    since: int = 0
    """Points since the window began."""
    warm: int = 0
    """How many of them came while the learning rate rose from the start."""
    first: float = 0.0
    """The first loss since then."""
    middles: tuple[float, ...] = ()
    """Short medians up to each of the last points."""
    low: Low | None = None
    rise: Rise | None = None
    ended: Rise | None = None
    """The rise that this row ended."""
    swing: float = 0.0
    """The largest rise of the short median that went back by itself, nats: mega-batches, waves, bumps."""
    top: float = 0.0
    """The highest short median since the lowest."""
    jumps: tuple[Jump, ...] = ()
    """The last ones."""
    young: bool = False
    """Whether the loss may still rise and come back because the learning rate warms up, or did a moment ago."""

    def add(self, window: Recent, past: Recent) -> Watch:
        """The watch after a training row, from the window after it and the one before it."""
        if not window.grew:
            return replace(self, ended=None) if window.losses else IDLE
        return (IDLE if len(window.losses) == 1 else self)._point(window, past)

    def _young(self, recent: Recent, since: int, warm: int) -> bool:
        # The bump of a warm-up comes within it or in the points after; where the rate has already come down from its
        # peak it is over.
        rate = recent.rates[-1] if recent.rates else None
        if rate is not None and rate < limits.YOUNG_RATE * recent.rate_peak and since > warm:
            return False
        return since <= max(limits.YOUNG_WARM * warm, limits.YOUNG_POINTS)

    def _point(self, recent: Recent, past: Recent) -> Watch:
        losses = recent.losses
        loss, since = losses[-1], self.since + 1
        rates = recent.rates
        rising = self.warm == self.since and (rates[-1] or 0.0) > (rates[-2] if since > 1 and rates[-2] else 0.0)
        normal = _normal(past) if since > 1 else None
        middle = median(losses[-limits.SHORT:])
        low = self.low
        short = median(losses[-3:]) if since < 2 * limits.SHORT else middle
        swing, top = self.swing, max(self.top, middle)
        if since >= 2 and (low is None or short < low.level):
            noise = recent.noise
            if low is not None and low.noise is not None:
                # Points that have already left are in the window.
                noise = min(noise or low.noise, limits.LOW_NOISE * low.noise)
            low, top = Low(short, noise, since, recent.steps[-1]), middle
        if low is not None and middle - low.level < limits.SWING_BACK * (top - low.level):
            if top - low.level <= limits.SWING:  # else it was a spike
                swing = max(swing, top - low.level)
            top = middle
        rise, ended = self._rise(recent, past, normal, loss)
        warm = self.warm + rising
        return Watch(
            since, warm, loss if since == 1 else self.first, (*self.middles, middle)[-limits.MIDDLES :], low, rise,
            ended, swing, top, self._jumped(losses, since, recent.jitter), self._young(recent, since, warm),
        )  # fmt: skip

    def _jumped(self, losses: tuple[float, ...], since: int, jitter: float | None) -> tuple[Jump, ...]:
        if jitter is None:
            return self.jumps
        after = median(losses[-3:])
        size = after - median(losses[-6:-3])
        if abs(size) < limits.JUMP * jitter or (losses[-3] - losses[-4]) / size < limits.JUMP_AT_ONCE:
            return self.jumps
        return (*self.jumps, Jump(since - 2, size, after))[-limits.JUMPS:]

    def _rise(
        self, recent: Recent, past: Recent, normal: Normal | None, loss: float
    ) -> tuple[Rise | None, Rise | None]:
        rise = self.rise
        step = recent.steps[-1]
        if rise is None:
            if normal is None:
                return None, None
            height, band = loss - normal.high, limits.BAND * (1 + limits.BAND_FEW / normal.count)
            least = normal.noise if normal.steep else min(normal.noise, 2.0 * (past.jitter or normal.noise))
            if height <= band * least:
                return None, None
            earlier = recent.losses[:-1]
            noise, wild = normal.noise, normal.wild
            if len(earlier) > limits.STRAIGHT:
                whole = fitted(earlier)
                noise, wild = max(noise, whole.noise), max(wild, whole.wild)
            if len(earlier) >= limits.BENT:  # around a line through a curve points are farther off than their noise
                bent = curved_noise(earlier)
                if bent < limits.BENT_LESS * noise or normal.steep:
                    noise, wild = min(noise, bent), fitted(earlier[-limits.BENT:]).wild
            if height <= band * noise:
                return None, None
            ceiling = sorted(earlier)[-2]
            dip = max(normal.high - min(earlier[-20:]), 0.0)
            young = self.since <= max(limits.RISE_YOUNG_WARM * self.warm, limits.YOUNG_POINTS)
            first = Rise(
                step, normal.high, noise, wild, normal.count, dip, ceiling, loss, loss, step, young=young,
                epoch_end=_epoch_end(recent),
            )  # fmt: skip
            return first, None
        if loss - rise.base <= max(limits.BACK_NOISES * rise.noise, limits.BACK * rise.height):
            return None, rise
        if rise.points >= limits.LONGEST_RISE:
            return None, None
        points = rise.points + 1
        if loss > rise.peak:
            return replace(rise, points=points, peak=loss, peak_step=step, climb=points), None
        return replace(rise, points=points), None


def _normal(past: Recent) -> Normal | None:
    losses = past.losses
    n = len(losses)
    if past.line is None or past.noise is None:
        if n < limits.NORMAL_LEAST:
            return None
        # Too few for a line: they differ from one by no more than they have so far.
        last = losses[-4:]
        slope = min(last[-1] - last[0], 0.0) / (len(last) - 1)
        flat = [loss - slope * i for i, loss in enumerate(last)]
        spread = max(flat) - min(flat)
        return Normal(max(last[-1], median(last)), max(spread, limits.QUIET), spread, n)
    (level, slope), tail = past.line, median(losses[-limits.SHORT:])
    if slope < -limits.STEEP * (past.jitter or past.noise):
        # The last five are behind a curve that falls so fast, and a line through more of them is beside it.
        last = losses[-9:]
        third = len(last) // limits.THIRDS
        lately = (median(last[-third:]) - median(last[:third])) / (len(last) - third)
        noise = min(past.noise, curved_noise(losses))
        if lately < -limits.STEEP * noise:
            return Normal(max(tail + limits.STEEP_AHEAD * lately, min(losses[-3:])), noise, past.wild or 0.0, n, True)
    return Normal(max(level + max(slope, 0.0), tail), past.noise, past.wild or 0.0, n)


def _epoch_end(recent: Recent) -> bool:
    """Whether the last point is the last of an epoch or the first of the next, as far as the epochs of the log tell."""
    before, now = recent.epochs[-2:]
    if before is None or now is None or now < limits.EPOCH_FIRST:
        return False
    if int(before - limits.EPOCH_EXACT) < int(now - limits.EPOCH_EXACT):
        return True
    pace = now - before
    left = (-now) % 1.0
    return 0.0 < pace < limits.EPOCH_PACE and (left < pace or left > 1.0 - limits.EPOCH_EXACT)


IDLE: Final = Watch()
"""Before the first point."""
