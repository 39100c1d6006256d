"""Failures of few rows or of rows of zeros: divergence from the second row on, a NaN logged as 0.0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from suite import new_epochs, new_levels
from suite.draft import draw
from suite.new_lengths import respaced
from suite.run import LabelledRun

__all__ = ["FAULTS"]

Kind = Callable[[np.random.Generator, float], LabelledRun]
ZEROS = 20
"""Log points after the first 0.0 within which it has to be said."""


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _rises_at_once(rng: np.random.Generator, noise: float) -> LabelledRun:
    """A log of eight to fourteen rows that rises from the second on, by ten times and more, and ends there.

    The rate is far too high from the first step on. Old logs have no gradient norm; new ones have one that is clipped
    all along. At times a row is below the one before it.
    """
    points = int(rng.integers(8, 15))
    run = respaced(
        draw(
            rng, noise, points=points, done=float(rng.choice([1.0, 1.0, 0.3])), evals=0, warmup=0.0, sd=0.01,
            header=str(rng.choice(["old", "old", "modern", "bare"])), epochs=float(rng.choice([1, 3, 80])),
            kind=str(rng.choice(["constant", "constant", "linear"])), tokens="none",
            task=str(rng.choice(["cpt", "sft", "other"])),
        ),
        int(rng.choice([1, 5, 10, 10, 50])),
    )  # fmt: skip
    first = float(rng.uniform(0.7, 3.5))
    last = max(_log_uniform(rng, 10.0, 60.0), 6 * first)
    at = np.arange(points) / (points - 1)
    power = float(rng.choice([0.7, 1.0, 1.4]))
    wobble = np.where(np.arange(points) < 3, 0.0, rng.normal(0.0, 0.03 * noise, points))
    loss = (first + (last - first) * at**power) * (1 + wobble)
    run.true, run.blur = loss, np.zeros(points)
    run.grad = run.grad * (1 + 20 * at)
    return run.run(
        "diverged/from-the-second-row", {"diverged": (run.at(1), run.at(points - 1))},
        allowed=("loss-spike", "level-shift", "no-learning", "not-enough-data"), size=last - first, onset=run.at(1),
    )  # fmt: skip


def _small_then_zero(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Some rows of a few hundredths, then exactly 0.0 for dozens, no gradient norm, dozens or hundreds of epochs.

    A NaN that the Trainer logged as 0.0, or a text known by heart that is rounded to four decimals: the log does not
    tell, and either has to be said. That it is known by heart may be said of the hundredths already.
    """
    points = int(rng.integers(30, 130))
    run = respaced(
        draw(
            rng, noise, points=points, done=1.0, evals=0, epochs=float(rng.integers(30, 900)), header="old",
            kind=str(rng.choice(["constant", "constant", "linear", "cosine"])), tokens="none", sd=0.001,
            task=str(rng.choice(["cpt", "sft", "other"])),
        ),
        int(rng.choice([5, 10, 10, 50])),
    )  # fmt: skip
    at = int(rng.integers(1, 7))
    start, end = _log_uniform(rng, 0.03, 0.15), _log_uniform(rng, 0.008, 0.03)
    run.true = np.where(np.arange(points) < at, start * (end / start) ** (np.arange(points) / max(1, at)), 0.0)
    run.blur = np.where(np.arange(points) < at, run.true * rng.normal(0.0, 0.08 * noise, points).clip(-0.6, 2.0), 0.0)
    run.decimals = 4
    found = run.run(
        "non-finite/small-then-zero", {"non-finite": (run.at(0), run.at(at + ZEROS))},
        allowed=("below-floor", "plateau", "level-shift"), size=float(end), onset=run.at(at),
    )  # fmt: skip
    return replace(found, either={"non-finite": frozenset({"memorizing"})})


def _hidden(name: str, scaler: bool, early: bool) -> Kind:
    """An ordinary loss, then 0.0 for ever: a NaN that ``logging_nan_inf_filter`` hid.

    Args:
        name: Of the kind.
        scaler: fp16: every step is skipped from there on, so the learning rate stands still to the end.
        early: Within the first rows, as of embeddings in fp16 beside 8-bit weights.
    """

    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        head = str(rng.choice(["modern", "trl"] if scaler else ["old", "bare", "modern", "trl"]))
        run = draw(
            rng, noise, least=30, header=head, level=float(rng.uniform(1.4, 3.5)), done=1.0, evals=0, tokens="none",
            kind=str(rng.choice(["cosine", "linear"])) if scaler else None,
        )  # fmt: skip
        at = int(rng.integers(1, 6)) if early else int(rng.integers(run.points // 5, run.points - 6))
        after = np.arange(run.points) - at
        if rng.random() < 0.5:  # it began within a logging window, whose row is part of a mean
            run.extra = run.extra + np.where(after == -1, (rng.uniform(0.3, 0.95) - 1.0) * run.true, 0.0)
            run.grad = np.where(after >= -1, np.nan, run.grad)
            onset = run.at(at - 1)
        else:
            run.grad = np.where(after >= 0, np.nan, run.grad)
            onset = run.at(at)
        run.extra = np.where(after >= 0, -run.true, run.extra)
        run.blur = np.where(after >= 0, 0.0, run.blur)
        if scaler:
            run.lr = np.where(after >= 0, run.lr[at - 1], run.lr)
        return run.run(
            f"non-finite/{name}", {"non-finite": (onset, run.at(at + 1))},
            allowed=("level-shift", "below-floor", "diverged"), onset=onset, least={"non-finite": "error"},
        )  # fmt: skip

    return made


FAULTS: dict[str, tuple[Kind, int]] = {
    "diverged/from-the-second-row": (_rises_at_once, 8),
    "non-finite/small-then-zero": (_small_then_zero, 6),
    "non-finite/zero-hidden": (_hidden("zero-hidden", False, False), 5),
    "non-finite/zero-hidden-early": (_hidden("zero-hidden-early", False, True), 4),
    "non-finite/zero-hidden-fp16": (_hidden("zero-hidden-fp16", True, False), 4),
    **new_epochs.FAULTS,
    **new_levels.FAULTS,
}
"""Per kind how it is made, and how many of a suite of full size are of it."""
