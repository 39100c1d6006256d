"""The training loss around the end of an epoch: by how much it steps down beyond its trend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ko_cpt_callbacks.signal.window import QUIET, Recent, median

__all__ = ["LEAST", "MOST", "Step", "begun", "step_at"]

LEAST: Final = 3
"""Points on either side of the end of an epoch that a step needs."""
MOST: Final = 12
"""Points on either side that are looked at. Chosen, not measured: a step is sudden."""
_ROUNDED: Final = 0.006  # epochs are written with two decimals in old logs
_EXACT: Final = 1e-6
_RATE_FELL: Final = 0.1  # share of the rate
_CLIP: Final = 2.5
_MAD_TO_SD: Final = 1.4826  # for normal noise


@dataclass(frozen=True, slots=True)
class Step:
    """What happens at the end of an epoch.

    Args:
        epoch: Epochs done.
        drop: By how much the loss is lower after it than the trend on both sides explains, nats per token.
        error: Standard error of that.
        noise: Standard deviation of one point.
        before: Level before it.
        after: Level after it.
        rate_fell: The learning rate fell at the same place, which explains a drop.
    """

    epoch: int
    drop: float
    error: float
    noise: float
    before: float
    after: float
    rate_fell: bool


def begun(epoch: float) -> int:
    """Epochs done at a row: 1 for every row after the first epoch, whose own last row is at 1.0.

    >>> begun(0.5), begun(1.0), begun(1.1)
    (0, 0, 1)
    """
    return max(math.ceil(epoch - _slack(epoch)) - 1, 0)


def _slack(epoch: float) -> float:
    return _ROUNDED if round(epoch, 2) == epoch else _EXACT


def step_at(recent: Recent, epoch: int, most: int) -> Step | None:
    """The step at the end of an epoch, from as many points before it as after it.

    Args:
        recent: The window; its last points are those after the end.
        epoch: Epochs done then.
        most: Points on either side.

    Returns:
        ``None`` for fewer than `LEAST` points on either side.
    """
    at = [(i, one) for i, one in enumerate(recent.epochs) if one is not None]
    after = [i for i, one in at if begun(one) == epoch]
    before = [i for i, one in at if begun(one) == epoch - 1]
    near = [i for i, one in at if round(one, 2) == one and abs(one - epoch) < _ROUNDED]
    if len(near) > 1:
        # Many rows an epoch, and two decimals: these are of either epoch.
        after, before = [i for i in after if i not in near], [i for i in before if i not in near]
    elif before and len(after) > LEAST:
        last = recent.epochs[before[-1]]
        # A row that began before the end and was logged after it is a bit of both.
        if last is not None and last < epoch - 2 * _slack(last):
            after = after[1:]
    after, before = after[:most], before[-most:]
    count = min(len(before), len(after))
    if count < LEAST:
        return None
    before, after = before[-count:], after[:count]
    drop, error, noise = _jump([recent.losses[i] for i in (*before, *after)], count)
    return Step(
        epoch, drop, error, noise, median([recent.losses[i] for i in before]),
        median([recent.losses[i] for i in after]),
        _rate_fell(recent, before[-1], after[0]),
    )  # fmt: skip


def _rate_fell(recent: Recent, last: int, first: int) -> bool:
    """Whether the learning rate fell between two rows by far more than between the rows before them."""
    high, low, earlier = recent.rates[last], recent.rates[first], recent.rates[max(0, 2 * last - first)]
    if high is None or low is None or earlier is None:
        return False
    return high - low > _RATE_FELL * high + 2.0 * max(earlier - high, 0.0)


def _jump(values: Sequence[float], count: int) -> tuple[float, float, float]:
    """A line through ``2 * count`` values with a jump in the middle: its drop, standard error, and the noise."""
    n = 2 * count
    times = [i - (n - 1) / 2 for i in range(n)]
    sides = [-0.5] * count + [0.5] * count
    tt = sum(t * t for t in times)
    ts = sum(t * s for t, s in zip(times, sides, strict=True))
    ss = 0.25 * n
    rest = ss - ts * ts / tt  # of the jump that the line cannot imitate
    used = list(values)
    slope = jump = noise = 0.0
    for turn in range(3):
        mean = sum(used) / n
        ty = sum(t * y for t, y in zip(times, used, strict=True))
        sy = sum(s * y for s, y in zip(sides, used, strict=True))
        jump = (sy - ts * ty / tt) / rest
        slope = (ty - jump * ts) / tt
        line = [mean + slope * t + jump * s for t, s in zip(times, sides, strict=True)]
        off = [value - at for value, at in zip(values, line, strict=True)]
        noise = max(_MAD_TO_SD * median([abs(one) for one in off]) * math.sqrt(n / (n - 3)), QUIET)
        if turn < 2:
            most = _CLIP * noise
            used = [at + max(-most, min(most, one)) for at, one in zip(line, off, strict=True)]
    return -jump, noise / math.sqrt(rest), noise
