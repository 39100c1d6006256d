"""Healthy runs that the first suite lacked: skipped fp16 steps, reinforcement learning, and others seen in the wild.

Beside what was asked for (grouped lengths, epochs in two decimals, skipped steps, stages, tokenizers, reinforcement
learning) stand four more kinds of public logs that fool a judge of curves, marked "in addition".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from suite import new_epochs, new_lengths, new_levels
from suite.draft import Draft, draw
from suite.new_lengths import respaced
from suite.run import LabelledRun, Row
from suite.schedule import schedule

__all__ = ["HEALTHY"]

Kind = Callable[[np.random.Generator, float], LabelledRun]
Floats = npt.NDArray[np.float64]


def _skipped(rng: np.random.Generator, noise: float) -> LabelledRun:
    """fp16 and LoRA: the loss falls steeply within some rows, one of whose gradients overflowed.

    The loss scaler skipped that step: its gradient norm is NaN or infinite, the learning rate stands still for one row,
    and the loss goes on as if nothing had happened. As the first scale is too high, the first step or two are often
    skipped as well.
    """
    points = int(rng.integers(40, 300))
    start, end = float(rng.uniform(2.5, 6.0)), float(rng.uniform(0.5, 1.4))
    run = respaced(
        draw(
            rng, noise, points=points, done=1.0, header=str(rng.choice(["modern", "trl"])), warmup=0.0, evals=0,
            epochs=float(rng.choice([1, 2, 3, 5])), task="sft", sd=float(rng.uniform(0.015, 0.05)), level=end,
            tokens="none", noise_kind="normal",
        ),
        1,
    )  # fmt: skip
    begin, width = int(rng.integers(3, 8)), float(rng.uniform(1.0, 5.0))
    place = (np.arange(points) - begin) / width
    run.true = end + (start - end) / (1 + np.exp(np.clip(place - 1, -50, 50)))
    run.true += float(rng.uniform(0.1, 0.3)) * end * (np.arange(1, points + 1) / points) ** -0.3
    # A batch of a few rows: the higher the loss, the more it varies.
    run.blur = run.blur * np.sqrt(run.true / end)
    run.grad = run.grad * (1 + 8 * np.exp(-((place / 2) ** 2)))
    skips = {int(begin + rng.integers(0, max(2, round(2 * width))))}
    skips |= set(range(int(rng.choice([0, 0, 1, 2]))))
    run.grad[sorted(skips)] = rng.choice([np.nan, np.nan, np.inf])
    taken = np.cumsum([i not in skips for i in range(points)])
    rates = schedule(str(rng.choice(["cosine", "linear"])), points + 1, float(rng.choice([0.02, 0.05, 0.1])), rng)
    run.lr = np.where(taken > 0, rates[np.maximum(taken - 1, 0)], 0.0) * run.peak
    return run.run("healthy/skipped-step")


def _policy_rows(run: Draft, columns: dict[str, Floats]) -> list[Row]:
    run.extra_keys = {**run.extra_keys, **columns}
    return run.rows()


def _rl(name: str, style: str, bumps: bool) -> Kind:
    """Reinforcement learning: a loss around 0 that says nothing, a reward that rises, a KL that grows.

    Args:
        name: Of the kind.
        style: ``grpo`` (the loss is a small multiple of the KL, with single rows far above it) or ``ppo`` (a policy's
            loss around 0, of either sign, and a value's beside it).
        bumps: The KL leaves its level for some rows and comes back, once to three times.
    """

    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        points = int(rng.integers(60, 400))
        run = respaced(
            draw(
                rng, noise, points=points, task="other", header="modern", evals=0, done=1.0, tokens="none",
                kind=str(rng.choice(["linear", "cosine", "constant"])), epochs=float(rng.choice([1, 2, 3])),
            ),
            int(rng.choice([1, 5, 10])),
        )  # fmt: skip
        at = np.arange(points) / points
        kl = float(rng.uniform(0.005, 0.3)) * (1 - np.exp(-at / rng.uniform(0.05, 0.5)))
        if bumps:
            for middle in rng.uniform(0.15, 0.85, int(rng.integers(1, 4))):
                width = rng.uniform(1.0, 8.0) / points
                kl = kl * (1 + rng.uniform(2.0, 12.0) * np.exp(-(((at - middle) / width) ** 2)))
        kl = kl * np.exp(rng.normal(0.0, 0.2 * noise, points)) + 1e-5
        reward = float(rng.uniform(-0.5, 0.5)) + float(rng.uniform(0.3, 2.0)) * (1 - np.exp(-3 * at))
        reward = reward + rng.normal(0.0, 0.08 * noise, points)
        words = float(rng.uniform(60, 600)) * (1 + float(rng.uniform(-0.4, 1.0)) * at)
        words = words * np.exp(rng.normal(0.0, 0.06, points))
        entropy = float(rng.uniform(0.3, 2.0)) * np.exp(-float(rng.uniform(0.0, 1.5)) * at)
        entropy = entropy * np.exp(rng.normal(0.0, 0.05, points))
        columns = {
            "completions/mean_length": words, "entropy": entropy, "kl": kl, "reward": reward,
            "reward_std": np.abs(rng.normal(0.4, 0.08, points)),
        }  # fmt: skip
        if style == "grpo":
            high = np.where(rng.random(points) < 0.04, rng.uniform(5.0, 400.0, points), 1.0)
            loss = float(rng.choice([0.001, 0.01, 0.04])) * kl
            # The highest rows of a public run are 0.2, of a median of 0.0004.
            loss = np.where(high > 1, np.minimum(loss * high, rng.uniform(0.02, 0.3, points)), loss)
            loss = loss + np.abs(rng.normal(0.0, 1e-4 * noise, points))
            run.grad = np.abs(rng.normal(0.5, 0.3, points)) * np.where(high > 1, 5.0, 1.0)
            run.tokens, run.tokens_key = np.cumsum(np.round(words * 32)), "num_tokens"
            columns["clip_ratio/region_mean"] = np.abs(rng.normal(0.0, 0.004, points))
            columns["rewards/format_reward/mean"] = np.clip(0.5 * reward, 0.0, 1.0)
            columns["frac_reward_zero_std"] = rng.uniform(0.0, 0.4, points)
        else:
            loss = float(rng.uniform(-0.01, 0.03)) + rng.normal(0.0, float(rng.uniform(0.005, 0.04)) * noise, points)
            value = float(rng.uniform(0.05, 1.0)) * np.exp(-at)
            columns["loss/value_avg"] = value + np.abs(rng.normal(0.0, 0.02, points))
            columns["policy/clipfrac_avg"] = np.abs(rng.normal(0.05, 0.02, points))
        run.true, run.blur, run.decimals = loss, np.zeros(points), 4
        return run.run(f"healthy/{name}", rows=_policy_rows(run, columns))

    return made


def _first_rows(rng: np.random.Generator, noise: float) -> LabelledRun:
    """In addition: most of what there is to learn is learned in the first row or two; then it falls slowly."""
    points = int(rng.integers(20, 80))
    level = float(rng.uniform(1.0, 2.4))
    run = draw(
        rng, noise, points=points, task=str(rng.choice(["sft", "cpt"])), done=1.0, level=level, fall=0.01, plain=False,
        sd=float(rng.uniform(0.006, 0.014)), evals=0, kind=str(rng.choice(["linear", "cosine"])), anneal=0.0,
        warmup=float(rng.choice([0.0, 0.03])), noise_kind="normal", header=str(rng.choice(["modern", "trl", "old"])),
    )  # fmt: skip
    at = np.arange(points)
    run.true = level + float(rng.uniform(0.1, 0.3)) * np.exp(-at / rng.uniform(0.4, 1.0))
    run.true = run.true + float(rng.uniform(0.02, 0.05)) * (1 - at / points)
    return run.run("healthy/first-rows")


def _single_rows(rng: np.random.Generator, noise: float) -> LabelledRun:
    """In addition: QLoRA with a batch of one row, every step logged: answers of a few words and of a page in turn, so
    that the noise is a third of the loss and its tail is long."""
    points = int(rng.integers(150, 900))
    level = float(rng.uniform(0.7, 1.8))
    run = respaced(
        draw(
            rng, noise, points=points, task="sft", done=1.0, level=level, fall=float(rng.uniform(0.3, 1.0)), sd=0.001,
            epochs=float(rng.choice([1, 2, 3])), evals=int(rng.choice([0, 0, 5])), tokens="none",
            header=str(rng.choice(["modern", "trl", "old"])), early=float(rng.uniform(0.005, 0.05)),
        ),
        1,
    )  # fmt: skip
    spread = float(rng.uniform(0.15, 0.4)) * noise**0.5
    run.blur = run.true * np.expm1(rng.normal(0.0, spread, points) - 0.5 * spread**2)
    run.blur = np.maximum(run.blur, 0.02 - run.true)
    run.sd = spread * level
    return run.run("healthy/single-rows")


def _shards(rng: np.random.Generator, noise: float) -> LabelledRun:
    """In addition: files of different difficulty, streamed through a shuffle buffer: the level goes up and down by one
    to three standard deviations of the noise, and from one file to the next over ten rows and more; in every epoch in
    another order."""
    epochs = int(rng.integers(1, 4))
    files = int(rng.integers(4, 10))
    each = int(rng.integers(30, 70))
    points = epochs * files * each
    run = draw(
        rng, noise, points=points, done=1.0, epochs=float(epochs), task="cpt", sd=float(rng.uniform(0.01, 0.04)),
        noise_kind="normal", evals=int(rng.choice([0, 8, 20])), fall=float(rng.uniform(0.4, 1.5)), plain=False,
        kind=str(rng.choice(["cosine", "linear", "constant"])),
    )  # fmt: skip
    hard = np.clip(rng.normal(0.0, 1.0, files), -1.5, 1.5) * float(rng.uniform(0.5, 1.0)) * run.sd
    levels = np.concatenate([np.repeat(hard[rng.permutation(files)], each) for _ in range(epochs)])
    buffer = int(rng.integers(10, 25))
    weight = np.exp(-np.arange(4 * buffer) / buffer)
    padded = np.concatenate([np.full(4 * buffer - 1, levels[0]), levels])
    run.extra = run.extra + np.convolve(padded, weight / weight.sum(), mode="valid")
    return run.run("healthy/shards")


def _intervals(rng: np.random.Generator, noise: float) -> LabelledRun:
    """In addition: ``logging_steps`` changed two to four times on the way (resumed, looked at closely, resumed again):
    a row is a mean over 1 to 50 steps, and its noise goes with the root of that."""
    parts = int(rng.integers(3, 6))
    widths = rng.permutation([1, 5, 10, 25, 50])[:parts]
    counts = rng.integers(15, 70, parts)
    every = np.repeat(widths, counts)
    points = len(every)
    run = draw(
        rng, noise, points=points, done=1.0, noise_kind="normal", sd=float(rng.uniform(0.03, 0.08)), evals=0,
        tokens="none", task=str(rng.choice(["cpt", "sft"])), level=float(rng.uniform(1.2, 3.0)),
        kind="linear", epochs=1.0, plain=True, fall=float(rng.uniform(0.3, 1.5)), early=0.05,
    )  # fmt: skip
    run.steps = np.cumsum(every)
    run.interval, run.max_steps = 1, int(run.steps[-1])
    at = run.steps / run.max_steps
    run.true = float(run.true[-1]) + float(run.true[0] - run.true[-1]) * np.exp(-at / rng.uniform(0.1, 0.5))
    run.lr = (1 - at) * run.peak
    run.blur = run.blur / np.sqrt(every)
    return run.run("healthy/intervals")


HEALTHY: dict[str, tuple[Kind, int]] = {
    "skipped-step": (_skipped, 8),
    "rl-grpo": (_rl("rl-grpo", "grpo", False), 5),
    "rl-grpo-kl-bumps": (_rl("rl-grpo-kl-bumps", "grpo", True), 5),
    "rl-ppo": (_rl("rl-ppo", "ppo", False), 4),
    "rl-ppo-kl-bumps": (_rl("rl-ppo-kl-bumps", "ppo", True), 3),
    "first-rows": (_first_rows, 4),
    "single-rows": (_single_rows, 4),
    "shards": (_shards, 4),
    "intervals": (_intervals, 4),
    **new_lengths.HEALTHY,
    **new_epochs.HEALTHY,
    **new_levels.HEALTHY,
}
"""Per kind how it is made, and how many of a suite of full size are of it."""
