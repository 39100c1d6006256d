"""Training curves for the tests of the rules on them: what a Trainer logs, as observations."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.rule import Rule
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.observation import Observation, TrainObservation

__all__ = ["cosine", "falling", "findings", "noisy", "rows"]


def noisy(points: int, sd: float = 0.02, seed: int = 0) -> list[float]:
    """Independent normal noise, the same for the same seed."""
    rng = random.Random(seed)
    return [rng.gauss(0.0, sd) for _ in range(points)]


def falling(
    points: int, sd: float = 0.02, *, level: float = 2.5, fall: float = 0.8, seed: int = 0,
    extra: Callable[[int], float] = lambda i: 0.0,
) -> list[float]:  # fmt: skip
    """A healthy curve: most of the fall in the first tenth; ``extra`` is added point by point."""
    noise = noisy(points, sd, seed)
    return [level + fall * math.exp(-10 * i / points) + noise[i] + extra(i) for i in range(points)]


def cosine(points: int, peak: float = 1e-4, warmup: float = 0.05) -> list[float]:
    """Learning rates: a linear warm-up, then a cosine to nearly 0."""
    at = [(i + 1) / points for i in range(points)]
    down = [0.5 * (1 + math.cos(math.pi * (a - warmup) / (1 - warmup))) for a in at]
    return [peak * min(a / warmup, share) for a, share in zip(at, down, strict=True)]


def rows(
    losses: Sequence[float | None], *, rates: Sequence[float | None] | None = None, epochs: float | None = None,
    every: int = 10, start: int = 0, tokens: Sequence[int] | None = None,
) -> list[Observation]:  # fmt: skip
    """One row every ``every`` steps; ``epochs`` in all; ``tokens``: the counter of input tokens."""
    count = len(losses)
    return [
        TrainObservation(
            start + every * (i + 1), loss=loss, learning_rate=None if rates is None else rates[i],
            epoch=None if epochs is None else epochs * (i + 1) / count,
            input_tokens=None if tokens is None else tokens[i],
        )
        for i, loss in enumerate(losses)
    ]  # fmt: skip


def findings(rule: Rule, seen: Sequence[Observation]) -> list[Finding]:
    """What a rule says of a whole history."""
    return list(Monitor([rule]).judge(seen)[1])
