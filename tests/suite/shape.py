"""What a loss curve is made of: how far it falls and when, its noise, how many points of it are logged."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["NOISES", "curve", "noise_of", "pick_points"]

Floats = npt.NDArray[np.float64]
NOISES = ("normal", "normal", "normal", "tailed", "correlated", "uneven", "early", "skewed")
"""The ordinary one more often than the others."""


def noise_of(kind: str, points: int, rng: np.random.Generator) -> Floats:
    """Noise of standard deviation 1: ``normal``, ``tailed``, ``correlated``, ``uneven``, ``early`` or ``skewed``."""
    white = rng.normal(0.0, 1.0, points)
    if kind == "tailed":
        # A mean over a batch has tails, but not without end.
        return np.clip(rng.standard_t(4, points) / np.sqrt(2.0), -6.0, 6.0)
    if kind == "correlated":
        rho = rng.uniform(0.2, 0.6)
        out = np.empty(points)
        last = 0.0
        for i in range(points):
            last = rho * last + np.sqrt(1 - rho**2) * white[i]
            out[i] = last
        return out
    if kind == "skewed":
        # Single steps of a few rows: hard ones stand out more than easy ones.
        return (rng.gamma(9.0, 1.0, points) - 9.0) / 3.0
    if kind == "uneven":
        phase, turns = rng.uniform(0, 6.28), rng.uniform(0.5, 3.0)
        return np.asarray(white * (1.0 + 0.5 * np.sin(phase + turns * 6.28 * np.arange(points) / points)))
    if kind == "early":
        return np.asarray(white * (1.0 + 1.5 * np.exp(-np.arange(points) / max(4.0, points / 15))))
    return white


def curve(rate: Floats, end: float, fall: float, early: float, alpha: float, anneal: float) -> Floats:
    """A loss that comes from ``end + fall`` to about ``end``.

    Args:
        rate: Learning rate as a share of the peak, at every log point of the whole planned run.
        end: Where it would end at a constant rate, nats.
        fall: How far it falls until then.
        early: The smaller, the more of the fall comes at once: summed rate, in shares of a run, before the start.
        alpha: Power of the law.
        anneal: What the rate's coming down to 0 gains, nats.
    """
    summed = np.cumsum(rate) / len(rate)
    shape = ((summed + early) ** -alpha - (1 + early) ** -alpha) / (early**-alpha - (1 + early) ** -alpha)
    highest = np.maximum.accumulate(rate)
    down = highest - rate
    lag = np.empty_like(down)
    last, keep = 0.0, float(np.exp(-1.0 / max(1.0, len(rate) / 40)))
    for i, value in enumerate(down):
        last = keep * last + (1 - keep) * value
        lag[i] = last
    return np.asarray(end + fall * shape - anneal * lag)


def pick_points(rng: np.random.Generator, least: int = 12) -> int:
    """How many log points: mostly 40 to 400, at times 12 or 3,000."""
    low, high = ((12, 30), (30, 100), (100, 400), (400, 1200), (2500, 3000))[
        int(rng.choice(5, p=[0.1, 0.35, 0.4, 0.12, 0.03]))
    ]
    return max(least, int(np.exp(rng.uniform(np.log(low), np.log(high)))))
