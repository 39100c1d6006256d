"""How often is a target ever met that is not, over 200 evaluations, and what does that cost where it is?

``python benchmarks/stopping.py``

1,000 runs each of which the true loss is known, judged by the package's own fold over their rows. Rows are as uneven as
real ones (`benchmarks/targets.py`).

* **fixed**: the same 400 rows 200 times. Weights move every row by a little of its own: hardly, by 0.1 or 0.3 standard
  deviations of a row's hardness at each evaluation, or further and further from where they began.
* **fresh**: 400 other rows each time.
* **few**: fresh rows for 2, 3, 5 or 20 evaluations.
* **falling**: fresh rows, a loss that falls from 1 nat above and stays at the bound from evaluation 100 on.

With the truth at the bound a target is ever met in 5 % of the runs at most (its confidence is 95 %). Beside it: what an
ordinary interval at every evaluation would do.

* **power**: n rows are those of which one evaluation is below with probability 0.9. Fixed: 1.05 n rows each time;
  fresh: n / 100 rows each time, 200 times. The target is met within 2 n rows in 90 % of the runs or more, after 1.15 n
  rows or fewer on the mean (a run that never meets it counts with 2 n).

The boundary is compared with a second implementation of what it stands for: the mixture itself, integrated numerically.

One core, numpy only, about three minutes, no network.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from targets import ROW_SD, Floats, population_offset, rows

from ko_cpt_callbacks.metrics.uncertainty import paired_difference, ratio_estimate
from ko_cpt_callbacks.run.observation import EvalObservation
from ko_cpt_callbacks.watch.measurement import mixture_boundary
from ko_cpt_callbacks.watch.target import Target
from ko_cpt_callbacks.watch.verdict import Outcome, TargetState, advance

RUNS, LOOKS, ROWS = 1000, 200, 400
BOUND = 3.0
FALSE = 0.05
DEAREST, POWER, MORE = 1.15, 0.9, 1.05
TARGET = Target("exact_loss", BOUND, by="step:1000000")
OFFSET = population_offset()

Evaluations = Callable[[np.random.Generator], Iterator[EvalObservation]]


def fixed(moves: float, *, drifts: bool = False, below: float = 0.0, count: int = ROWS) -> Evaluations:
    """The same rows each time; the weights move them by so many of their standard deviations."""

    def made(rng: np.random.Generator) -> Iterator[EvalObservation]:
        tokens, hardness = rows(rng, count)
        own, before = np.zeros(count), None
        for step in range(LOOKS):
            moved = rng.normal(0.0, moves * ROW_SD, count)
            own = own * 0.995 + 0.1 * moved if drifts else moved
            # Together the weights make no row harder than its hardness: the population stays the same.
            value = BOUND - below - OFFSET + hardness / math.hypot(1.0, 0.0 if drifts else moves) + own
            nll = value * tokens
            found = ratio_estimate(nll, tokens)
            change = None if before is None else paired_difference(nll, tokens, before, tokens).se
            yield EvalObservation(
                step, exact_loss=found.value, exact_loss_se=found.se, exact_loss_change_se=change, rows=count,
                fingerprint="utf8-v2-aa",
            )  # fmt: skip
            before = nll

    return made


def fresh(losses: Floats, count: int = ROWS) -> Evaluations:
    """Other rows each time."""

    def made(rng: np.random.Generator) -> Iterator[EvalObservation]:
        for step, loss in enumerate(losses):
            tokens, hardness = rows(rng, count)
            found = ratio_estimate((loss - OFFSET + hardness) * tokens, tokens)
            yield EvalObservation(
                step, exact_loss=found.value, exact_loss_se=found.se, rows=count, tokens=int(tokens.sum()),
                fingerprint=f"utf8-v2-{step:04x}",
            )  # fmt: skip

    return made


def met_at(seen: Iterable[EvalObservation]) -> int | None:
    """At which evaluation the package calls the target met."""
    state = TargetState()
    for at, one in enumerate(seen):
        state, verdict = advance(TARGET, "other", state, one)
        if verdict is not None and verdict.outcome is Outcome.MET:
            return at
    return None


def plainly_met(seen: list[EvalObservation]) -> bool:
    """Whether an ordinary interval is ever below the bound."""
    return any((one.exact_loss or 0.0) + 1.96 * (one.exact_loss_se or 0.0) < BOUND for one in seen)


def ever(name: str, made: Evaluations) -> bool:
    """How often a target at the truth is ever met; whether that is seldom enough."""
    met = plain = 0
    for seed in range(RUNS):
        seen = list(made(np.random.default_rng([seed, len(name)])))
        met += met_at(seen) is not None
        plain += plainly_met(seen)
    share, plain_share = met / RUNS, plain / RUNS
    print(f"{name:32} ever met {share:6.1%}   an ordinary interval {plain_share:6.1%}")
    return share <= FALSE


def rows_for_power(effect: float) -> int:
    """Rows of which one evaluation is below with probability 0.9, from the error of one of 400."""
    errors = []
    for seed in range(200):
        tokens, hardness = rows(np.random.default_rng([seed, 7]), ROWS)
        errors.append(ratio_estimate(hardness * tokens, tokens).se or 0.0)
    error = float(np.sqrt(np.mean(np.square(errors))))
    return math.ceil(ROWS * ((1.959964 + 1.281552) * error / effect) ** 2)


def power(name: str, made: Callable[[int], Evaluations], effect: float, looks: int) -> bool:
    """How often and after how many rows a target is met that the truth is below."""
    count = rows_for_power(effect)
    one_run = made(count)
    ends = [met_at(one_run(np.random.default_rng([seed, 99]))) for seed in range(RUNS)]
    used = [2.0 if end is None else (end + 1) / looks if looks > 1 else MORE for end in ends]
    share, mean = sum(end is not None for end in ends) / RUNS, float(np.mean(used))
    print(f"{name:32} met {share:6.1%}   after {mean:.2f} n rows on the mean   (n = {count:,})")
    return share >= POWER and mean <= DEAREST


def agrees() -> bool:
    """Whether at the boundary the mixture of likelihood ratios, integrated numerically, is 1 / (1 - confidence)."""
    worst = 0.0
    for confidence in (0.9, 0.95, 0.99):
        for prior in (0.5, 20.0):
            for variance in (1.0, 37.0, 5000.0):
                total = mixture_boundary(confidence, variance, prior)
                effects, step = np.linspace(-12.0, 12.0, 2_000_001, retstep=True)
                effects, step = effects / math.sqrt(prior), step / math.sqrt(prior)
                density = math.sqrt(prior / (2.0 * math.pi)) * np.exp(-prior * effects * effects / 2.0)
                ratio = float(np.sum(np.exp(effects * total - effects * effects * variance / 2.0) * density)) * step
                worst = max(worst, abs(ratio * (1.0 - confidence) - 1.0))
    print(f"the mixture at its boundary differs from 1 / (1 - confidence) by {worst:.1e} at most")
    return worst < 1e-6


def main() -> int:
    """Run, print, and say whether every share is as promised."""
    start = time.perf_counter()
    passed = [agrees()]
    print("the truth at the bound")
    for moves in (0.01, 0.1, 0.3):
        passed.append(ever(f"fixed rows, moved by {moves}", fixed(moves)))
    passed.append(ever("fixed rows, moved further", fixed(0.3, drifts=True)))
    passed.append(ever("fresh rows", fresh(np.full(LOOKS, BOUND))))
    for looks in (2, 3, 5, 20):
        passed.append(ever(f"fresh rows, {looks} evaluations", fresh(np.full(looks, BOUND))))
    falling = BOUND + np.maximum(0.0, 1.0 - np.arange(LOOKS) / 100.0)
    passed.append(ever("fresh rows, a loss that falls", fresh(falling)))
    print("the truth below the bound")
    effect = 0.03
    passed.append(power("fixed rows", lambda n: fixed(0.1, below=effect, count=math.ceil(MORE * n)), effect, 1))
    below = np.full(LOOKS, BOUND - effect)
    passed.append(power("fresh rows", lambda n: fresh(below, max(2, n // 100)), effect, 100))
    print(f"{'ok' if all(passed) else 'FAILED'} ({time.perf_counter() - start:.0f} s)")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
