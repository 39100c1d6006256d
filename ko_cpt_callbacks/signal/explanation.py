"""What explains that the loss left its level: one small function for each reason, of the window and the place.

A place is how many points ago the first of the points is that are elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.excursion import Jump
from ko_cpt_callbacks.signal.window import Recent, median

__all__ = [
    "another_tooth", "epoch_ends", "interval_changes", "lengths_jumped", "paces_differ", "rate_falls", "rate_rises",
    "teeth", "undone",
]  # fmt: skip


def epoch_ends(window: Recent, count: int) -> bool:
    """Whether an epoch ends at the place: between its rows, or at one that an old log rounded to the end itself."""
    near = range(-count - limits.AROUND, limits.AROUND - count)
    # Where it went most, to the point: a log may have few points in an epoch.
    at = max(near, key=lambda i: abs(window.losses[i] - window.losses[i - 1]))
    known = [epoch for epoch in window.epochs[at - 2 : at + 2] if epoch is not None]
    return len(known) > 1 and (
        int(known[0] + limits.EXACT_EPOCH) < int(known[-1] + limits.EXACT_EPOCH)
        or any(abs(epoch - round(epoch)) < limits.EXACT_EPOCH < epoch for epoch in known)
    )


def interval_changes(window: Recent, count: int) -> bool:
    """Whether rows are means over another number of steps from the place on."""
    before, after = (window.steps[i] - window.steps[i - 1] for i in (-count - 2, 1 - count))
    return not 1 < 2 * after / max(before, 1) < 2 * 2


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


def another_tooth(jumps: Sequence[Jump], start: int, shift: float, base: float) -> bool:
    """Whether a jump of this kind came before, and this one is the next tooth of a saw.

    Either the loss has drifted back since, or the distance between the jumps is what it was before.

    Args:
        jumps: The last ones, oldest first.
        start: Points since the window began, of the first point after the jump in question.
        shift: Its size in nats, below 0 where it goes down.
        base: The level before it.
    """
    least, most = limits.TEETH_ALIKE
    alike = [jump for jump in jumps if jump.index < start - 3 and least < jump.size / shift < most]
    if not alike:
        return False
    last, ahead = alike[-1], start - alike[-1].index
    if (last.after - base) / shift > limits.TOOTH_BACK:
        return True
    first = alike[-2].index if len(alike) > 1 else 0
    return abs(ahead - (last.index - first)) <= max(2.0, limits.TOOTH_PERIOD * ahead)


def teeth(jumps: Sequence[Jump], height: float) -> bool:
    """Whether most of a height was jumped twice and more, in one direction only: it drifts the other way, as in a saw.

    Args:
        jumps: The last ones.
        height: Nats.
    """
    ways = [jump.size > 0 for jump in jumps if 2 * abs(jump.size) > height]
    return len(ways) > 1 and len(set(ways)) == 1


def undone(window: Recent, before: Sequence[float], level: float, shift: float) -> int | None:
    """Whether a jump only undoes the drift since the loss was at that level before, as the end of a tooth does.

    Args:
        window: The window after the jump.
        before: The points of the window before it.
        level: Where it went.
        shift: By how much.

    Returns:
        None where it does not: the loss was never there, or a trend passed the level. 0 where it does. Where it was
        there only at the very start, which a learning curve may be as well as a tooth: how many points ago.
    """
    sign = 1.0 if shift > 0 else -1.0
    earlier: tuple[float, ...] = tuple(median(before[i : i + 3]) for i in range(len(before) - 2))
    older: list[float] = []
    if window.count > len(window.losses):
        older = [block.level for block in window.blocks if block.last_step < window.steps[0]]
        earlier = (*older, *earlier)
    near, far = sign * (level - limits.TOOTH_AT * shift), sign * (level - limits.TOOTH_FROM * shift)
    at = next((i for i in range(len(earlier) - 2, -1, -1) if sign * earlier[i] >= near), None)
    if shift > 0 and _jumped([*older, *(median(before[i : i + 4]) for i in range(0, len(before) - 3, 4))], shift):
        return 0
    if at is None:
        return None
    even, from_start = limits.TOOTH_EVEN
    if at >= limits.TOOTH_MIDDLES:
        if sign * median(earlier[at - limits.TOOTH_MIDDLES : at - 1]) < far:
            return 0
        if len(earlier) > limits.TOOTH_LONGEST:
            return None
        at, even = 0, from_start
    middle = earlier[(at + len(earlier)) // 2]
    done = (earlier[at] - middle) / (earlier[at] - earlier[-1]) if earlier[at] != earlier[-1] else 0.0
    return None if done >= even else len(earlier) - at


def _jumped(levels: Sequence[float], by: float) -> bool:
    """Whether the level jumped up by much of it before, and stayed there for a while."""
    least, most = (share * by for share in limits.TOOTH_JUMPED)
    after = ((levels[i], levels[i + 1 : i + 3]) for i in range(len(levels) - 3))
    return any(min(pair) - level > least and max(pair) - level > most for level, pair in after)
