"""Failures that evaluations show: overfitting, a widening gap, forgetting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from suite.draft import Draft, EvalSet, draw
from suite.run import LabelledRun

__all__ = ["FAULTS"]

Kind = Callable[[np.random.Generator, float], LabelledRun]
RETENTION = ("en", "english", "retention", "base", "orig")


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(max(high, low)))))


def _value(run: Draft, one: EvalSet) -> np.ndarray:
    """The set's loss without its noise, per evaluation."""
    return np.asarray((run.true + one.extra)[one.at] + one.offset)


def _by(run: Draft, one: EvalSet, rise: np.ndarray, limit: float, more: int) -> int:
    """The step of the ``more``-th evaluation beyond the first that is above ``limit``; the last one's if too few."""
    above = np.flatnonzero(rise > limit)
    order = min(len(one.at) - 1, (int(above[0]) if len(above) else len(one.at) - 1) + more)
    return run.at(int(one.at[order]))


def _overfit(variant: str) -> Kind:
    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        several = variant == "one-of-two-sets"
        run = draw(
            rng, noise, least=60, prefixes=("eval_ko", "eval_law") if several else ("eval",), done=1.0,
            kind=str(rng.choice(["cosine", "linear", "constant"])), epochs=float(rng.choice([1, 3, 5])), offset=0.1,
            header="ours" if variant == "own-error" else None, eval_sd=_log_uniform(rng, 0.001, 0.006), early=0.05,
            evals=None,
        )  # fmt: skip
        if variant == "few-evaluations":
            for one in run.evals:
                keep = np.linspace(0, len(one.at) - 1, min(len(one.at), int(rng.integers(5, 8)))).astype(int)
                one.at, one.blur = one.at[keep], one.blur[keep]
        sets = run.evals[-1:] if several else run.evals
        at = np.arange(run.points) / run.points
        bottom = 0.02 if variant == "from-the-first" else float(rng.uniform(0.2, 0.4))
        # Training goes on down, by a little more than before, as it does where text is learnt by heart.
        run.true = np.maximum(run.true, 0.25)
        gain = float(rng.uniform(0.05, 0.4)) * min(1.0, run.level() / 2)
        run.extra = run.extra - gain * np.clip((at - bottom) / (1 - bottom), 0, 1)
        size = _log_uniform(rng, 0.04 if variant == "slight" else 0.1, 0.1 if variant == "slight" else 0.9)
        size = max(size, 10 * sets[0].sd, 0.02 * float(np.median(run.true)))
        windows = []
        for one in sets:
            base = (run.true + one.extra)[int(bottom * run.points)]
            rest = np.clip((at - bottom) / (1 - bottom), 0, 1)
            power = float(rng.choice([0.7, 1.0, 1.5]))
            rising = base + size * rest**power
            one.extra = np.where(at >= bottom, rising - run.true, one.extra)
            value = _value(run, one)
            best = np.minimum.accumulate(value)
            margin = max(0.012, 0.006 * float(best.min()), 3.0 * one.sd)
            if one.own:
                margin = max(margin, 4.0 * max(one.sd, 0.003) * 1.5)
            windows.append((run.at(int(bottom * run.points)), _by(run, one, value - best, 1.5 * margin, 3)))
        first, last = min(w[0] for w in windows), min(w[1] for w in windows)
        return run.run(
            f"overfitting/{variant}", {"overfitting": (first, last)},
            allowed=("gap-widening", "memorizing", "below-floor", "plateau"), size=size, onset=first,
        )  # fmt: skip

    return made


