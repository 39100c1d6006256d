"""Learning-rate schedules as a share of the peak, over the whole planned run."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["SCHEDULES", "schedule"]

Floats = npt.NDArray[np.float64]

SCHEDULES = (
    "cosine", "cosine", "cosine-10", "linear", "linear", "constant", "wsd", "inverse-sqrt", "polynomial",
)  # fmt: skip
"""The ordinary ones, the usual ones more than once; ``step`` and ``restarts`` are asked for by name."""


def schedule(kind: str, points: int, warmup: float, rng: np.random.Generator) -> Floats:
    """Shares of the peak at ``points`` places, the first after one ``points``-th of the run.

    Args:
        kind: One of `SCHEDULES`, ``step`` or ``restarts``.
        points: How many.
        warmup: Share of the run over which the rate rises, linearly.
        rng: Where drops and cycles come from.
    """
    at = np.arange(1, points + 1) / points
    after = np.clip((at - warmup) / max(1e-9, 1.0 - warmup), 0.0, 1.0)
    if kind == "cosine":
        down = 0.5 * (1 + np.cos(math.pi * after))
    elif kind == "cosine-10":
        down = 0.1 + 0.45 * (1 + np.cos(math.pi * after))
    elif kind == "linear":
        down = 1.0 - after
    elif kind == "constant":
        down = np.ones(points)
    elif kind == "wsd":
        decay = rng.uniform(0.1, 0.25)
        down = np.clip((1.0 - at) / decay, 0.0, 1.0) ** rng.choice([0.5, 1.0])
    elif kind == "inverse-sqrt":
        first = max(warmup, 0.02)
        down = np.sqrt(first / np.maximum(at, first))
    elif kind == "polynomial":
        down = 0.05 + 0.95 * (1.0 - after) ** 2
    elif kind == "step":
        drops = np.sort(rng.uniform(0.3, 0.9, int(rng.integers(1, 4))))
        down = np.prod([np.where(at > drop, rng.uniform(0.1, 0.5), 1.0) for drop in drops], axis=0)
    elif kind == "restarts":
        cycles = int(rng.integers(2, 6))
        down = 0.5 * (1 + np.cos(math.pi * ((after * cycles) % 1.0)))
    else:
        raise ValueError(f"schedule: found {kind!r}")
    return np.asarray(np.where(at < warmup, at / max(warmup, 1e-9), down), dtype=np.float64)
