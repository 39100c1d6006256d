"""How often does the interval of a paired difference hold the true difference?

``python benchmarks/paired_intervals.py``

Two models are made of which the true difference is known: each scores rows that are as uneven as real ones (lengths
log-normal from 20 to 2,048 tokens, loss per row with a standard deviation of 0.43 nats as derived from public logs,
short rows harder). The rows' hardness is shared by both models; each has a part of its own. An evaluation set of 100
to 1,000 rows is drawn, both score it, and `ko_cpt_callbacks.compare.pairing.paired_with` gives the difference with its
standard error. The truth is the difference on four million rows.

* **one tokenizer**: nats per token, a true difference of about 0.03 nats.
* **two tokenizers**: bits per byte; the other tokenizer needs 0.6 of the tokens, unevenly.
* **level**: no true difference.

Eight times 500 pairs each; a share of intervals that hold the truth outside 93 to 97 % over all of them is exit status
1. (Of 500 alone the share is known to about one in a hundred; the lowest and the highest of the eight are printed. From
few uneven rows it is a little below 95 %: the normal interval knows nothing of how few they are.) Beside it how many
times wider two separate intervals would be, their errors added as if independent.

One core, numpy only, about a minute, no network.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ko_cpt_callbacks.compare.pairing import paired_with
from ko_cpt_callbacks.metrics.perplexity import interval
from ko_cpt_callbacks.metrics.row_sums import OPENS, READ, RowSums
from ko_cpt_callbacks.metrics.uncertainty import ratio_estimate

PAIRS = 500
BATCHES = 8
LOWEST, HIGHEST = 0.93, 0.97
ROW_SD = 0.43  # nats per token between rows: public logs, see benchmarks/targets.py
OWN_SD = 0.06  # of it one model's own; chosen, not measured: models of one family mostly agree on what is hard
BYTES_PER_TOKEN = 4.5
POPULATION = 8, 500_000  # parts, and rows in each

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Family:
    """A kind of pair: by how many nats per token of the first tokenizer the second model is worse, and its tokens."""

    name: str
    gap: float
    one_tokenizer: bool


FAMILIES = (
    Family("one tokenizer", 0.03, one_tokenizer=True),
    Family("two tokenizers", 0.03, one_tokenizer=False),
    Family("level", 0.0, one_tokenizer=True),
)


def evaluations(rng: np.random.Generator, family: Family, count: int) -> tuple[RowSums, RowSums]:
    """Both models' sums of the same rows."""
    tokens = np.floor(np.clip(np.exp(rng.normal(5.7, 0.8, count)), 20, 2048))
    size = np.ceil(tokens * BYTES_PER_TOKEN * np.exp(rng.normal(0.0, 0.1, count)))
    hardness = rng.normal(0.0, ROW_SD, count) - 0.1 * (np.log(tokens) - 5.7)
    other = tokens if family.one_tokenizer else np.ceil(tokens * 0.6 * np.exp(rng.normal(0.0, 0.15, count)))
    # The gap is larger on hard rows: differences have a shape of their own.
    gap = family.gap * (1.0 + 0.5 * hardness)
    first = (2.8 + hardness + rng.normal(0.0, OWN_SD, count)) * tokens
    second = (2.8 + hardness + gap + rng.normal(0.0, OWN_SD, count)) * tokens
    return _sums(first, tokens, size), _sums(second, other, size)


def _sums(nll: Floats, tokens: Floats, size: Floats) -> RowSums:
    count = len(nll)
    return RowSums(
        nll=nll,
        tokens=tokens.astype(np.int64),
        bytes=size.astype(np.int64),
        hash=np.arange(count, dtype=np.uint64),
        order=np.zeros((count, 3), dtype=np.int64),
        flags=np.full(count, READ | OPENS, dtype=np.uint8),
    )


@lru_cache
def truth(family: Family) -> float:
    """The difference on the whole population, in the family's unit."""
    rng = np.random.default_rng(20_260_120)
    sums = np.zeros(4)
    for _ in range(POPULATION[0]):
        sides = evaluations(rng, family, POPULATION[1])
        sizes = [side.tokens if family.one_tokenizer else side.bytes * math.log(2.0) for side in sides]
        sums += [sides[0].nll.sum(), sizes[0].sum(), sides[1].nll.sum(), sizes[1].sum()]
    return float(sums[0] / sums[1] - sums[2] / sums[3])


def covered(family: Family, pairs: int = PAIRS, seed: int = 0) -> float:
    """The share of 95 % intervals that hold the true difference."""
    return _batch(family, pairs, seed)[0]


def _batch(family: Family, pairs: int, seed: int) -> tuple[float, float]:
    """The share held, and how many times wider separate intervals are."""
    rng = np.random.default_rng([seed, FAMILIES.index(family)])
    wanted, held, wider = truth(family), 0, 0.0
    for _ in range(pairs):
        first, second = evaluations(rng, family, int(rng.integers(100, 1001)))
        found = paired_with(second, first, family.one_tokenizer)
        assert found.difference is not None and found.se is not None
        low, high = interval(found.difference, found.se)
        held += low <= wanted <= high
        wider += math.hypot(*(_separate_error(family, side) for side in (first, second))) / found.se / pairs
    return held / pairs, wider


def _separate_error(family: Family, side: RowSums) -> float:
    if family.one_tokenizer:
        error = ratio_estimate(side.nll, side.tokens).se
    else:
        error = ratio_estimate(side.nll / math.log(2.0), side.bytes).se
    assert error is not None
    return error


def main() -> int:
    """Prints the table; 1 where a share is outside."""
    start = time.perf_counter()
    print(f"{BATCHES} times {PAIRS} pairs a kind, 100 to 1,000 rows each: how many 95 % intervals hold the truth\n")
    print(f"{'kind':<16}{'truth':>10}{'held':>10}{'of 500, lowest and highest':>30}{'separate: times as wide':>26}")
    failed = []
    for family in FAMILIES:
        batches = [_batch(family, PAIRS, seed) for seed in range(BATCHES)]
        shares = [share for share, _ in batches]
        held, wider = sum(shares) / BATCHES, sum(wider for _, wider in batches) / BATCHES
        spread = f"{min(shares):.1%} to {max(shares):.1%}"
        print(f"{family.name:<16}{truth(family):>+10.4f}{held:>10.1%}{spread:>30}{wider:>26.1f}")
        if not LOWEST <= held <= HIGHEST:
            failed.append(family.name)
    print(f"\n{time.perf_counter() - start:.0f} s")
    if failed:
        print(f"outside {LOWEST:.0%} to {HIGHEST:.0%}: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
