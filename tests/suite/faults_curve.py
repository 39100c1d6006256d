"""Failures that the training curve shows: spikes, divergence, shifts of level."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from suite.draft import Draft, draw
from suite.run import LabelledRun

__all__ = ["FAULTS"]

Kind = Callable[[np.random.Generator, float], LabelledRun]
TAIL = 8  # log points after a spike's end by which it must have been said


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(max(high, low)))))


def _spike(run: Draft, at: int, width: int, size: float, shape: str) -> int:
    """Adds a spike from point ``at``; the point at which it is over."""
    last = min(run.points - 1, at + width)
    form = np.zeros(run.points)
    if width == 1:
        form[at] = 1.0
    elif shape == "decay":
        length = run.points - at
        form[at:] = np.exp(-np.arange(length) / (width / 3.0))
        form[last:] = 0.0
    elif shape == "hill":
        form[at:last] = np.sin(np.pi * (np.arange(last - at) + 0.7) / (last - at + 0.4))
    else:
        form[at:last] = 1.0
    run.true = run.true + size * form
    if run.rng.random() < 0.6:
        run.grad = run.grad * (1.0 + 5.0 * form)
    return last


def _spiky(variant: str, widths: tuple[int, int], where: tuple[float, float], kind: str | None = None) -> Kind:
    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        width = int(rng.integers(widths[0], widths[1] + 1))
        run = draw(rng, noise, least=max(40, 5 * width), kind=kind, sd=_log_uniform(rng, 0.005, 0.05))
        run.true = np.maximum(run.true, 0.2)
        size = _log_uniform(rng, max(0.3, 10 * run.sd), 5.0)
        at = run.mid_epoch(*where)
        shapes = ["decay", "hill", "flat"] if width <= 5 else ["decay", "hill"]  # a wide flat one is a shift, and back
        end = _spike(run, at, width, size, str(rng.choice(shapes)))
        return run.run(
            f"loss-spike/{variant}", {"loss-spike": (run.at(at), run.at(end + TAIL))},
            allowed=("overfitting", "gap-widening"), size=size, onset=run.at(at),
        )  # fmt: skip

    return made


def _coarse_spike(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Logged so seldom that a large spike is one point of few."""
    run = draw(rng, noise, points=int(rng.integers(18, 45)), sd=_log_uniform(rng, 0.005, 0.03), evals=0)
    size = _log_uniform(rng, max(0.5, 15 * run.sd), 5.0)
    at = run.mid_epoch(0.4, 0.85)
    _spike(run, at, 1, size, "flat")
    return run.run(
        "loss-spike/coarse", {"loss-spike": (run.at(at), run.at(at + TAIL))}, size=size, onset=run.at(at)
    )


