"""The training loss around the end of an epoch: by how much it steps down beyond its trend."""

from __future__ import annotations

import math
from typing import NamedTuple

from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.trend import line_through
from ko_cpt_callbacks.signal.window import Recent, median

__all__ = ["Step", "begun", "step_at"]


class Step(NamedTuple):
    """What happens at the end of an epoch, in nats per token.

    ``epoch``: epochs done; ``drop``: by how much the loss is lower after it than the trend on both sides explains, with
    standard error; ``noise``: standard deviation of a point; ``before``, ``after``: levels; ``rate_fell``: the learning
    rate fell at the same place, which explains a drop.
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
    return limits.EPOCH_ROUNDED if round(epoch, limits.EPOCH_DECIMALS) == epoch else limits.EPOCH_EXACT


def step_at(recent: Recent, epoch: int, most: int) -> Step | None:
    """The step at the end of an epoch, from as many points before it as after it; ``None`` for too few.

    Args:
        recent: The window; its last points are those after the end.
        epoch: Epochs done then.
        most: Points on either side.
    """
    at = [(i, one) for i, one in enumerate(recent.epochs) if one is not None]
    after = [i for i, one in at if begun(one) == epoch]
    before = [i for i, one in at if begun(one) == epoch - 1]
    near = [i for i, one in at if _slack(one) == limits.EPOCH_ROUNDED and abs(one - epoch) < limits.EPOCH_ROUNDED]
    if len(near) > 1:
        # Many rows an epoch, and rounded: these are of either epoch.
        after, before = [i for i in after if i not in near], [i for i in before if i not in near]
    elif before and len(after) > limits.EPOCH_LEAST:
        last = recent.epochs[before[-1]]
        # A row that began before the end and was logged after it is a bit of both.
        if last is not None and last < epoch - 2 * _slack(last):
            after = after[1:]
    after, before = after[:most], before[-most:]
    count = min(len(before), len(after))
    if count < limits.EPOCH_LEAST:
        return None
    old, new = ([recent.losses[i] for i in side] for side in (before[-count:], after[:count]))
    line = line_through([*old, *new], broken=True)
    if line is None:
        return None
    # Whether the learning rate fell between two rows by far more than between the rows before them.
    at_end = [recent.rates[i] for i in (max(0, 2 * before[-1] - after[0]), before[-1], after[0])]
    earlier, high, low = (one or 0.0 for one in at_end)
    fell = None not in at_end and high - low > limits.EPOCH_RATE_FELL * high + 2 * max(earlier - high, 0.0)
    return Step(epoch, line.drop, line.drop_error, line.noise, median(old), median(new), fell)
