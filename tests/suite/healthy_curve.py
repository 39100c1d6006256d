"""Healthy runs whose training curve looks like a failure to a naive rule."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from suite.draft import draw
from suite.run import LabelledRun

__all__ = ["HEALTHY"]

Kind = Callable[[np.random.Generator, float], LabelledRun]


def _step_drops(rng: np.random.Generator, noise: float) -> LabelledRun:
    """The rate drops by steps and the loss with it, at once."""
    gain = float(rng.uniform(0.1, 0.35))
    run = draw(rng, noise, least=40, kind="step", plain=False, anneal=gain, header="modern", done=1.0)
    return run.run("healthy/step-drops")


def _restarts(rng: np.random.Generator, noise: float) -> LabelledRun:
    """A cosine with restarts: the rate jumps back to the peak again and again, and the loss rises a little."""
    head = str(rng.choice(["modern", "old", "trl"]))
    run = draw(rng, noise, least=60, kind="restarts", plain=False, header=head, anneal=float(rng.uniform(0.02, 0.12)))
    return run.run("healthy/restarts")


def _warmup_bump(rng: np.random.Generator, noise: float) -> LabelledRun:
    """While the rate warms up the loss rises before it falls, as where a trained model is warmed up again."""
    run = draw(rng, noise, least=40, warmup=float(rng.choice([0.03, 0.05, 0.1, 0.2])), header="modern")
    at = np.arange(run.points) / run.points
    top, width = rng.uniform(0.02, 0.12), rng.uniform(0.02, 0.06)
    run.true = run.true + rng.uniform(0.05, 0.5) * np.exp(-(((at - top) / width) ** 2))
    return run.run("healthy/warmup-bump")


def _wandering(rng: np.random.Generator, noise: float) -> LabelledRun:
    """The order of the text makes the loss wander slowly, by about its noise."""
    run = draw(rng, noise, least=60, sd=float(rng.uniform(0.005, 0.04)), noise_kind="normal")
    at = np.arange(run.points) / run.points
    for _ in range(3):
        turns, phase = rng.uniform(1.0, 6.0), rng.uniform(0.0, 6.28)
        run.extra = run.extra + 0.5 * run.sd * np.sin(phase + 6.28 * turns * at)
    return run.run("healthy/wandering")


def _noise_doubles(rng: np.random.Generator, noise: float) -> LabelledRun:
    """The batch was halved, or the text mixed anew: more noise from some point on, the same level."""
    run = draw(rng, noise, least=60, noise_kind="normal", sd=float(rng.uniform(0.005, 0.03)))
    run.blur[int(rng.integers(run.points // 3, 2 * run.points // 3)) :] *= rng.uniform(1.5, 2.2)
    return run.run("healthy/noise-doubles")


def _every_step(rng: np.random.Generator, noise: float) -> LabelledRun:
    """``logging_steps=1`` with a few rows a step: a tenth of the loss is noise, and hard rows stand out."""
    run = draw(
        rng, noise, points=int(rng.integers(100, 1200)), task="sft", level=float(rng.uniform(1.2, 2.5)),
        sd=float(rng.uniform(0.1, 0.2)), noise_kind=str(rng.choice(["skewed", "tailed"])),
        fall=float(rng.uniform(0.3, 1.0)),
    )  # fmt: skip
    return run.run("healthy/every-step")


def _sawtooth(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Rows grouped by length: within a mega-batch they get shorter, and the loss goes up and down with them."""
    run = draw(rng, noise, least=40)
    period = int(rng.integers(2, max(3, min(40, run.points // 5))))
    depth = min(rng.uniform(0.03, 0.4), 0.3 * run.level())
    each = rng.uniform(0.8, 1.2, run.points // period + 1)[np.arange(run.points) // period]
    run.extra = run.extra + depth * each * ((np.arange(run.points) % period) / period - 0.5)
    return run.run("healthy/sawtooth")


def _epoch_end_outliers(rng: np.random.Generator, noise: float) -> LabelledRun:
    """The last batch of each epoch is small, and the point that holds it far from the others."""
    run = draw(rng, noise, least=40, epochs=float(rng.choice([2, 3, 5, 8])), done=1.0)
    for edge in run.boundaries():
        run.extra[edge - 1] += rng.choice([-1, 1]) * min(rng.uniform(4, 9) * run.sd, 0.4)
    return run.run("healthy/epoch-end-outliers")


def _epochs(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Several epochs with steps at their boundaries that are no larger than the noise."""
    run = draw(rng, noise, least=40, epochs=float(rng.choice([2, 3, 5, 10])), done=1.0)
    for edge in run.boundaries():
        run.extra[edge:] -= min(0.012 * run.level(), 1.0 * run.sd) * rng.uniform(0, 1)
    return run.run("healthy/epochs")


def _scratch(rng: np.random.Generator, noise: float) -> LabelledRun:
    """From scratch: 11 nats to 3, most of it at once."""
    run = draw(
        rng, noise, least=60, task="cpt", level=float(rng.uniform(2.4, 4.0)), fall=float(rng.uniform(6.0, 8.0)),
        early=float(rng.uniform(0.004, 0.03)), warmup=float(rng.choice([0.0, 0.01, 0.05, 0.1])), plain=False,
    )  # fmt: skip
    return run.run("healthy/from-scratch")


def _two_phases(rng: np.random.Generator, noise: float) -> LabelledRun:
    """A masked language model, or an induction head: a standstill, then a fall over some points."""
    run = draw(rng, noise, least=50, task="other", level=float(rng.uniform(0.25, 1.0)), fall=0.8, warmup=0.05)
    at = np.arange(run.points) / run.points
    top = rng.uniform(0.1, 0.3)
    # A fall within two or three points could not be told from a shift; the public log of this kind takes eight.
    width = max(rng.uniform(0.015, 0.04), 1.5 / run.points)
    run.true = run.true + rng.uniform(0.5, 1.5) / (1 + np.exp((at - top) / width))
    return run.run("healthy/two-phases")


def _slow_start(rng: np.random.Generator, noise: float) -> LabelledRun:
    """A long warm-up in which nothing happens."""
    fall = float(rng.uniform(0.5, 2.0))
    run = draw(rng, noise, least=40, warmup=0.2, early=0.1, plain=False, fall=fall, done=1.0, kind="cosine")
    return run.run("healthy/slow-start")


def _preference(rng: np.random.Generator, noise: float) -> LabelledRun:
    """DPO: from ln 2 to a few tenths, rewards and margins beside it."""
    run = draw(
        rng, noise, least=20, task="other", level=float(rng.uniform(0.08, 0.5)), fall=0.2, header="dpo",
        sd=float(rng.uniform(0.01, 0.04)), evals=int(rng.choice([0, 5, 10])), offset=0.02,
    )  # fmt: skip
    run.true = run.true + (0.6931 - run.true[0])
    run.true = np.maximum(run.true, 0.05)
    margin = np.maximum(0.0, 0.6931 - run.true) * 3
    run.extra_keys = {"rewards/chosen": margin / 2, "rewards/rejected": -margin / 2, "rewards/margins": margin}
    return run.run("healthy/preference")


def _classifier(rng: np.random.Generator, noise: float) -> LabelledRun:
    """A classifier or a speech model: under 1 nat from the start, to a few hundredths."""
    run = draw(
        rng, noise, least=30, task="other", level=float(rng.uniform(0.03, 0.2)), fall=float(rng.uniform(0.3, 1.0)),
        sd=float(rng.uniform(0.003, 0.01)), evals=int(rng.choice([0, 5, 10])), offset=0.15, anneal=0.0,
    )  # fmt: skip
    run.blur = run.blur * np.clip(run.true / run.true[0], 0.1, 1.0)
    run.blur = np.maximum(run.blur, -0.5 * run.true)
    return run.run("healthy/classifier")


def _noisy_stretch(rng: np.random.Generator, noise: float) -> LabelledRun:
    """A stretch of harder batches: three times the noise, the same level."""
    run = draw(rng, noise, least=60, noise_kind="normal", sd=float(rng.uniform(0.005, 0.04)))
    first = int(rng.integers(run.points // 4, run.points // 2))
    run.blur[first : first + int(rng.integers(10, 30))] *= rng.uniform(2.0, 3.0)
    return run.run("healthy/noisy-stretch")


def _drift(rng: np.random.Generator, noise: float) -> LabelledRun:
    """A flat run whose text gets a little harder towards the end: by less than two standard deviations."""
    fall = float(rng.uniform(0.5, 1.5))
    run = draw(rng, noise, least=60, early=0.005, plain=False, kind="constant", anneal=0.0, fall=fall)
    at = np.arange(run.points) / run.points
    run.extra = run.extra + min(1.5 * run.sd, 0.05) * np.clip((at - 0.5) / 0.5, 0, 1)
    return run.run("healthy/drift")


def _gentle(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Fine-tuning of a model that is nearly there: a small fall in the first points, then next to none."""
    run = draw(
        rng, noise, points=int(rng.integers(12, 120)), task="sft", kind=str(rng.choice(["linear", "cosine"])),
        early=0.01, plain=False, fall=float(rng.uniform(0.15, 0.3)), level=float(rng.uniform(0.8, 1.8)), done=1.0,
        sd=float(rng.uniform(0.008, 0.02)), epochs=float(rng.choice([1, 3, 8])), evals=0,
    )  # fmt: skip
    return run.run("healthy/gentle")


HEALTHY: dict[str, tuple[Kind, int]] = {
    "step-drops": (_step_drops, 4),
    "restarts": (_restarts, 5),
    "warmup-bump": (_warmup_bump, 4),
    "wandering": (_wandering, 4),
    "noise-doubles": (_noise_doubles, 3),
    "every-step": (_every_step, 4),
    "sawtooth": (_sawtooth, 5),
    "epoch-end-outliers": (_epoch_end_outliers, 4),
    "epochs": (_epochs, 5),
    "from-scratch": (_scratch, 4),
    "two-phases": (_two_phases, 4),
    "slow-start": (_slow_start, 3),
    "preference": (_preference, 3),
    "classifier": (_classifier, 3),
    "noisy-stretch": (_noisy_stretch, 3),
    "drift": (_drift, 3),
    "gentle": (_gentle, 4),
}
"""Per kind how it is made, and how many of a suite of full size are of it."""
