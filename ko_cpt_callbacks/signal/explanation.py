"""What explains that the loss left its level: one small function for each reason, of the window and the place.

A place is how many points ago the first of the points is that are elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from ko_cpt_callbacks.run.fold import ATTEMPT
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.excursion import Jump
from ko_cpt_callbacks.signal.window import Recent, median

__all__ = [
    "another_mega_batch", "begins_mega_batch", "epoch_ends", "groups_lengths", "lengths_jumped", "paces_differ",
    "rate_falls", "rate_rises", "saw", "undone", "within_saw",
]  # fmt: skip

_GROUPED: Final = "group_by_length"


def epoch_ends(window: Recent, count: int) -> bool:
    """Whether an epoch ends at the place: between its rows, or at one that an old log rounded to the end itself."""
    near = range(-count - limits.AROUND, limits.AROUND - count)
    # Where it went most, to the point: a log may have few points in an epoch.
    at = max(near, key=lambda i: abs(window.losses[i] - window.losses[i - 1]))
    known = [epoch for epoch in window.epochs[at - 2 : at + 2] if epoch is not None]
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
    older = [block.level for block in window.blocks if block.last_step < window.steps[0]]
    many = limits.MEGA_BATCH_LONGEST // window.block_size + 1
    levels = [*older[-many:], *_medians(window.losses[: -count or None])]
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
    if (last.after - base) / shift > limits.MEGA_BATCH_BACK:
        return True
    first = alike[-2].index if len(alike) > 1 else 0
    return abs(ahead - (last.index - first)) <= max(2.0, limits.MEGA_BATCH_PERIOD * ahead)


def undone(window: Recent, before: Sequence[float], level: float, shift: float) -> bool | None:
    """Whether a jump only undoes the drift since the loss was at that level before, as the end of a mega-batch does.

    Args:
        window: The window after the jump.
        before: The points of the window before it.
        level: Where it went.
        shift: By how much.

    Returns:
        True where it does: it came there from elsewhere, or a mega-batch begins there. None where it may: it has
        drifted evenly since the start. False where the loss was never there, or came by on its way.
    """
    sign = 1.0 if shift > 0 else -1.0
    earlier = [sign * one for one in _medians(before)]
    near, far = sign * level - limits.MEGA_BATCH_AT * abs(shift), sign * level - limits.MEGA_BATCH_FROM * abs(shift)
    at = next((i for i in range(len(earlier) - 2, -1, -1) if earlier[i] >= near), None)
    if at is None:
        return False
    count = len(window.losses) - len(before) - 1
    if any(one < far for one in earlier[:at]) or (shift > 0 and begins_mega_batch(window, count)):
        return True
    # A learning curve does most of its way in the first half, a mega-batch drifts evenly.
    middle = earlier[(at + len(earlier)) // 2]
    even = earlier[at] - middle < limits.MEGA_BATCH_EVEN * (earlier[at] - earlier[-1])
    return None if even and at < limits.MEGA_BATCH_SINCE * len(earlier) else False


def begins_mega_batch(window: Recent, count: int) -> bool:
    """Whether a mega-batch may begin at the place: in the first epoch, each step logged, after half of 50 batches."""
    before, after = window.steps[-count - 2], window.steps[-count]
    near = after - before <= 2 and (window.epochs[-count] or 0.0) <= 1
    return near and (after - 1) // limits.MEGA_STEPS > (before - 1) // limits.MEGA_STEPS


def _medians(points: Sequence[float]) -> list[float]:
    return [median(points[i : i + limits.AROUND]) for i in range(len(points) - limits.AROUND + 1)]
