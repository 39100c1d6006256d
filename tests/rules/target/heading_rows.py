"""Rows of a run whose end is known: its loss falls with the summed rate, and by some with the rate itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from ko_cpt_callbacks.run.fold import PLAN, PLANNED_STEPS, RATE_AHEAD
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation

LAST: Final = 4000
EVERY: Final = 100
END: Final = 2.36
"""The loss of its last evaluation, to two decimals; nats per token."""


def cosine(step: float) -> float:
    """The rate of a step, part of the peak."""
    return (1 + math.cos(math.pi * step / LAST)) / 2


def planned(rate: Callable[[float], float] = cosine, scheduler: str = "LambdaLR") -> list[Observation]:
    """What is set up: the last step, and the rate ahead."""
    steps = [float(step) for step in range(0, LAST + 1, 20)]
    ahead = {"scheduler": scheduler, "steps": steps, "rates": [2e-4 * rate(step) for step in steps]}
    return [SetupObservation(0, PLAN, {PLANNED_STEPS: LAST}), SetupObservation(0, RATE_AHEAD, ahead)]


def heading(until: float = 0.6, seed: int = 0, split: str = "eval") -> list[Observation]:
    """The run up to a part of it: a training row and an exact evaluation every hundred steps."""
    noise = np.random.default_rng(seed).standard_normal(LAST // EVERY + 1)
    rows: list[Observation] = planned()
    for step in range(EVERY, int(until * LAST) + 1, EVERY):
        summed = (step + LAST / math.pi * math.sin(math.pi * step / LAST)) / 2
        loss = 2.0 + 3.0 * (summed + 100) ** -0.25 - 0.08 * (1 - cosine(step)) + 0.003 * float(noise[step // EVERY])
        rows.append(TrainObservation(step, loss=loss, learning_rate=2e-4 * cosine(step), tokens_seen=1000 * step))
        rows.append(EvalObservation(step, split=split, exact_loss=loss, tokens=1000, bytes=3000, rows=50))
    return rows