def _gap(variant: str) -> Kind:
    """Training goes away from an evaluation that stands still."""

    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        run = draw(
            rng, noise, least=60, prefixes=("eval",), done=1.0, kind=str(rng.choice(["cosine", "linear", "constant"])),
            epochs=float(rng.choice([1, 3, 5])), offset=float(rng.choice([0.05, 0.1, -0.15, 1.16])), early=0.01,
            eval_sd=_log_uniform(rng, 0.001, 0.004), sd=_log_uniform(rng, 0.005, 0.04),
            fall=float(rng.uniform(0.3, 1.0)),
        )  # fmt: skip
        one = run.evals[0]
        at = np.arange(run.points) / run.points
        start = float(rng.uniform(0.25, 0.5))
        rest = np.clip((at - start) / (1 - start), 0, 1)
        low = float(np.min(run.true))
        least, most = {"slight": (0.22, 0.3), "middle": (0.3, 0.6), "large": (0.6, 1.2)}[variant]
        size = float(min(rng.uniform(least, most), 0.75 * low))
        run.extra = run.extra - size * rest
        # The evaluation stays where it was.
        stop = int(start * run.points)
        one.extra = one.extra + np.where(at >= start, run.true[stop] - run.true, 0.0)
        gap = _value(run, one) - (run.true + run.extra)[one.at]
        early = float(np.median(gap[: max(3, len(gap) // 5)]))
        return run.run(
            f"gap-widening/{variant}", {"gap-widening": (run.at(stop), _by(run, one, gap - early, 0.16, 4))},
            allowed=("memorizing", "overfitting", "below-floor", "level-shift", "plateau"), size=size,
            onset=run.at(stop),
        )  # fmt: skip

    return made


def _forgotten(variant: str) -> Kind:
    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        run = draw(
            rng, noise, points=int(rng.integers(60, 500)), task="cpt", prefixes=("eval_ko",), offset=0.1, done=1.0,
            warmup=float(rng.choice([0.0, 0.03, 0.05, 0.1])),
        )  # fmt: skip
        name = str(rng.choice(RETENTION))
        level = float(rng.uniform(1.6, 3.0))
        at = np.arange(run.points) / run.points
        if variant == "fast":
            end = _log_uniform(rng, 0.08, 0.6)
            rise = end * (1 - np.exp(-at / rng.uniform(0.05, 0.2)))
        elif variant == "slow":
            end = _log_uniform(rng, 0.05, 0.15)
            rise = end * at ** rng.uniform(0.7, 1.3)
        else:  # the gap of the start that does not close
            end = _log_uniform(rng, 0.045, 0.12)
            top = 0.06
            peak = end * rng.uniform(1.2, 2.0)
            rise = np.where(at < top, peak * at / top, end + (peak - end) * np.exp(-(at - top) / 0.1))
        points = np.unique(np.concatenate([[0], run.evals[0].at]))
        spread = 0.001 * noise * level
        one = EvalSet(
            f"eval_{name}", points, 0.0, spread, level * (1 + rise) - run.true, run.header == "ours",
            rng.normal(0, spread, len(points)),
        )  # fmt: skip
        run.evals.append(one)
        relative = rise[points]
        late = np.where(at[points] >= 0.12, relative, 0.0)
        above = np.flatnonzero(late > 0.03)
        first = run.at(int(points[int(above[0])]))
        window = (min(first, run.at(run.points // 10)), _by(run, one, late, 0.036, 2))
        return run.run(
            f"forgetting/{variant}", {"forgetting": window},
            allowed=("plateau",), size=end, onset=first,
        )  # fmt: skip

    return made


FAULTS: dict[str, tuple[Kind, int]] = {
    "overfitting/u-shape": (_overfit("u-shape"), 5),
    "overfitting/slight": (_overfit("slight"), 4),
    "overfitting/from-the-first": (_overfit("from-the-first"), 3),
    "overfitting/few-evaluations": (_overfit("few-evaluations"), 3),
    "overfitting/own-error": (_overfit("own-error"), 3),
    "overfitting/one-of-two-sets": (_overfit("one-of-two-sets"), 2),
    "gap-widening/slight": (_gap("slight"), 4),
    "gap-widening/middle": (_gap("middle"), 5),
    "gap-widening/large": (_gap("large"), 4),
    "forgetting/fast": (_forgotten("fast"), 5),
    "forgetting/slow": (_forgotten("slow"), 5),
    "forgetting/gap-that-stays": (_forgotten("gap-that-stays"), 4),
}
"""Per kind how it is made, and how many of a suite of full size are of it."""