def _several_spikes(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Three spikes of which any may be the first that is said."""
    run = draw(rng, noise, least=100, sd=_log_uniform(rng, 0.005, 0.04))
    size = _log_uniform(rng, max(0.4, 12 * run.sd), 4.0)
    first = run.mid_epoch(0.2, 0.35)
    for at in (first, int(0.55 * run.points), int(0.8 * run.points)):
        _spike(run, at, int(rng.integers(1, 6)), size * rng.uniform(0.8, 1.2), "decay")
    return run.run(
        "loss-spike/several", {"loss-spike": (run.at(first), run.at(first + 6 + TAIL))},
        allowed=("overfitting", "gap-widening"), size=size, onset=run.at(first),
    )  # fmt: skip


def _diverged(variant: str) -> Kind:
    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        run = draw(
            rng, noise, least=60, kind=str(rng.choice(["cosine", "linear", "constant", "wsd"])),
            sd=_log_uniform(rng, 0.005, 0.05), warmup=float(rng.choice([0.0, 0.01, 0.03, 0.05, 0.1])),
        )  # fmt: skip
        count, index = run.points, np.arange(run.points)
        at = run.mid_epoch(0.15, 0.6)
        level = float(run.true[at])
        high = max(level + 1.0, float(rng.uniform(6.0, 11.0)))
        after = np.clip(index - at, 0, None).astype(float)
        if variant == "fast":
            width = rng.uniform(2, 12)
            goal = high + 0.3 * rng.normal(size=count)
            share = 1 - np.exp(-after / width)
            run.true = run.true + share * (goal - run.true)
            by = at + 3 * width + 15
            size = high - level
        elif variant == "to-plateau":
            # Jumps to about what guessing gives, and stays there without learning.
            width = rng.uniform(1, 4)
            high = level + rng.uniform(1.5, 5.0)
            run.true = np.where(index > at, high - (high - level) * np.exp(-after / width), run.true)
            by = at + 3 * width + 20
            size = high - level
        elif variant == "slow":
            span = rng.uniform(0.2, 0.5) * count
            size = max(_log_uniform(rng, 0.5, 4.0), 12 * run.sd)
            run.true = run.true + size * np.clip(after / span, 0, 1)
            by = at + span + 0.05 * count
        elif variant == "accelerating":
            span = rng.uniform(0.15, 0.35) * count
            size = max(_log_uniform(rng, 1.0, 4.0), 12 * run.sd)
            run.true = run.true + np.minimum(size, size * np.expm1(3 * after / span) / np.expm1(3))
            by = at + span + 0.05 * count
        elif variant == "from-start":
            # Falls for a moment while the rate warms up, then leaves for good; or never falls at all.
            at = int(rng.integers(0, max(1, count // 12)))
            after = np.clip(index - at, 0, None).astype(float)
            start = float(run.true[0]) if rng.random() < 0.5 else float(rng.uniform(4.0, 7.0))
            high = start + rng.uniform(1.0, 5.0)
            dip = 0.3 * np.clip(index / max(1, at), 0, 1)
            run.true = start - dip + (high - start + 0.3) * (1 - np.exp(-after / rng.uniform(3, max(4, count / 12))))
            by = at + max(30, count / 3)
            size = high - start
        elif variant == "after-spike":
            width = int(rng.integers(2, 8))
            run.true = run.true.copy()
            peak, stay = rng.uniform(2.0, 5.0), rng.uniform(0.8, 1.8)
            run.true[at:] = level + stay + (peak - stay) * np.exp(-after[at:] / width)
            run.true[at:] += 0.2 * np.clip(after[at:] / count, 0, 1)
            by = at + 3 * width + 25
            size = stay
        else:  # oscillating, ever wider
            run.true = run.true + np.clip(after / (0.2 * count), 0, 1) * (
                1.2 + 1.0 * np.sin(after / rng.uniform(1.5, 5.0))
            ) * rng.uniform(1.0, 2.0)
            by = at + max(30, 0.3 * count)
            size = 1.5
        run.grad = run.grad * (1 + 3 * (after > 0))
        # Noise grows with the loss.
        run.blur = run.blur * np.where(after > 0, rng.uniform(1.0, 3.0), 1.0)
        end = count - 1 if by >= count - 1 else int(by)
        return run.run(
            f"diverged/{variant}", {"diverged": (run.at(at), run.at(end))},
            allowed=("loss-spike", "level-shift", "overfitting", "no-learning", "gap-widening", "forgetting"),
            size=size, onset=run.at(at),
        )  # fmt: skip

    return made


def _shift(variant: str) -> Kind:
    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        run = draw(
            rng, noise, least=45, kind=str(rng.choice(["cosine", "linear", "constant", "inverse-sqrt"])),
            sd=_log_uniform(rng, 0.005, 0.06), warmup=float(rng.choice([0.0, 0.03, 0.05, 0.1])),
            fall=float(rng.uniform(0.3, 1.2)),
        )  # fmt: skip
        at = run.mid_epoch(0.3, 0.75, away=5)
        nominal = run.sd / run.noise
        # From five standard deviations of the noise that there is.
        if variant.endswith("small"):
            size = max(_log_uniform(rng, 6.0, 9.0) * nominal, 5.5 * run.sd)
        elif variant.endswith("middle"):
            size = max(_log_uniform(rng, 9.0, 20.0) * nominal, 6.0 * run.sd)
        elif variant.endswith("scaled"):  # the sum over accumulation steps instead of their mean
            size = float(run.true[at]) * float(rng.choice([1.0, 3.0]))
        else:
            size = max(float(rng.uniform(0.5, 2.5)), 20 * nominal, 6.0 * run.sd)
        if variant.startswith("down"):
            size = min(size, 0.7 * float(run.true[at:].min()))
        sign = -1.0 if variant.startswith("down") else 1.0
        shift = np.where(np.arange(run.points) >= at, sign * size, 0.0)
        if rng.random() < 0.3:  # it began within a logging window
            shift[at] *= rng.uniform(0.3, 0.9)
        # The text changed: the evaluation does not move with it.
        run.extra = run.extra + shift
        return run.run(
            f"level-shift/{variant}", {"level-shift": (run.at(at), run.at(at + 30))},
            allowed=("gap-widening", "diverged") if sign > 0 else ("gap-widening", "below-floor", "padding-in-loss"),
            size=size / run.sd, onset=run.at(at),
        )  # fmt: skip

    return made


FAULTS: dict[str, tuple[Kind, int]] = {
    "loss-spike/point": (_spiky("point", (1, 1), (0.15, 0.85)), 4),
    "loss-spike/narrow": (_spiky("narrow", (2, 5), (0.15, 0.85)), 4),
    "loss-spike/wide": (_spiky("wide", (6, 20), (0.15, 0.75)), 4),
    "loss-spike/early": (_spiky("early", (1, 6), (0.06, 0.15)), 2),
    "loss-spike/late": (_spiky("late", (1, 4), (0.88, 0.93)), 2),
    "loss-spike/coarse": (_coarse_spike, 2),
    "loss-spike/several": (_several_spikes, 2),
    "diverged/fast": (_diverged("fast"), 4),
    "diverged/to-plateau": (_diverged("to-plateau"), 3),
    "diverged/slow": (_diverged("slow"), 4),
    "diverged/accelerating": (_diverged("accelerating"), 2),
    "diverged/from-start": (_diverged("from-start"), 3),
    "diverged/after-spike": (_diverged("after-spike"), 3),
    "diverged/oscillating": (_diverged("oscillating"), 2),
    "level-shift/up-small": (_shift("up-small"), 3),
    "level-shift/up-middle": (_shift("up-middle"), 3),
    "level-shift/up-large": (_shift("up-large"), 3),
    "level-shift/up-scaled": (_shift("up-scaled"), 2),
    "level-shift/down-small": (_shift("down-small"), 3),
    "level-shift/down-middle": (_shift("down-middle"), 3),
    "level-shift/down-large": (_shift("down-large"), 3),
}
"""Per kind how it is made, and how many of a suite of full size are of it."""
