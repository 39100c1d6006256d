"""How low a loss can be, by the bytes of the run's text where they are known, and whether it got there at once."""

from __future__ import annotations

import math

from ko_cpt_callbacks.run.observation import EvalObservation
from ko_cpt_callbacks.signal import limits

__all__ = ["abrupt_drop", "fewest_bytes", "floor_of", "least_fall", "lowest_level"]


def fewest_bytes(known: float | None, seen: EvalObservation) -> float | None:
    """UTF-8 bytes per token of the run's text after one more evaluation: of the set with the fewest.

    Sets in other languages have more or fewer. By the fewest a loss is the most bits per byte, so that a training loss
    is called too low only where it is by every set.

    Args:
        known: The same before it; ``None`` where no row had bytes.
        seen: The evaluation.
    """
    here = seen.bytes_per_token
    if here is None or known is None:
        return known if here is None else here
    return min(known, here)


def floor_of(
    bytes_per_token: float | None, bits: float = limits.FLOOR_BITS, unknown: float = limits.FLOOR_NATS
) -> float:
    """The loss below which no text is, nats per token.

    Args:
        bytes_per_token: UTF-8 bytes per token; ``None``: not known.
        bits: The floor in bits per byte.
        unknown: What is taken for it while bytes are not known, in nats per token.

    >>> round(floor_of(1.3), 2), round(floor_of(6.5), 2)
    (0.37, 1.87)
    """
    return unknown if bytes_per_token is None else bits * math.log(2.0) * bytes_per_token


def least_fall(bytes_per_token: float | None) -> float:
    """Nats per token by which a sudden fall is one.

    Args:
        bytes_per_token: UTF-8 bytes per token; ``None``: not known.
    """
    return floor_of(bytes_per_token, limits.FALL_BITS, limits.FALL_NATS)


def abrupt_drop(
    losses: tuple[float, ...], lowest: float | None = None, least: float = limits.FALL_NATS
) -> tuple[float, float] | None:
    """The levels before and after the largest sudden fall in a row of logged training losses, oldest first.

    A fall is sudden where the median of five points is more than ``least`` below that of the five before, and more than
    three times as far as the level had moved in the ten points before those: a curve that has been falling all the time
    is not. It must also be so far below the lowest such median of all points before: the return from a spike, however
    wide, is none.

    Args:
        losses: Finite losses, in nats per token.
        lowest: `lowest_level` of the points before these; ``None`` where there are none.
        least: Nats per token.

    Returns:
        ``None`` where there is none, also with fewer than 20 points.
    """
    side, reach = limits.FALL_SIDE, limits.FALL_REACH
    if len(losses) < reach + side or max(losses) - min(losses) <= least:
        return None
    middles = [_median(losses[i : i + side]) for i in range(len(losses) - side + 1)]
    found: tuple[float, float] | None = None
    floor = min([*middles[: reach - side], *(() if lowest is None else (lowest,))])
    for i in range(reach, len(middles)):
        before, after = middles[i - side], middles[i]
        floor = min(floor, before)
        needed = max(least, limits.FALL_RATIO * abs(middles[i - reach] - before))
        fall = before - after
        if fall > needed and floor - after > least and (found is None or fall > found[0] - found[1]):
            found = before, after
    return found


def lowest_level(
    losses: tuple[float, ...], keep: int, lowest: float | None = None, side: int = limits.FALL_SIDE
) -> float | None:
    """The lowest short median among points of which all but the last ``keep`` are forgotten.

    Args:
        losses: Oldest first.
        keep: How many stay.
        lowest: The same of points that were forgotten before.
        side: Points of a short median, as in `abrupt_drop`.
    """
    for i in range(len(losses) - max(keep, side)):
        level = _median(losses[i : i + side])
        lowest = level if lowest is None or level < lowest else lowest
    return lowest


def _median(few: tuple[float, ...]) -> float:
    return sorted(few)[len(few) // 2]
