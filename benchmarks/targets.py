"""How often is a target called met, or missed, that is not?

``python benchmarks/targets.py``

Runs are made of which the true loss is known: a curve, and an evaluation set drawn from a population of rows as uneven
as real ones (lengths log-normal from 20 to 2,048 tokens, loss per row with a standard deviation of 0.43 nats as derived
from public logs, short rows harder). A set is drawn once per run and evaluated again and again, as in training; its
loss and error come from the package's own estimator, its verdict from the package's own rules. A verdict is wrong where
the population's loss says the opposite: *met* at an evaluation whose true loss is not below the target, *missed* at a
deadline where it is.

* **spread**: 1,000 runs, 8 evaluations, 100 to 1,000 rows, targets up to 0.3 nats to either side of where the run
  ends, on the loss, the perplexity or bits per byte, by the end or by a step. Wrong in more than 2.5 % of the runs, or
  of the verdicts of its kind, is exit status 1.
* **near**: the same with targets within three standard errors, where most stay open. 2.5 % of the runs.
* **worst**: the true loss is exactly the bound, or one ten-thousandth beside it, at the only evaluation: by
  construction 2.5 % are wrong. **looks**: a plateau exactly at the bound, looked at 20 times. For both, three standard
  deviations of a share of 1,000 are allowed above 2.5 %: the limit is 4.0 %. (Over more seeds about 2.1 % are *met* and
  3.1 % *missed*: from few uneven rows a low loss and a small error come together.)

One core, numpy only, under 30 seconds, no network.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ko_cpt_callbacks.metrics.uncertainty import ratio_estimate
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.registry import rules_for
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.target import Target

RUNS = 1000
ROW_SD = 0.43
BYTES_PER_TOKEN = 4.5
CODES = ("target-met", "target-missed", "target-inconclusive")
LIMIT = 0.025
LIMIT_AT_THE_BOUND = LIMIT + 3 * math.sqrt(LIMIT * (1 - LIMIT) / RUNS)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Family:
    """A kind of run, and what share of wrong verdicts it may have."""

    name: str
    evaluations: int
    limit: float


FAMILIES = (
    Family("spread", 8, LIMIT),
    Family("near", 8, LIMIT),
    Family("worst met", 1, LIMIT_AT_THE_BOUND),
    Family("worst missed", 1, LIMIT_AT_THE_BOUND),
    Family("looks", 20, LIMIT_AT_THE_BOUND),
)


def rows(rng: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """Tokens of each row, and by how much its loss differs from the mean."""
    tokens = np.floor(np.clip(np.exp(rng.normal(5.7, 0.8, count)), 20, 2048))
    hardness = rng.normal(0.0, ROW_SD, count) - 0.1 * (np.log(tokens) - 5.7)
    return tokens, hardness


def population_offset() -> float:
    """What the rows' own hardness adds to the token-weighted loss of the whole population."""
    tokens, hardness = rows(np.random.default_rng(0), 4_000_000)
    return float(np.sum(tokens * hardness) / np.sum(tokens))


def curve(family: Family, rng: np.random.Generator) -> Floats:
    """True losses at the evaluations."""
    end = rng.uniform(2.2, 3.4)
    if family.name in ("spread", "near"):
        return end + rng.uniform(0.2, 1.5) * np.exp(-np.arange(family.evaluations) / rng.uniform(1.0, 3.0))
    return np.full(family.evaluations, end)


def run(family: Family, rng: np.random.Generator, offset: float) -> tuple[str, bool]:
    """The verdict of one run, and whether it is wrong."""
    truths = curve(family, rng)
    count = int(rng.integers(100, 1001))
    tokens, hardness = rows(rng, count)
    n_bytes = tokens * BYTES_PER_TOKEN  # as in the population: its bits per byte are the loss over 4.5 ln 2
    seen: list[Observation] = []
    for i, truth in enumerate(truths):
        nll = tokens * (truth + hardness - offset)
        loss, bits = ratio_estimate(nll, tokens), ratio_estimate(nll / math.log(2.0), n_bytes)
        seen.append(
            EvalObservation(
                100 * (i + 1), exact_loss=loss.value, exact_loss_se=loss.se, rows=count, bits_per_byte=bits.value,
                bits_per_byte_se=bits.se, tokens=int(tokens.sum()), bytes=int(n_bytes.sum()),
            )
        )  # fmt: skip
    error = ratio_estimate(tokens * hardness, tokens).se or 0.0
    distance = rng.uniform(-1.0, 1.0)
    aside = {"spread": 0.3 * distance, "near": 3 * error * distance, "worst missed": 1e-4}.get(family.name, 0.0)
    bound = float(truths[-1]) + aside
    metric = str(rng.choice(["exact_loss", "ppl", "bits_per_byte"]))
    below = {"exact_loss": bound, "ppl": math.exp(bound), "bits_per_byte": bound / (BYTES_PER_TOKEN * math.log(2.0))}
    by = str(rng.choice(["end", f"step:{100 * len(truths)}"]))
    rules = rules_for(WatchSpec(targets=(Target(metric, below[metric], by=by),), task="sft", rules=CODES))
    (finding,) = Monitor(rules).judge([*seen, EndObservation(100 * len(truths))])[1]
    at = float(truths[int(finding.values["evaluated_step"]) // 100 - 1])  # type: ignore[call-overload]
    verdict = finding.code.removeprefix("target-")
    # At the bound, up to rounding in exp and log, is not below it.
    below_at = at < bound - 1e-9
    return verdict, (verdict == "met" and not below_at) or (verdict == "missed" and below_at)


def main() -> int:
    """Runs every family and prints a line for each; 1 where one is outside."""
    started = time.perf_counter()
    offset = population_offset()
    failed = False
    print(f"{RUNS} runs each          met        wrong        missed        wrong   open   limit")
    for family in FAMILIES:
        rng = np.random.default_rng(20_240_811)
        verdicts: Counter[str] = Counter()
        wrong: Counter[str] = Counter()
        for _ in range(RUNS):
            verdict, is_wrong = run(family, rng, offset)
            verdicts[verdict] += 1
            wrong[verdict] += is_wrong
        line = f"{family.name:14}"
        for verdict in ("met", "missed"):
            share = wrong[verdict] / RUNS
            of_verdicts = wrong[verdict] / max(1, verdicts[verdict])
            line += f"   {verdicts[verdict]:6}  {wrong[verdict]:3} = {share:5.2%}"
            # The nearer the targets, the fewer verdicts there are, and at the bound every one of a kind is wrong.
            failed |= share > family.limit or (family.name == "spread" and of_verdicts > family.limit)
        print(f"{line}   {verdicts['inconclusive']:4}   {family.limit:.1%}")
    print(f"{'FAILED' if failed else 'ok'}, {time.perf_counter() - started:.1f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
