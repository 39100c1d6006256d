"""Where the training loss has left its level: what `loss-spike`, `diverged` and `level-shift` judge.

A fold beside `ko_cpt_callbacks.signal.window`, which it looks at. It keeps the short medians of the last points and the
lowest of them in this window (`Low`), which a divergence leaves, and the rise that is going on (`Rise`): it begins with
a point above the band and ends with the first that is back. Everything is in log points, not in steps.

What explains that the loss left its level is one small function for each reason, of the window and the place: how many
points ago the first of the points is that are elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, NamedTuple

from ko_cpt_callbacks.run.fold import ATTEMPT
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.fit import curved_noise, fitted, median, second_farthest
from ko_cpt_callbacks.signal.window import Recent

__all__ = [
    "IDLE", "Jump", "Low", "Rise", "Watch", "another_mega_batch", "drifted", "epoch_ends", "groups_lengths",
    "lengths_jumped", "paces_differ", "rate_falls", "rate_rises", "saw", "within_saw",
]  # fmt: skip


_GROUPED: Final = "group_by_length"


@dataclass(frozen=True, slots=True)
class Jump:
    """From one level to another between two points; three points before and three after are where they should be.

    ``index``: points since the window began, of the first one after it; ``after``: the level then.
    """

    index: int
    size: float
    after: float


@dataclass(frozen=True, slots=True)
class Low:
    """The lowest level since the window began, and the noise then; ``index``: points since the window began."""

    level: float
    noise: float | None
    index: int
    step: int


@dataclass(frozen=True, slots=True)
class Rise:
    """Points above the band.

    Args:
        base: The level they rose from, nats.
        noise: Standard deviation of one point then.
        before: The losses of the window that both are from.
        after: Their own losses.
    """

    base: float
    noise: float
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def points(self) -> int:
        """How many there are."""
        return len(self.after)

    @property
    def peak(self) -> float:
        """The highest loss."""
        return max(self.after)

    @property
    def height(self) -> float:
        """Nats above the base."""
        return self.peak - self.base

    @property
    def reach(self) -> float:
        """The second highest loss of the window before, nats above the base."""
        return sorted(self.before)[-2] - self.base

    @property
    def far(self) -> float:
        """How far the second farthest point of the window before was from its line, nats."""
        lines = (self.before[-limits.LINE :], self.before if len(self.before) > limits.STRAIGHT else ())
        return max((second_farthest(one) for one in lines if len(one) >= limits.ENOUGH), default=0.0)

    @property
    def dip(self) -> float:
        """How far the last 20 points before went below the base: noise that goes up and down alike is no rise."""
        return max(self.base - min(self.before[-limits.STRAIGHT // 2 :]), 0.0)


@dataclass(frozen=True, slots=True)
class Watch:
    """Where the loss stands against what was normal.

    Args:
        since: Points since the window began.
        first: The first loss since then.
        middles: Short medians up to each of the last points.
        low: The lowest of all.
        rise: The rise that is going on.
        ended: The rise that this row ended.
        jumps: The last jumps that stayed: mega-batches have one after the other.
    """

    since: int = 0
    first: float = 0.0
    middles: tuple[float, ...] = ()
    low: Low | None = None
    rise: Rise | None = None
    ended: Rise | None = None
    jumps: tuple[Jump, ...] = ()

    def add(self, window: Recent, past: Recent) -> Watch:
        """The watch after a training row, from the window after it and the one before it."""
        if not window.grew:
            return replace(self, ended=None) if window.losses else IDLE
        return (IDLE if len(window.losses) == 1 else self)._point(window, past)

    def _point(self, recent: Recent, past: Recent) -> Watch:
        losses, since, low = recent.losses, self.since + 1, self.low
        middle = median(losses[-limits.SHORT:])
        if since >= 2 and (low is None or middle < low.level):
            # Points that have already left are in the window.
            most = None if low is None or low.noise is None else limits.LOW_NOISE * low.noise
            noise = recent.noise if most is None or recent.noise is None else min(recent.noise, most)
            low = Low(middle, noise, since, recent.steps[-1])
        rise, ended = self._risen(recent, past) if self.rise is None else self._goes_on(self.rise, recent)
        return Watch(
            since, losses[0] if since == 1 else self.first, (*self.middles, middle)[-limits.MIDDLES :], low, rise,
            ended, self._jumped(losses, since, recent.jitter),
        )  # fmt: skip

    def _jumped(self, losses: tuple[float, ...], since: int, jitter: float | None) -> tuple[Jump, ...]:
        if jitter is None:
            return self.jumps
        after = median(losses[-3:])
        size = after - median(losses[-6:-3])
        # The noise of losses too large for their differences is NaN.
        if not abs(size) >= limits.JUMP * jitter or (losses[-3] - losses[-4]) / size < limits.JUMP_AT_ONCE:
            return self.jumps
        return (*self.jumps, Jump(since - 2, size, after))[-limits.JUMPS:]

    def _risen(self, recent: Recent, past: Recent) -> tuple[Rise | None, None]:
        """The rise that the last point begins."""
        normal = _normal(past) if self.since else None
        if normal is None:
            return None, None
        loss, earlier = recent.losses[-1], recent.losses[:-1]
        height, noise = loss - normal.high, normal.noise
        band = limits.BAND * (1 + limits.BAND_FEW / len(earlier))
        if height <= band * (noise if normal.steep else min(noise, 2.0 * (past.jitter or noise))):
            return None, None
        if len(earlier) > limits.STRAIGHT:
            noise = max(noise, fitted(earlier).noise)
        if len(earlier) >= limits.BENT:  # around a line through a curve points are farther off than their noise
            bent = curved_noise(earlier)
            noise = min(noise, bent) if bent < limits.BENT_LESS * noise or normal.steep else noise
        if height <= band * noise:
            return None, None
        return Rise(normal.high, noise, earlier, (loss,)), None

    def _goes_on(self, rise: Rise, recent: Recent) -> tuple[Rise | None, Rise | None]:
        """The rise after one more point: it goes on, has ended, or is given up."""
        loss = recent.losses[-1]
        if loss - rise.base <= max(limits.BACK_NOISES * rise.noise, limits.BACK * rise.height):
            return None, rise
        return (replace(rise, after=(*rise.after, loss)) if rise.points < limits.LONGEST_RISE else None), None


def _normal(past: Recent) -> Normal | None:
    losses, n = past.losses, len(past.losses)
    if past.line is None or past.noise is None:
        if n < limits.NORMAL_LEAST:
            return None
        # Too few for a line: they differ from one by no more than they have so far.
        last = losses[-4:]
        slope = min(last[-1] - last[0], 0.0) / (len(last) - 1)
        flat = [loss - slope * i for i, loss in enumerate(last)]
        return Normal(max(last[-1], median(last)), max(max(flat) - min(flat), limits.QUIET))
    (level, slope), tail = past.line, median(losses[-limits.SHORT:])
    if slope < -limits.STEEP * (past.jitter or past.noise):
        # The last five are behind a curve that falls so fast, and a line through more of them is beside it.
        last = losses[-9:]
        third = len(last) // limits.THIRDS
        lately = (median(last[-third:]) - median(last[:third])) / (len(last) - third)
        noise = min(past.noise, curved_noise(losses))
        if lately < -limits.STEEP * noise:
            return Normal(max(tail + limits.STEEP_AHEAD * lately, min(losses[-3:])), noise, True)
    return Normal(max(level + max(slope, 0.0), tail), past.noise)


IDLE: Final = Watch()
"""Before the first point."""


def epoch_ends(window: Recent, count: int) -> bool:
    """Whether an epoch ends at the place: between its rows, or at one that an old log rounded to the end itself."""
    place, losses = len(window.losses) - count, window.losses
    near = range(max(place - limits.AROUND, 1), min(place + limits.AROUND, len(losses)))
    # Where it went most, to the point: a log may have few points in an epoch.
    at = max(near, key=lambda i: abs(losses[i] - losses[i - 1]))
    known = [epoch for epoch in window.epochs[max(at - 2, 0) : at + 2] if epoch is not None]
    return len(known) > 1 and (
        int(known[0] + limits.EPOCH_EXACT) < int(known[-1] + limits.EPOCH_EXACT)
        or any(abs(epoch - round(epoch)) < limits.EPOCH_EXACT < epoch for epoch in known)
    )


def rate_rises(window: Recent, count: int) -> bool:
    """Whether the learning rate rises around the place."""
    rates = _rates(window)[-count - limits.NEAR :]
    return bool(rates) and rates[-1] - rates[0] > limits.RATE_RISES * window.rate_peak


def rate_falls(window: Recent, count: int) -> bool:
    """Whether the learning rate falls at once, just before the place or at it."""
    drops = [a - b for a, b in pairwise(_rates(window))]
    usual = 2 * median([abs(drop) for drop in drops]) if drops else 0.0
    return bool(drops) and max(drops[-count - limits.NEAR :]) > max(limits.RATE_FALLS * window.rate_peak, 2 * usual)


def _rates(window: Recent) -> list[float]:
    rates = [rate for rate in window.rates if rate is not None]
    return rates if len(rates) == len(window.rates) else []


def paces_differ(paces: Sequence[float | None], count: int) -> bool:
    """Whether the last points have other tokens per step than those before: they are of longer or shorter rows.

    Args:
        paces: Tokens per step of the last points, oldest first; ``None`` where they are not known.
        count: The last ones.
    """
    now = [pace for pace in paces[-count:] if pace is not None]
    before = [pace for pace in paces[-2 * count - limits.NEAR : -count] if pace is not None]
    if len(now) < 2 or len(before) < limits.NEAR:
        return False
    ratio = median(now) / max(median(before), 1)
    return not 1 / limits.PACES_DIFFER < ratio < limits.PACES_DIFFER


def lengths_jumped(paces: Sequence[float | None], count: int) -> bool:
    """Whether tokens per step drifted and were back at once at the place, as with rows grouped by length.

    Args:
        paces: Tokens per step of the last points, oldest first; ``None`` where they are not known.
        count: Points after the jump.
    """
    known = [pace for pace in paces if pace is not None]
    if len(known) < len(paces) - 1 or len(known) < count + limits.LENGTHS_LEAST:
        return False
    before = known[-count - limits.LENGTHS_MOST : -count - 1]
    early, late, now = median(before[: len(before) // 3]), median(before[-3:]), median(known[-count:][:3])
    return abs(late - early) > limits.LENGTHS_DRIFT * early and (now - late) / (early - late) > 0.5


def groups_lengths(seen: SetupObservation) -> bool | None:
    """Whether the arguments of an attempt say that rows are grouped by length; None where it is no row of that kind.

    The argument is ``group_by_length`` up to transformers 4 and ``train_sampling_strategy`` from 5 on.
    """
    arguments = seen.values.get("arguments") if seen.kind == ATTEMPT else None
    if not isinstance(arguments, Mapping):
        return None
    return arguments.get(_GROUPED) is True or arguments.get("train_sampling_strategy") == _GROUPED


def saw(jumps: Sequence[Jump]) -> bool:
    """Whether the loss jumped twice, alike, and half of it drifted back in between: its rows are grouped by length.

    What another jump brought back was no drift.

    Args:
        jumps: The last ones, oldest first.
    """
    least, most = limits.MEGA_BATCHES_ALIKE
    for up in (True, False):
        for i, j in pairwise(i for i, jump in enumerate(jumps) if (jump.size > 0) is up):
            last, now, others = jumps[i], jumps[j], sum(jump.size for jump in jumps[i + 1 : j])
            drift = (last.after + others - (now.after - now.size)) / now.size
            if least < last.size / now.size < most and drift > 0.5:
                return True
    return False


def within_saw(window: Recent, count: int, level: float) -> bool:
    """Whether a level is among those of the mega-batches before a place, or not far from them.

    Args:
        window: The window.
        count: Points since the place.
        level: Where the loss went, in nats per token.
    """
    before = window.losses[: -count or None]
    levels = [median(before[i : i + limits.AROUND]) for i in range(len(before) - limits.AROUND + 1)]
    if not levels:
        return False
    low, high = min(levels), max(levels)
    return abs(2 * level - low - high) < (1 + 2 * limits.SAW_BEYOND) * (high - low)


def another_mega_batch(jumps: Sequence[Jump], start: int, shift: float, base: float) -> bool:
    """Whether a jump of this kind came before, and this one is the next mega-batch of a saw.

    Either the loss has drifted back since, or the distance between the jumps is what it was before.

    Args:
        jumps: The last ones, oldest first.
        start: Points since the window began, of the first point after the jump in question.
        shift: Its size in nats, below 0 where it goes down.
        base: The level before it.
    """
    least, most = limits.MEGA_BATCHES_ALIKE
    alike = [jump for jump in jumps if jump.index < start - limits.AROUND and least < jump.size / shift < most]
    if not alike:
        return False
    last, ahead = alike[-1], start - alike[-1].index
    apart = last.index - (alike[-2].index if len(alike) > 1 else 0)
    even = abs(ahead - apart) <= max(2.0, limits.MEGA_BATCH_PERIOD * ahead)
    return even or (last.after - base) / shift > limits.MEGA_BATCH_BACK


def drifted(window: Recent, count: int, level: float, shift: float) -> bool:
    """Whether a jump only undoes the drift since the loss was at that level, as the end of a mega-batch does.

    Args:
        window: The window after the jump.
        count: Points since the place.
        level: Where it went.
        shift: By how much; below 0: down.
    """
    before, steps = window.losses[: -count - 1], (window.steps[-count - 2] - 1, window.steps[-count] - 1)
    begins = steps[1] - steps[0] <= 2 and (window.epochs[-count] or 0.0) <= 1
    begins = begins and steps[1] // limits.MEGA_STEPS > steps[0] // limits.MEGA_STEPS
    sign = 1.0 if shift > 0 else -1.0
    earlier = [sign * median(before[i : i + limits.AROUND]) for i in range(len(before) - limits.AROUND)]
    near, far = sign * level - limits.MEGA_BATCH_AT * abs(shift), sign * level - limits.MEGA_BATCH_FROM * abs(shift)
    at = next((i for i in reversed(range(len(earlier))) if earlier[i] >= near), -1)
    return any(one < far for one in earlier[: max(at, 0)]) or (at >= 0 and shift > 0 and begins)


class Normal(NamedTuple):
    """What the window showed before a point.

    ``high``: the line at its end, going up if it does, or the short median, whichever is higher; ``noise``: of one
    point; ``steep``: the level has come down by more than its noise in a few points.
    """

    high: float
    noise: float
    steep: bool = False
