"""Several epochs in the logs of old transformers, which print epochs with two decimals; stages over the same text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from suite.draft import Draft, EvalSet, draw
from suite.new_lengths import respaced
from suite.run import LabelledRun
from suite.schedule import schedule

from ko_cpt_callbacks import keys

__all__ = ["FAULTS", "HEALTHY"]

Kind = Callable[[np.random.Generator, float], LabelledRun]


def _two_decimals(rng: np.random.Generator, noise: float, epochs: int) -> tuple[Draft, int]:
    """A run over several epochs as old transformers log it, and its log points per epoch.

    An epoch of ``n`` steps and a part of one is left at ``n / (n + part)``, so that the rows around its end read 0.99,
    1.0, 1.0, 1.0, 1.01.
    """
    each = int(rng.integers(90, 420))
    task = str(rng.choice(["sft", "sft", "cpt"]))
    level = float(rng.uniform(1.6 if task == "cpt" else 0.9, 2.6))
    run = respaced(
        draw(
            rng, noise, points=epochs * each, done=1.0, epochs=float(epochs), level=level,
            fall=float(rng.uniform(0.1, 0.6)), early=float(rng.uniform(0.003, 0.02)), anneal=0.02,
            sd=level * float(rng.uniform(0.015, 0.05)), header=str(rng.choice(["old", "old", "bare"])),
            kind=str(rng.choice(["cosine", "linear", "constant"])), task=task,
            evals=int(rng.choice([0, 0, epochs, 8])), plain=False,
        ),
        int(rng.choice([1, 1, 2, 5])),
    )  # fmt: skip
    steps = each * run.interval
    done = (run.steps - 1) // steps
    wanted = done + (run.steps - done * steps) / (steps + float(rng.uniform(0.0, 1.0)))
    run.epoch_shift = wanted - run.steps / run.max_steps * run.epochs
    return run, each


def _by_heart(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Three to five epochs, each beginning a tenth to two fifths lower than the last one ended.

    Within an epoch the loss rests or creeps up, as the text that comes was seen longest ago. Two epochs are not drawn:
    one end says too little.
    """
    run, each = _two_decimals(rng, noise, int(rng.integers(3, 6)))
    edges = run.boundaries()
    share, deep = np.ones(run.points), float(rng.uniform(0.12, 0.4))
    for edge in edges:
        share[edge:] *= 1.0 - deep * rng.uniform(0.85, 1.15)
    if rng.random() < 0.5:  # the first step of an epoch still holds rows of the last one
        for edge in edges:
            share[edge] = 0.5 * (share[edge - 1] + share[edge])
    within = (np.arange(run.points) % each) / each
    share *= 1.0 + np.where(np.arange(run.points) >= edges[0], float(rng.uniform(0.0, 0.08)) * within, 0.0)
    run.extra = run.extra + run.true * (share - 1.0)
    run.blur = run.blur * np.clip(share, 0.4, 1.0)
    first, last = run.at(edges[0]), run.at(edges[1] + max(8, each // 2))
    return run.run(
        "memorising/two-decimals", {"memorizing": (first, last)},
        allowed=("overfitting", "gap-widening", "below-floor"), size=deep, onset=run.at(edges[1]),
    )  # fmt: skip


def _epochs(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Two to five epochs whose ends cannot be seen, or by a hundredth of the loss."""
    run, _ = _two_decimals(rng, noise, int(rng.integers(2, 6)))
    small = float(rng.choice([0.0, rng.uniform(0.0, 0.015)]))
    for edge in run.boundaries():
        run.extra[edge:] -= small * run.level()
    return run.run("healthy/two-decimals")


def _texture(run: Draft, each: int) -> np.ndarray:
    """What the place in the text adds to the loss: hard at its beginning, easy at its end, the same in every pass."""
    rng = run.rng
    place = (np.arange(run.points) % each) / each
    jump = float(rng.uniform(0.05, 0.3)) * min(1.0, run.level() / 2)
    power = float(rng.choice([0.7, 1.0, 1.5]))
    ripple = sum(
        rng.uniform(0.0, 0.04) * np.sin(2 * np.pi * (turns * place + rng.uniform())) for turns in (2, 3, 5)
    )  # fmt: skip
    return np.asarray(jump * (0.5 - place**power) + ripple)


def _stages(name: str, announced: bool, warmed: bool) -> Kind:
    """The same text again in the same order, by a second stage: training begins higher than the first stage ended.

    Args:
        name: Of the kind.
        announced: A set-up row tells of the stage, as the record of a staged training has it.
        warmed: The learning rate comes down and warms up again; else one schedule goes through both.
    """

    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        each = int(rng.integers(40, 300))
        count = 2 if warmed else int(rng.choice([2, 2, 3]))
        run = draw(
            rng, noise, points=count * each, done=1.0, epochs=float(count), task="cpt", plain=False, evals=0,
            level=float(rng.uniform(1.6, 3.0)), fall=float(rng.uniform(0.4, 1.2)), sd=float(rng.uniform(0.008, 0.03)),
            kind=str(rng.choice(["cosine", "linear", "constant"])), early=float(rng.uniform(0.02, 0.1)), anneal=0.03,
            header="ours" if announced else str(rng.choice(["modern", "trl"])), noise_kind="normal",
        )  # fmt: skip
        if warmed:
            parts = [schedule(str(rng.choice(["cosine", "linear"])), each, 0.08, rng) for _ in range(count)]
            run.lr = np.concatenate([parts[0], *(part * rng.uniform(0.3, 1.0) for part in parts[1:])]) * run.peak
        run.extra = run.extra + _texture(run, each)
        at = np.arange(each // 5 - 1, run.points, max(1, each // 5))
        spread = 0.002 * noise
        run.evals.append(
            EvalSet(
                "eval", at, float(rng.uniform(-0.05, 0.2)), spread, np.zeros(run.points), run.header == "ours",
                rng.normal(0.0, spread, len(at)),
            )
        )  # fmt: skip
        if not announced:
            return run.run(f"healthy/{name}", allowed=("run-seam",) if warmed else ())
        after = np.arange(run.points) - each
        run.epoch_shift = np.where(after >= 0, -float(run.epoch[each - 1]), 0.0)
        rows = run.rows()
        where = next(i for i, row in enumerate(rows) if row["step"] == run.at(each))
        begun, next_one = _stage(0, "embedding", "all", "none"), _stage(run.at(each - 1), "full", "all", "all")
        return run.run(f"healthy/{name}", rows=[begun, *rows[:where], next_one, *rows[where:]])

    return made


def _stage(step: int, name: str, rows: str, layers: str) -> dict[str, Any]:
    words = {"name": name, "input": rows, "output": rows, "layers": layers, "adapter": "none"}
    return {keys.KIND: keys.KIND_SETUP, keys.KIND_SETUP: "stage", "step": step, **words}


FAULTS: dict[str, tuple[Kind, int]] = {"memorising/two-decimals": (_by_heart, 8)}
HEALTHY: dict[str, tuple[Kind, int]] = {
    "two-decimals": (_epochs, 6),
    "stages-announced": (_stages("stages-announced", True, True), 4),
    "stages-unannounced": (_stages("stages-unannounced", False, True), 3),
    "same-order-again": (_stages("same-order-again", False, False), 5),
}
"""Per kind how it is made, and how many of a suite of full size are of it."""
