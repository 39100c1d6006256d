"""What explains that the loss left its level: one small function for each reason, of the window and the place.

A place is how many points ago the first of the points is that are elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.excursion import Jump
from ko_cpt_callbacks.signal.window import Recent, median

__all__ = ["another_mega_batch", "drifted", "epoch_ends", "lengths_jumped", "paces_differ", "rate_falls", "rate_rises"]


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
