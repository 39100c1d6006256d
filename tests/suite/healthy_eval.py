"""Healthy runs whose evaluations look like overfitting, a widening gap or forgetting to a naive rule."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from suite.draft import Draft, EvalSet, draw
from suite.run import LabelledRun

__all__ = ["HEALTHY"]

Kind = Callable[[np.random.Generator, float], LabelledRun]


def _bump_evaluated(rng: np.random.Generator, noise: float) -> LabelledRun:
    """The bump of a warm-up, or of restarts, in training and evaluation alike."""
    again = rng.random() < 0.5
    run = draw(
        rng, noise, least=80, kind="restarts" if again else None, warmup=0.0 if again else 0.1, header="modern",
        evals=int(rng.choice([20, 40])), anneal=float(rng.uniform(0.08, 0.2)), plain=False,
    )  # fmt: skip
    if not again:
        at = np.arange(run.points) / run.points
        run.true = run.true + rng.uniform(0.1, 0.5) * np.exp(-(((at - 0.08) / 0.04) ** 2))
    return run.run("healthy/bump-evaluated")


def _eval_only(rng: np.random.Generator, noise: float) -> LabelledRun:
    """``logging_strategy="no"``: evaluations alone."""
    run = draw(rng, noise, least=12, points=int(rng.integers(12, 60)), header=str(rng.choice(["modern", "ours"])))
    run.evals.clear()
    every = int(rng.choice([1, 2]))
    at = np.arange(every - 1, run.points, every)
    spread = 0.003 * noise
    run.evals.append(
        EvalSet("eval", at, 0.05, spread, np.zeros(run.points), run.header == "ours", rng.normal(0, spread, len(at)))
    )
    run.train_rows = False
    return run.run("healthy/eval-only")


def _dropout(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Evaluation well below training, because dropout is off in it."""
    run = draw(rng, noise, least=40, evals=int(rng.choice([8, 20])), offset=-float(rng.uniform(0.1, 0.35)), fall=1.0)
    return run.run("healthy/eval-below-train")


