"""Healthy runs whose rows, counters or number formats look broken to a naive rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from suite.draft import draw
from suite.run import LabelledRun
from suite.schedule import schedule

from ko_cpt_callbacks import keys

__all__ = ["HEALTHY"]

Kind = Callable[[np.random.Generator, float], LabelledRun]


def _truncated(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Rows grouped by length at ``logging_steps=1``: of each mega-batch of 50 the first batches are as long as allowed,
    so that the token count is constant for some rows, and then again is not."""
    run = draw(rng, noise, points=int(rng.integers(150, 500)), header="modern", tokens="varied", task="sft")
    order = np.arange(run.points) % 50
    full = int(rng.integers(6, 16))
    shorter = np.round(2048 * np.exp(-(order - full) / 30.0)) - rng.integers(1, 9, run.points)
    length = np.where(order < full, 2048.0, shorter)
    run.tokens = np.cumsum(8 * length)
    run.extra = run.extra + rng.uniform(0.02, 0.1) * (0.5 - order / 50)
    return run.run("healthy/truncated-rows")


def _scaler(rng: np.random.Generator, noise: float) -> LabelledRun:
    """fp16: a step or two whose gradient overflowed, the loss as before."""
    run = draw(rng, noise, header=str(rng.choice(["modern", "trl"])))
    points = rng.choice(run.points, int(rng.integers(1, 3)), replace=False)
    run.grad[points] = rng.choice([np.nan, np.inf])
    return run.run("healthy/fp16-scaler", allowed=())


def _clean_resume(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Resumed and exactly continued; at times the last row is there twice."""
    run = draw(rng, noise, least=30)
    rows = run.rows()
    if rng.random() < 0.7:
        at = int(rng.integers(len(rows) // 4, 3 * len(rows) // 4))
        rows.insert(at, dict(rows[at]))
    return run.run("healthy/clean-resume", rows=rows)


def _handover(rng: np.random.Generator, noise: float) -> LabelledRun:
    """The planned next stage of a staged training: announced by a set-up row in which other parts of the model move, it
    warms up again, epochs from 0."""
    run = draw(rng, noise, least=60, header=str(rng.choice(["modern", "ours"])), epochs=1.0, done=1.0, evals=0)
    at = int(rng.uniform(0.35, 0.65) * run.points)
    first, second = (schedule("cosine", count, 0.1, rng) for count in (at, run.points - at))
    run.lr = np.concatenate([first, second * rng.uniform(0.3, 1.0)]) * run.peak
    after = np.arange(run.points) - at
    run.epoch_shift = np.where(after >= 0, -float(run.epoch[at - 1]), 0.0)
    rows = run.rows()
    where = next(i for i, row in enumerate(rows) if row["step"] == run.at(at))

    def stage(step: int, name: str, rows: str, layers: str) -> dict[str, Any]:
        words = {"name": name, "input": rows, "output": rows, "layers": layers, "adapter": "none"}
        return {keys.KIND: keys.KIND_SETUP, keys.KIND_SETUP: "stage", "step": step, **words}

    begun, announced = stage(0, "embedding", "all", "none"), stage(run.at(at - 1), "full", "all", "all")
    return run.run("healthy/handover", rows=[begun, *rows[:where], announced, *rows[where:]])


def _first_step(rng: np.random.Generator, noise: float) -> LabelledRun:
    """``logging_first_step``: one row at step 1, of one step, far above or beside the others; evaluated at 0."""
    run = draw(rng, noise, least=20)
    run.steps = run.steps.copy()
    run.steps[0] = 1
    run.extra[0] += rng.choice([-1.0, 1.0]) * min(rng.uniform(2, 8) * run.sd, 0.5)
    run.lr[0] = 0.0
    run.step_zero = bool(run.evals)
    return run.run("healthy/first-step")


def _coarse_numbers(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Losses of two decimals, or on the bf16 grid: many neighbours are equal and their spread is 0."""
    run = draw(rng, noise, least=30, sd=float(rng.uniform(0.003, 0.015)))
    run.decimals = 2
    if rng.random() < 0.5:
        run.decimals = None
        grid = 2.0 ** (np.floor(np.log2(np.maximum(run.loss, 1e-3))) - 7)
        run.blur = run.blur + (np.round(run.loss / grid) * grid - run.loss)
    return run.run("healthy/coarse-numbers")


def _packed(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Packed rows: the same number of tokens in every step, from the first on."""
    head = str(rng.choice(["trl", "modern", "ours"]))
    return draw(rng, noise, least=30, header=head, tokens="packed").run("healthy/packed")


def _irregular(rng: np.random.Generator, noise: float) -> LabelledRun:
    """The logging interval was changed on the way: ten times as coarse, or as fine, and the noise with it."""
    run = draw(rng, noise, least=40)
    at = int(rng.integers(run.points // 3, 2 * run.points // 3))
    steps = np.concatenate([run.steps[:at], run.steps[at - 1] + np.arange(1, run.points - at + 1) * run.interval * 5])
    run.steps, run.max_steps = steps, int(steps[-1])
    run.blur[at:] /= np.sqrt(5.0)
    if run.tokens is not None:
        run.tokens = np.round(steps * float(run.tokens[0] / run.interval) * (1 + 1e-4 * rng.normal(size=run.points)))
        run.tokens = np.maximum.accumulate(run.tokens)
    return run.run("healthy/logging-changed")


def _summed(rng: np.random.Generator, noise: float) -> LabelledRun:
    """The loss of transformers 4.46 that is multiplied by the accumulation steps: 8 times as large, noise too."""
    run = draw(rng, noise, least=30, task="sft", evals=0)
    factor = float(rng.choice([4.0, 8.0]))
    run.true, run.blur, run.sd = run.true * factor, run.blur * factor, run.sd * factor
    return run.run("healthy/summed-loss")


def _policy(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Policy gradients: a loss around 0, exactly 0.0 and below it at times, with gradients that are in order."""
    run = draw(rng, noise, least=30, task="other", evals=0, header=str(rng.choice(["modern", "old"])))
    run.true = np.linspace(0.0, rng.uniform(0.002, 0.05), run.points)
    run.blur = rng.normal(0.0, 0.01 * noise, run.points)
    run.blur[: int(rng.integers(1, 5))] = 0.0
    run.true[: 5] = 0.0
    run.decimals = 4
    return run.run("healthy/policy")


HEALTHY: dict[str, tuple[Kind, int]] = {
    "truncated-rows": (_truncated, 1),
    "fp16-scaler": (_scaler, 3),
    "clean-resume": (_clean_resume, 3),
    "handover": (_handover, 2),
    "first-step": (_first_step, 3),
    "policy": (_policy, 2),
    "coarse-numbers": (_coarse_numbers, 4),
    "summed-loss": (_summed, 2),
    "packed": (_packed, 3),
    "logging-changed": (_irregular, 3),
}
"""Per kind how it is made, and how many of a suite of full size are of it."""
