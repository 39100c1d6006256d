"""Failures of learning: by heart, no longer, or not at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from suite.draft import draw
from suite.run import LabelledRun
from suite.shape import pick_points

__all__ = ["FAULTS"]

Kind = Callable[[np.random.Generator, float], LabelledRun]


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(max(high, low)))))


def _by_heart(variant: str) -> Kind:
    """Falls in steps at the ends of epochs."""

    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        epochs = int(rng.integers(3, 9))
        each = int(rng.integers(7, 60))
        run = draw(
            rng, noise, points=epochs * each, done=1.0, epochs=float(epochs), level=float(rng.uniform(1.5, 2.8)),
            fall=float(rng.uniform(0.3, 1.0)), early=0.01, sd=_log_uniform(rng, 0.005, 0.04), anneal=0.02,
            kind=str(rng.choice(["cosine", "linear", "constant"])),
        )  # fmt: skip
        edges = run.boundaries()
        low, high = {"slight": (0.10, 0.14), "middle": (0.14, 0.22), "large": (0.22, 0.4)}[variant]
        share = np.ones(run.points)
        for edge in edges:
            share[edge:] *= 1.0 - rng.uniform(low, high)
        run.extra = run.extra + run.true * (share - 1.0)
        run.blur = run.blur * np.clip(share, 0.4, 1.0)
        first, second = run.at(edges[0]), run.at(min(run.points - 1, edges[1] + max(4, each // 2)))
        return run.run(
            f"memorising/steps-{variant}", {"memorizing": (first, max(second, run.at(edges[1] + 8)))},
            allowed=("overfitting", "gap-widening", "below-floor", "padding-in-loss"), size=(low + high) / 2,
            onset=run.at(edges[1]),
        )  # fmt: skip

    return made


def _far_below(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Many epochs over little text: smoothly to a small part of the first epoch's level."""
    epochs = int(rng.integers(15, 60))
    run = draw(
        rng, noise, points=max(60, int(epochs * rng.uniform(2, 8))), done=1.0, epochs=float(epochs), task="other",
        header=str(rng.choice(["old", "modern"])), kind="linear", evals=0, sd=0.02, tokens="none",
    )  # fmt: skip
    at = np.arange(run.points) / run.points
    start = float(rng.uniform(2.5, 4.5))
    end = start * rng.uniform(0.05, 0.25)
    run.true = end + (start - end) * np.exp(-at / rng.uniform(0.2, 0.4))
    run.blur = run.blur * run.true / start
    run.true = np.maximum(run.true, 0.05)
    by = int(np.flatnonzero(run.true < max(0.4 * start, 1.05 * float(run.true.min())))[0])
    window = (run.at(int(run.points * 1.5 / epochs)), run.at(by + run.points // 8))
    return run.run(
        "memorising/many-epochs", {"memorizing": window},
        allowed=("below-floor", "plateau"), size=end / start, onset=run.at(int(run.points * 2 / epochs)),
    )  # fmt: skip


def _plateau(variant: str) -> Kind:
    """Learns, then stands still while the rate would let it."""

    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        run = draw(
            rng, noise, points=pick_points(rng, 60), kind="constant" if variant == "constant" else "wsd",
            warmup=float(rng.choice([0.0, 0.03, 0.05])), fall=float(rng.uniform(0.5, 2.0)), anneal=0.0,
            sd=_log_uniform(rng, 0.005, 0.05), done=1.0 if variant == "constant" else 0.75, evals=0,
            header=str(rng.choice(["modern", "trl", "ours"])), level=float(rng.uniform(1.5, 3.2)), task="cpt",
        )  # fmt: skip
        stop = int(rng.uniform(0.3, 0.5) * run.points)
        start, end = float(run.true[0]), float(run.true[stop])
        # Comes down to its level within the first part, and stays.
        shape = np.exp(-np.arange(run.points) / (stop / 5.0))
        run.true = end + (start - end) * shape
        last = run.at(run.points - 1)
        return run.run(f"plateau/{variant}", {"plateau": (run.at(stop), last)}, onset=run.at(int(0.7 * run.points)))

    return made


def _nothing(variant: str) -> Kind:
    """The weights do not learn: a rate of (nearly) nothing, a frozen adapter, an optimiser without parameters."""

    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        run = draw(
            rng, noise, least=40, sd=_log_uniform(rng, 0.005, 0.06), fall=0.001, anneal=0.0,
            level=14.0 if variant == "stuck-high" else float(rng.uniform(1.5, 4.0)), task="cpt",
            header=None if variant != "bare" else "bare", offset=0.1,
        )  # fmt: skip
        run.true = np.full(run.points, float(run.true[-1]))
        if variant == "stuck-high":
            run.true = run.true + 0.3 * np.exp(-np.arange(run.points) / 3.0)
        if variant == "frozen":
            run.grad = np.zeros(run.points)
        if variant == "barely":
            run.true = run.true - min(0.3 * run.sd, 0.004) * np.arange(run.points) / run.points
        last = run.at(run.points - 1)
        return run.run(
            f"no-learning/{variant}", {"no-learning": (run.at(3), last)}, allowed=("plateau",), onset=run.at(0)
        )

    return made


FAULTS: dict[str, tuple[Kind, int]] = {
    "memorising/steps-slight": (_by_heart("slight"), 4),
    "memorising/steps-middle": (_by_heart("middle"), 4),
    "memorising/steps-large": (_by_heart("large"), 3),
    "memorising/many-epochs": (_far_below, 4),
    "plateau/constant": (_plateau("constant"), 7),
    "plateau/stable-phase": (_plateau("stable-phase"), 5),
    "no-learning/flat": (_nothing("flat"), 4),
    "no-learning/frozen": (_nothing("frozen"), 3),
    "no-learning/stuck-high": (_nothing("stuck-high"), 2),
    "no-learning/barely": (_nothing("barely"), 2),
    "no-learning/bare": (_nothing("bare"), 2),
}
"""Per kind how it is made, and how many of a suite of full size are of it."""
