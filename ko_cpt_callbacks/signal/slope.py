"""How far a noisy series of training losses falls over a stretch, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ko_cpt_callbacks.signal.window import QUIET, median

__all__ = ["Fall", "fall_of"]

_LEAST: Final = 6
_CLIP: Final = 3.0  # standard deviations beyond which a point counts as that far off
_TURNS: Final = 2  # of fitting anew with the outliers pulled in
_MAD_TO_SD: Final = 1.4826  # for normal noise
_MOST_LINKED: Final = 0.6


@dataclass(frozen=True, slots=True)
class Fall:
    """A straight line through the points.

    Args:
        fall: From the first point to the last, nats per token; negative where it rises.
        error: Its standard error.
        noise: Standard deviation of one point around the line.
        start: The line's value at the first point.
        points: How many.
    """

    fall: float
    error: float
    noise: float
    start: float
    points: int


def fall_of(values: Sequence[float], least_noise: float = QUIET) -> Fall | None:
    """The line through equally spaced values, outliers pulled in to three standard deviations.

    The error allows for neighbours that resemble each other (the correlation of neighbouring residuals).

    Args:
        values: Losses in nats per token, oldest first.
        least_noise: No noise is taken for less.

    Returns:
        ``None`` for fewer than six.
    """
    n = len(values)
    if n < _LEAST:
        return None
    middle = (n - 1) / 2
    spread = n * (n * n - 1) / 12
    used = list(values)
    mean = slope = noise = 0.0
    rest: list[float] = []
    for turn in range(_TURNS + 1):
        mean = sum(used) / n
        slope = sum((i - middle) * value for i, value in enumerate(used)) / spread
        line = [mean + slope * (i - middle) for i in range(n)]
        rest = [value - at for value, at in zip(values, line, strict=True)]
        noise = max(_MAD_TO_SD * median([abs(one) for one in rest]), least_noise)
        if turn < _TURNS:
            most = _CLIP * noise
            used = [at + max(-most, min(most, one)) for at, one in zip(line, rest, strict=True)]
    most = _CLIP * noise
    rest = [max(-most, min(most, one)) for one in rest]
    # The median is a poor guide where values are few or rounded; the mean square is not.
    noise = max(noise, math.sqrt(sum(one * one for one in rest) / (n - 2)))
    linked = sum(a * b for a, b in pairwise(rest)) / max(sum(one * one for one in rest), 1e-30)
    linked = min(max(linked, 0.0), _MOST_LINKED)
    error = noise * math.sqrt((1 + linked) / (1 - linked)) * (n - 1) / math.sqrt(spread)
    return Fall(-slope * (n - 1), error, noise, mean - slope * middle, n)
