"""A labelled suite of Trainer logs: many kinds of healthy runs and of failures, all made, all from a seed.

``for run in runs(seed=0): …`` — about 380 healthy runs and 240 with a fault. The same seed gives the same runs; a kind
that is added leaves the others as they were. ``noise=2.0`` doubles the noise of training rows and evaluations.

Kinds come in two groups. The old ones are those the rules were first tuned with. The new ones (``group="new"``, about
105 healthy runs and 45 with a fault) were added later, after public logs and without a look at the detectors, and are
reported apart.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from suite import faults_curve, faults_eval, faults_flat, faults_log, new_faults, new_healthy
from suite.healthy import HEALTHY
from suite.run import LabelledRun

__all__ = ["FAULTS", "GROUPS", "HEALTHY", "kinds", "make", "new_kinds", "runs"]

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


def new_kinds() -> dict[str, tuple[Kind, int]]:
    """Every kind of the new group by name, healthy ones first, with its number in a suite of full size."""
    healthy = {f"healthy/{name}": value for name, value in new_healthy.HEALTHY.items()}
    return {**healthy, **new_faults.FAULTS}


GROUPS: dict[str, tuple[Callable[[], dict[str, tuple[Kind, int]]], ...]] = {
    "old": (kinds,), "new": (new_kinds,), "all": (kinds, new_kinds),
}  # fmt: skip
"""Names of groups, and where their kinds are."""


def make(name: str, number: int, seed: int = 0, noise: float = 1.0) -> LabelledRun:
    """One run: the ``number``-th of a kind of either group, whose name is its seed and so outlives a code's."""
    kind, _ = {**new_kinds(), **kinds()}[name]
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
    return replace(kind(rng, noise), name=f"{name}/{number:02}", kind=name)


def runs(seed: int = 0, noise: float = 1.0, size: float = 1.0, group: str = "old") -> Iterator[LabelledRun]:
    """The suite.

    Args:
        seed: Other runs of the same kinds.
        noise: Multiplies every noise.
        size: Share of a full suite; every kind is there at least once.
        group: ``old``, ``new`` or ``all``.
    """
    for name, (_, count) in (item for part in GROUPS[group] for item in part().items()):
        for number in range(max(1, round(size * count))):
            yield make(name, number, seed, noise)
