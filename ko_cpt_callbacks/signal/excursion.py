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
from typing import Final

from ko_cpt_callbacks.run.fold import ATTEMPT
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.fit import curved_noise, fitted, median, second_farthest
from ko_cpt_callbacks.signal.window import Recent

__all__ = [
    "IDLE", "Low", "Rise", "Watch", "epoch_ends", "first_mega_batch", "groups_lengths", "mega_batch",
    "paces_differ", "rate_falls", "rate_rises",
]  # fmt: skip


_GROUPED: Final = "group_by_length"


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
    """

    since: int = 0
    first: float = 0.0
    middles: tuple[float, ...] = ()
    low: Low | None = None
    rise: Rise | None = None
    ended: Rise | None = None

    def add(self, window: Recent, past: Recent) -> Watch:
        """The watch after a training row, from the window after it and the one before it."""
        if not window.grew:
            return replace(self, ended=None) if window.losses else IDLE
        return (IDLE if len(window.losses) == 1 else self)._point(window, past)

    def _point(self, recent: Recent, past: Recent) -> Watch:
        losses, since, low = recent.losses, self.since + 1, self.low
        middle = median(losses[-limits.SHORT:])
        if since >= 2 and (low is None or middle < low.level):
            low = Low(middle, recent.noise, since, recent.steps[-1])
        rise, ended = self._risen(recent, past) if self.rise is None else self._goes_on(self.rise, recent)
        return Watch(
            since, losses[0] if since == 1 else self.first, (*self.middles, middle)[-limits.MIDDLES :], low, rise,
            ended,
        )  # fmt: skip

    def _risen(self, recent: Recent, past: Recent) -> tuple[Rise | None, None]:
        """The rise that the last point begins."""
        normal = _normal(past) if self.since else None
        if normal is None:
            return None, None
        loss, earlier, (high, noise) = recent.losses[-1], recent.losses[:-1], normal
        height, band = loss - high, limits.BAND * (1 + limits.BAND_FEW / len(earlier))
        if height <= band * min(noise, 2.0 * (past.jitter or noise)):
            return None, None
        if len(earlier) > limits.STRAIGHT:
            noise = max(noise, fitted(earlier).noise)
        if len(earlier) >= limits.ENOUGH:  # around a line through a curve points are farther off than their noise
            bent = curved_noise(earlier)
            noise = bent if bent < limits.BENT_LESS * noise else noise
        return (Rise(high, noise, earlier, (loss,)) if height > band * noise else None), None

    def _goes_on(self, rise: Rise, recent: Recent) -> tuple[Rise | None, Rise | None]:
        """The rise after one more point: it goes on, has ended, or is given up."""
        loss = recent.losses[-1]
        if loss - rise.base <= limits.BACK * rise.height:
            return None, rise
        return (replace(rise, after=(*rise.after, loss)) if rise.points < limits.LONGEST_RISE else None), None


def _normal(past: Recent) -> tuple[float, float] | None:
    """What the window showed before a point: its level and the noise of one point.

    The level is the line's at its end, going up if it does, or the short median, whichever is higher.
    """
    losses, n = past.losses, len(past.losses)
    if past.line is None or past.noise is None:
        if n < limits.NORMAL_LEAST:
            return None
        # Too few for a line: they differ from one by no more than they have so far.
        last = losses[-4:]
        slope = min(last[-1] - last[0], 0.0) / (len(last) - 1)
        flat = [loss - slope * i for i, loss in enumerate(last)]
        return max(last[-1], median(last)), max(max(flat) - min(flat), limits.QUIET)
    level, slope = past.line
    return max(level + max(slope, 0.0), median(losses[-limits.SHORT:])), past.noise


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


def groups_lengths(seen: SetupObservation) -> bool | None:
    """Whether the arguments of an attempt say that rows are grouped by length; None where it is no row of that kind.

    The argument is ``group_by_length`` up to transformers 4 and ``train_sampling_strategy`` from 5 on.
    """
    arguments = seen.values.get("arguments") if seen.kind == ATTEMPT else None
    if not isinstance(arguments, Mapping):
        return None
    return arguments.get(_GROUPED) is True or arguments.get("train_sampling_strategy") == _GROUPED


def mega_batch(levels: Sequence[float], level: float, shift: float, *, declared: bool) -> bool:
    """Whether rows grouped by length explain where the loss went: it drifts, and comes back with each mega-batch.

    It came to that level before, from where it is again now, and drifted back; a spike leads to a level too, but leaves
    it at once. Where the arguments say that rows are grouped it is enough that the level is none that is new.

    Args:
        levels: Short medians before the place, oldest first.
        level: Where the loss went, in nats per token.
        shift: By how much; below 0: down.
        declared: Whether the arguments say so.
    """
    lately = levels[-limits.WINDOW :]
    if declared and lately:
        low, high = min(lately), max(lately)
        if low < level < high:
            return True
    aside = [(level - one) / shift for one in levels]  # 1 where it is from, 0 where it goes
    at = next((i for i in reversed(range(len(aside))) if aside[i] <= limits.MEGA_BATCH_AT), 0)
    began = next((i for i in reversed(range(at)) if aside[i] > limits.MEGA_BATCH_FROM), None)
    return began is not None and median(aside[began:]) < limits.MEGA_BATCH_MIDDLE


def first_mega_batch(window: Recent, count: int, levels: Sequence[float], shift: float) -> bool:
    """Whether a rise where a first mega-batch may end leads to where the loss was before.

    Args:
        window: The window after it.
        count: Points since the place.
        levels: Short medians before the place.
        shift: Its size.
    """
    before, after = window.steps[-count - 2] - 1, window.steps[-count] - 1
    ends = after - before <= 2 and after // limits.MEGA_STEPS > before // limits.MEGA_STEPS
    first = ends and (window.epochs[-count] or 0.0) <= 1
    return first and shift > 0 and max(levels) - levels[-1] > (1 - limits.MEGA_BATCH_AT) * shift
