"""Whether a jump of the training loss is a tooth of a saw, as rows grouped by length make them.

Within a mega-batch the rows get shorter and the loss drifts; with the next one it jumps back. A jump that only undoes a
drift, or that comes after another of its kind, is therefore no shift of the level. All thresholds are chosen, not
measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ko_cpt_callbacks.signal.excursion import Jump
from ko_cpt_callbacks.signal.window import Recent, median

__all__ = ["another", "lengths_jumped", "undone"]

_EVEN: Final = 0.75  # share of its way in the first half up to which a drift is even
_EVEN_FROM_START: Final = 0.65
_LONGEST: Final = 50  # points of a tooth: a mega-batch of the Trainer's has 50 batches


def another(jumps: Sequence[Jump], start: int, shift: float, base: float) -> bool:
    """Whether a jump of this kind came before, and this one is the next tooth.

    Either the loss has drifted back since, or the distance between the jumps is what it was before.

    Args:
        jumps: The last ones, oldest first.
        start: Points since the window began, of the first point after the jump in question.
        shift: Its size in nats, below 0 where it goes down.
        base: The level before it.
    """
    sign = 1.0 if shift > 0 else -1.0
    alike = [jump for jump in jumps if jump.index < start - 3 and 0.35 < jump.size / shift < 2.9]
    if not alike:
        return False
    last, ahead = alike[-1], start - alike[-1].index
    if sign * (last.after - base) > 0.3 * abs(shift):
        return True
    if len(alike) == 1 and not 0.7 < last.size / shift < 1.45:
        return False  # nothing but the start to measure from
    first = alike[-2].index if len(alike) > 1 else 0
    return abs(ahead - (last.index - first)) <= max(2.0, 0.12 * ahead)


def undone(recent: Recent, before: tuple[float, ...], level: float, shift: float) -> int | None:
    """Whether a jump only undoes the drift since the loss was at that level before, as the end of a tooth does.

    Args:
        recent: The window after the jump.
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
    if recent.count > len(recent.losses):
        older = [block.level for block in recent.blocks if block.last_step < recent.steps[0]]
        earlier = (*older, *earlier)
    near, far = sign * (level - 0.25 * shift), sign * (level - 0.4 * shift)
    at = next((i for i in range(len(earlier) - 2, -1, -1) if sign * earlier[i] >= near), None)
    if shift > 0 and _jumped([*older, *(median(before[i : i + 4]) for i in range(0, len(before) - 3, 4))], 0.6 * shift):
        return 0
    if at is None:
        return None
    even = _EVEN
    if at >= 5:
        if sign * median(earlier[at - 5 : at - 1]) < far:
            return 0
        if len(earlier) > _LONGEST:
            return None
        at, even = 0, _EVEN_FROM_START
    middle = earlier[(at + len(earlier)) // 2]
    done = (earlier[at] - middle) / (earlier[at] - earlier[-1]) if earlier[at] != earlier[-1] else 0.0
    # A tooth drifts evenly, a learning curve does most of its way in the first half.
    return None if done >= even else len(earlier) - at


def lengths_jumped(paces: tuple[float | None, ...], count: int) -> bool:
    """Whether tokens per step drifted and were back at once with a jump of the loss.

    Args:
        paces: Tokens per step of the last points, oldest first; ``None`` where they are not known.
        count: Points after the jump.
    """
    known = [pace for pace in paces if pace is not None]
    if len(known) < len(paces) - 1 or len(known) < count + 13:
        return False
    before = known[-count - 25 : -count - 1]
    early, late, now = median(before[: len(before) // 3]), median(before[-3:]), median(known[-count : 3 - count])
    return abs(late - early) > 0.1 * early and (now - late) / (early - late) > 0.5


def _jumped(levels: list[float], by: float) -> bool:
    """Whether the level jumped up by so much before, and stayed there for a while."""
    places = range(len(levels) - 3)
    return any(
        min(levels[i + 1 : i + 3]) - levels[i] > 0.3 * by and max(levels[i + 1 : i + 3]) - levels[i] > by
        for i in places
    )
