"""Healthy runs whose batches are grouped by length, in the order in which the Trainer's sampler really takes them.

``group_by_length`` (since transformers 5 ``train_sampling_strategy="group_by_length"``) shuffles the rows, cuts them
into mega-batches of 50 batches of one process, sorts each by length, longest first, and puts the longest row of all in
front. The loss follows the length, so it drifts within a mega-batch and jumps back where the next one begins: every 50
steps on one process, every 50 / W on W. Rows are drawn one by one here, sorted as the sampler sorts them, and averaged
over their tokens; nothing of the shape is put in by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from suite.draft import Draft, draw
from suite.run import LabelledRun

from ko_cpt_callbacks import keys

__all__ = ["HEALTHY", "Sampled", "order", "respaced", "sampled"]

Kind = Callable[[np.random.Generator, float], LabelledRun]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MEGA = 50
"""Batches of one process in a mega-batch; a quarter of the rows where there are fewer."""


def order(lengths: Ints, batch: int, rng: np.random.Generator) -> Ints:
    """Row numbers in the order of one epoch.

    Args:
        lengths: Tokens of each row.
        batch: Rows of one process in one optimizer step (per-device batch times accumulation).
        rng: Shuffles.
    """
    count = len(lengths)
    size = max(1, min(count // (batch * 4), MEGA)) * batch
    shuffled = rng.permutation(count)
    groups = [shuffled[i : i + size] for i in range(0, count, size)]
    groups = [group[np.argsort(-lengths[group], kind="stable")] for group in groups]
    longest = int(np.argmax([lengths[group[0]] for group in groups]))
    groups[0][0], groups[longest][0] = groups[longest][0], groups[0][0]
    return np.concatenate(groups)


@dataclass
class Sampled:
    """Per optimizer step: log-length less its mean, noise, tokens of the text and tokens with the pads."""

    length: Floats
    noise: Floats
    text: Floats
    padded: Floats


def sampled(
    rng: np.random.Generator, steps: int, epochs: int, batch: int, micro: int, processes: int, spread: float,
    median: float, longest: int,
) -> Sampled:  # fmt: skip
    """Steps of a training on rows of lognormal length.

    Args:
        rng: The run's own.
        steps: Optimizer steps of an epoch.
        epochs: How many.
        batch: Rows of one step, over all processes.
        micro: Rows that are padded together.
        processes: How many share a step.
        spread: Standard deviation of the lengths' logarithm.
        median: Of the lengths, tokens.
        longest: Rows are cut there.
    """
    count = steps * batch - int(rng.integers(0, batch))
    lengths = np.clip(np.round(median * np.exp(rng.normal(0.0, spread, count))), 8, longest).astype(np.int64)
    logs = np.log(lengths)
    centred = logs - float(np.average(logs, weights=lengths))
    # Some rows are harder than others by some tenths of a nat, and a short row says less of its own difficulty.
    hard = rng.normal(0.0, rng.uniform(0.2, 0.45), count)
    parts: list[list[float]] = []
    for _ in range(epochs):
        rows = order(lengths, batch // processes, rng)
        for first in range(0, count, batch):
            chosen = rows[first : first + batch]
            weight = lengths[chosen].astype(float)
            total = float(weight.sum())
            each = hard[chosen] + rng.normal(0.0, 1.5, len(chosen)) / np.sqrt(weight)
            together = [weight[i : i + micro] for i in range(0, len(weight), micro)]
            pads = sum(float(one.max()) * len(one) for one in together)
            parts.append([float(weight @ centred[chosen]) / total, float(weight @ each) / total, total, pads])
    table = np.array(parts)
    return Sampled(table[:, 0], table[:, 1], table[:, 2], table[:, 3])


def respaced(run: Draft, interval: int) -> Draft:
    """The run with another logging interval."""
    run.interval, run.steps = interval, np.arange(1, run.points + 1) * interval
    run.max_steps = run.points * interval
    return run


def _grouped(name: str, wide: bool, intervals: tuple[int, ...], points: tuple[int, int], counter: bool | None) -> Kind:
    """Rows grouped by length.

    Args:
        name: Of the kind.
        wide: Lengths differ by a factor of ten and more, and the loss with them; else by a factor of two or three.
        intervals: ``logging_steps``, one of which is drawn.
        points: The fewest and the most log points.
        counter: Whether the log counts its tokens; None for either.
    """

    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        interval = int(rng.choice(intervals))
        epochs = int(rng.choice([1, 1, 2, 3]))
        each = max(int(rng.integers(*points)) // epochs, 30)
        # As a step that ends an epoch ends no logging window, epochs need not be whole windows; steps are made whole.
        total = each * epochs * interval
        task = str(rng.choice(["sft", "sft", "cpt"]))
        level = float(rng.uniform(2.2, 3.4) if task == "cpt" else rng.uniform(0.9, 2.2))
        counted = bool(rng.random() < 0.5) if counter is None else counter
        head = str(rng.choice(["trl", "ours", "modern"] if counted else ["modern", "old", "bare"]))
        run = respaced(
            draw(
                rng, noise, points=each * epochs, task=task, level=level, fall=float(rng.uniform(0.2, 1.4)), sd=0.001,
                header=head, epochs=float(epochs), done=1.0, tokens="packed" if counted else "none", plain=False,
                kind=str(rng.choice(["cosine", "linear", "constant"])), early=float(rng.uniform(0.01, 0.1)),
                evals=int(rng.choice([0, 5, 10])),
            ),
            interval,
        )  # fmt: skip
        processes = int(rng.choice([1, 1, 1, 2, 4, 8]))
        micro = int(rng.choice([1, 2, 4, 8]))
        batch = processes * micro * int(rng.choice([1, 2, 4]))
        batch = max(batch, 4 * processes if processes == 1 else batch)
        spread = float(rng.uniform(0.65, 1.0) if wide else rng.uniform(0.25, 0.45))
        steps = sampled(
            rng, each * interval, epochs, batch, min(micro, batch // processes), processes, spread,
            float(rng.uniform(90, 350)), int(rng.choice([512, 1024, 2048])),
        )  # fmt: skip
        # Long texts are harder in some data (free answers beside templates), easier in other (more context).
        slope = float(rng.uniform(0.1, 0.28) if wide else rng.uniform(0.04, 0.15)) * level
        slope *= 1.0 if rng.random() < 0.65 else -0.5
        # A model that is new to the data learns the difference first.
        known = 1.0 if rng.random() < 0.6 else np.interp(np.arange(total), [0, 0.25 * total], [0.1, 1.0])
        effect = slope * steps.length[:total] * known

        def windows(values: Floats) -> Floats:
            return np.asarray(values[:total].reshape(-1, interval).mean(axis=1))

        run.extra = run.extra + windows(np.asarray(effect))
        run.blur = noise * windows(steps.noise)
        run.blur = np.maximum(run.blur, 0.05 - run.true - run.extra)
        run.sd = float(np.std(run.blur))
        run.grad = run.grad * np.sqrt(float(np.median(steps.text)) / steps.text[interval - 1 : total : interval])
        if run.tokens is not None:
            padded = run.tokens_key == keys.INPUT_TOKENS[1]
            run.tokens = np.cumsum(steps.padded if padded else steps.text)[interval - 1 : total : interval]
        return run.run(f"healthy/{name}")

    return made


HEALTHY: dict[str, tuple[Kind, int]] = {
    "grouped-wide": (_grouped("grouped-wide", True, (1,), (150, 600), None), 6),
    "grouped-wide-counted": (_grouped("grouped-wide-counted", True, (1,), (150, 400), True), 4),
    "grouped-wide-coarse": (_grouped("grouped-wide-coarse", True, (5, 10, 20, 25), (60, 240), None), 6),
    "grouped-mild": (_grouped("grouped-mild", False, (1,), (150, 600), None), 6),
    "grouped-mild-coarse": (_grouped("grouped-mild-coarse", False, (5, 10, 20, 25), (60, 240), None), 5),
}
"""Per kind how it is made, and how many of a suite of full size are of it."""
