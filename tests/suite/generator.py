"""A labelled suite of Trainer logs: many kinds of healthy runs and of failures, all made, all from a seed.

``for run in runs(seed=0): …`` — about 380 healthy runs and 240 with a fault. The same seed gives the same runs; a kind
that is added leaves the others as they were. ``noise=2.0`` doubles the noise of training rows and evaluations.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from suite import faults_curve, faults_eval, faults_flat, faults_log
from suite.healthy import HEALTHY
from suite.run import LabelledRun

__all__ = ["FAULTS", "HEALTHY", "kinds", "make", "runs"]

Kind = Callable[[np.random.Generator, float], LabelledRun]

FAULTS: dict[str, tuple[Kind, int]] = {
    **faults_curve.FAULTS, **faults_log.FAULTS, **faults_eval.FAULTS, **faults_flat.FAULTS,
}  # fmt: skip
HEALTHY_TWICE = 2
"""Healthy kinds come this many times as often as their own number says, so that they are the larger half."""


def kinds() -> dict[str, tuple[Kind, int]]:
    """Every kind by name, healthy ones first, with its number in a suite of full size."""
    healthy = {f"healthy/{name}": (kind, HEALTHY_TWICE * count) for name, (kind, count) in HEALTHY.items()}
    return {**healthy, **FAULTS}


def make(name: str, number: int, seed: int = 0, noise: float = 1.0) -> LabelledRun:
    """One run: the ``number``-th of a kind."""
    kind, _ = kinds()[name]
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
    return replace(kind(rng, noise), name=f"{name}/{number:02}", kind=name)


def runs(seed: int = 0, noise: float = 1.0, size: float = 1.0) -> Iterator[LabelledRun]:
    """The suite.

    Args:
        seed: Other runs of the same kinds.
        noise: Multiplies every noise.
        size: Share of a full suite; every kind is there at least once.
    """
    for name, (_, count) in kinds().items():
        for number in range(max(1, round(size * count))):
            yield make(name, number, seed, noise)
