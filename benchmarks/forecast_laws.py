"""Other laws of a loss curve, fitted to what was seen: what ``forecast.py`` is measured beside.

The exponents are tried on a grid, the rest is least squares; a negative effect of the learning rate, a negative floor
or a curve that rises is no fit. The best fit is the one with the smallest mean square.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
EXPONENTS = tuple(np.geomspace(0.05, 2.0, 24).tolist())


class Seen(NamedTuple):
    """Steps and losses that are fitted, and the rate of every step of the run in units of its peak."""

    steps: Floats
    losses: Floats
    rates: Floats


def persistence(seen: Seen) -> float:
    """The loss stays."""
    return float(seen.losses[-1])


def power_law(seen: Seen) -> float:
    """``L0 + A * t^-alpha``."""
    whole = np.arange(1.0, len(seen.rates) + 1)
    return _best(seen, ([whole**-alpha] for alpha in EXPONENTS))


def tissue(seen: Seen) -> float:
    """``L0 + A * S1^-alpha - C * S2``, lambda = 0.999 (Tissue et al. 2024, arXiv 2408.11029)."""
    total = np.cumsum(seen.rates)
    drops = -np.diff(seen.rates, prepend=seen.rates[0])
    momentum, annealed = 0.0, np.empty(len(drops))
    for index, drop in enumerate(drops.tolist()):
        momentum = 0.999 * momentum + drop
        annealed[index] = momentum
    area = np.cumsum(annealed)
    return _best(seen, ([total**-alpha, -area] for alpha in EXPONENTS))


def multi_power(seen: Seen) -> float:
    """``L0 + A * S^-alpha - B * sum of drops * (1 - (1 + C * rate^-gamma * S since)^-beta)`` (arXiv 2503.12811)."""
    total = np.cumsum(seen.rates)
    # Drops of one part of the run are taken together: 400 instead of tens of thousands.
    edges = np.unique(np.linspace(int(np.argmax(seen.rates)), len(total) - 1, 401).astype(int))
    drops = seen.rates[edges[:-1]] - seen.rates[edges[1:]]
    at = np.unique(np.concatenate([seen.steps.astype(int) - 1, [len(total) - 1]]))
    shapes = []
    for speed in (0.003, 0.01, 0.03, 0.1, 0.3):
        for beta in (0.3, 0.6, 0.9):
            for gamma in (0.3, 0.64):
                after = speed * np.maximum(seen.rates[edges[1:]], 1e-6) ** -gamma
                since = np.maximum(total[at][:, None] - total[edges[:-1]][None, :], 0.0)
                effect = (1 - (1 + after * since) ** -beta) @ drops
                shapes.append(np.interp(np.arange(len(total)), at, effect))
    return _best(seen, ([total**-alpha, -shape] for shape in shapes for alpha in EXPONENTS))


LAWS: dict[str, Callable[[Seen], float]] = {
    "last value": persistence,
    "power law in steps": power_law,
    "Tissue": tissue,
    "Multi-Power Law": multi_power,
}


def _best(seen: Seen, tried: Iterable[list[Floats]]) -> float:
    """The last step's loss by the best of the fits; the last value where there is none."""
    index = np.clip(seen.steps.astype(int) - 1, 0, len(seen.rates) - 1)
    best, said = np.inf, persistence(seen)
    for columns in tried:
        columns = [np.ones(len(seen.rates)), *columns]
        design = np.stack([column[index] for column in columns], axis=1)
        if np.ptp(design[:, -1]) == 0:  # nothing has annealed yet: its effect cannot be fitted
            columns, design = columns[:2], design[:, :2]
        solved = np.linalg.lstsq(design, seen.losses, rcond=None)[0]
        miss = float(np.mean((design @ solved - seen.losses) ** 2))
        if (solved >= 0).all() and miss < best:
            best, said = miss, float(sum(c[-1] * x for c, x in zip(columns, solved, strict=True)))
    return said