def _constant_gap(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Two text sources: the gap is above 1 nat from the first evaluation on, and stays."""
    run = draw(rng, noise, least=40, evals=int(rng.choice([5, 8, 20, 60])), offset=float(rng.uniform(0.8, 1.5)))
    return run.run("healthy/constant-gap")


def _late_gap(rng: np.random.Generator, noise: float) -> LabelledRun:
    """A steep start: the first training means lie above the evaluations at their end, so the gap seems to widen."""
    run = draw(
        rng, noise, least=40, evals=int(rng.choice([5, 8, 15, 40])), plain=False, early=float(rng.uniform(0.002, 0.01)),
        fall=float(rng.uniform(1.0, 4.0)), done=1.0,
    )  # fmt: skip
    return run.run("healthy/gap-by-lag")


def _gap_along(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Several epochs: training falls faster than the evaluation, which falls too, to the end."""
    run = draw(
        rng, noise, least=60, evals=int(rng.choice([8, 15, 30])), epochs=float(rng.choice([2, 3, 4])), kind="linear",
        level=float(rng.uniform(1.6, 3.0)), fall=float(rng.uniform(0.8, 2.0)), early=0.1, eval_sd=0.002, done=1.0,
    )  # fmt: skip
    at = np.arange(run.points) / run.points
    run.extra = run.extra - rng.uniform(0.02, 0.07) * np.clip(at - 0.2, 0, None)
    return run.run("healthy/gap-while-falling")


def _blips(rng: np.random.Generator, noise: float) -> LabelledRun:
    """One evaluation, or two far apart, above the others, without a trace in training."""
    run = draw(rng, noise, least=40, evals=int(rng.choice([15, 30, 50])))
    for one in run.evals:
        for order in rng.choice(np.arange(2, len(one.at) - 2, 4), int(rng.integers(1, 3)), replace=False):
            one.blur[order] += rng.uniform(0.03, 0.12)
    return run.run("healthy/eval-blip")


def _noisy_evals(rng: np.random.Generator, noise: float) -> LabelledRun:
    """A small evaluation set of which each evaluation takes another part."""
    run = draw(rng, noise, least=40, evals=int(rng.choice([8, 15, 30, 60])), eval_sd=float(rng.uniform(0.008, 0.02)))
    return run.run("healthy/noisy-evals")


def _flat_evals(rng: np.random.Generator, noise: float) -> LabelledRun:
    """The evaluation has converged and moves by less than its noise; training creeps on."""
    count = int(rng.choice([15, 30, 60]))
    run = draw(rng, noise, least=40, evals=count, plain=False, early=0.005, eval_sd=0.002, offset=0.02)
    at = np.arange(run.points) / run.points
    for one in run.evals:
        one.extra = one.extra + 0.004 * np.clip(at - 0.6, 0, None)
    return run.run("healthy/flat-evals")


def _stability_gap(rng: np.random.Generator, noise: float) -> LabelledRun:
    """English gets worse in the first tenth and comes back; Korean learns all along."""
    run = draw(rng, noise, points=int(rng.integers(60, 400)), task="cpt", prefixes=("eval_ko",), offset=0.1, done=1.0)
    _retention(run, str(rng.choice(["en", "english", "retention", "base", "orig"])), rng.uniform(0.02, 0.12), 0.0)
    return run.run("healthy/stability-gap")


def _retention_in_bounds(rng: np.random.Generator, noise: float) -> LabelledRun:
    """English gets worse by one or two percent: the price of learning Korean, below the limit."""
    run = draw(rng, noise, points=int(rng.integers(60, 400)), task="cpt", prefixes=("eval_ko",), offset=0.1, done=1.0)
    _retention(run, str(rng.choice(["en", "english", "retention"])), 0.0, rng.uniform(0.004, 0.02))
    return run.run("healthy/retention-in-bounds")


def _retention(run: Draft, name: str, depth: float, end: float) -> None:
    """Adds a retention set: a V of ``depth`` in the first tenth, and a slow rise to ``end``, shares of its level."""
    rng = run.rng
    level = float(rng.uniform(1.8, 3.0))
    at = np.arange(run.points) / run.points
    top = rng.uniform(0.02, 0.05)
    v = depth * np.where(at < top, at / top, np.exp(-(at - top) / 0.018))
    shape = level * (1.0 + v + end * (1 - np.exp(-at / 0.3)))
    points = run.evals[0].at
    # An evaluation at the start is the base model's.
    points = np.unique(np.concatenate([[0], points]))
    spread = 0.001 * run.noise
    run.evals.append(
        EvalSet(
            f"eval_{name}", points, 0.0, spread, shape - run.true, run.header == "ours",
            rng.normal(0, spread, len(points)),
        )
    )  # fmt: skip


def _sets(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Three sets of different difficulty that fall to different degrees."""
    run = draw(rng, noise, least=40, prefixes=("eval_ko", "eval_news", "eval_wiki"), offset=None)
    for one in run.evals:
        one.share = float(rng.uniform(0.3, 1.0))
        one.offset = max(one.offset, 0.2 - float(np.min(run.true)))
    return run.run("healthy/several-sets")


HEALTHY: dict[str, tuple[Kind, int]] = {
    "bump-evaluated": (_bump_evaluated, 4),
    "eval-only": (_eval_only, 3),
    "eval-below-train": (_dropout, 3),
    "constant-gap": (_constant_gap, 3),
    "gap-by-lag": (_late_gap, 5),
    "gap-while-falling": (_gap_along, 3),
    "eval-blip": (_blips, 4),
    "noisy-evals": (_noisy_evals, 4),
    "flat-evals": (_flat_evals, 4),
    "stability-gap": (_stability_gap, 5),
    "retention-in-bounds": (_retention_in_bounds, 4),
    "several-sets": (_sets, 3),
}
"""Per kind how it is made, and how many of a suite of full size are of it."""
