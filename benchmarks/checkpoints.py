"""Is the true best checkpoint among those that are called as good as the best, and how many are?

``python benchmarks/checkpoints.py``

500 runs are made of which every checkpoint's true loss is known. A run falls to a plateau and moves around it; some
rise again at the end. Its evaluation set is drawn once from rows as uneven as real ones (`benchmarks/targets.py`): a
loss carries the error of the whole set; each checkpoint moves every row by a little of its own, 0.02 to 0.08 nats, so
that two checkpoints on the same rows differ by far less than their errors. The package chooses; the truth is the loss
over the population of rows.

* **kept**: the truly best checkpoint is in the set in 95 % of the runs or more, else exit status 1.
* **size**: the set against the unpaired band that other tools use, everything within twice the standard deviation of
  successive differences above the lowest. Half of it at most, on the mean, else exit status 1. Beside it how often that
  band holds the best, and what standard errors alone would keep.

One core, numpy only, under two minutes, no network.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from targets import Floats, rows

from ko_cpt_callbacks.checkpoint.choice import LEVEL, Scored, choose, row_errors
from ko_cpt_callbacks.metrics.row_sums import HASH_WORDS, RowSums
from ko_cpt_callbacks.metrics.uncertainty import ratio_estimate

RUNS = 500
LARGEST = 0.5
"""Of the band's size."""


def true_losses(rng: np.random.Generator, count: int) -> Floats:
    """The losses of a run's checkpoints over the population: a fall, a plateau that moves, at times a rise."""
    at = np.arange(count)
    fall = rng.uniform(0.2, 1.5) * np.exp(-at / (count * rng.uniform(0.08, 0.3)))
    moves = rng.normal(0.0, rng.choice([0.003, 0.01, 0.03]), count)
    rise = rng.choice([0.0, 0.0, 0.05]) * np.maximum(0.0, at / count - 0.7)
    return 2.8 + fall + moves + rise


def one_run(seed: int) -> tuple[bool, int, bool, int, int, int]:
    """Whether set and band hold the best, and the sizes of set, band, a set by standard errors alone, and all."""
    rng = np.random.default_rng(seed)
    truth = true_losses(rng, int(rng.integers(10, 41)))
    tokens, hardness = rows(rng, int(rng.choice([100, 300, 1000])))
    own = rng.uniform(0.02, 0.08)
    hashes = rng.integers(1, 2**62, (len(tokens), HASH_WORDS)).astype(np.uint64)
    counts = tokens.astype(np.int64)
    order = np.arange(3 * len(tokens), dtype=np.int64).reshape(-1, 3)
    scored, alone = [], []
    for step, loss in enumerate(truth):
        nll = (loss + hardness + rng.normal(0.0, own, len(tokens))) * tokens
        found = ratio_estimate(nll, tokens)
        errors = row_errors(RowSums(nll, counts, counts * 4, hashes, order))
        scored.append(Scored(step, found.value, found.se, errors))
        alone.append(Scored(step, found.value, found.se))
    curve = np.array([one.loss for one in scored])
    equal, wide = choose(scored, curve.tolist()).equal, choose(alone, curve.tolist()).equal
    assert equal is not None and wide is not None
    best = int(np.argmin(truth))
    half = len(curve) // 2  # of the plateau: the fall is no jitter
    band = np.flatnonzero(curve <= curve.min() + 2.0 * float(np.std(np.diff(curve[half:]))))
    return best in equal, len(equal), best in band, len(band), len(wide), len(truth)


def main() -> int:
    """Run, print, and say whether the set is as good and as small as promised."""
    start = time.perf_counter()
    found = np.array([one_run(seed) for seed in range(RUNS)], dtype=float)
    kept, size, band_kept, band, wide, count = found.mean(axis=0)
    share = size / band
    print(f"{RUNS} runs of {count:.1f} checkpoints on the mean")
    print(f"paired set    holds the true best in {kept:.1%}   {size:5.2f} checkpoints   {share:.2f} of the band")
    print(f"unpaired band holds the true best in {band_kept:.1%}   {band:5.2f} checkpoints")
    print(f"standard errors alone                     {wide:5.2f} checkpoints")
    passed = kept >= LEVEL and share <= LARGEST
    print(f"{'ok' if passed else 'FAILED'} ({time.perf_counter() - start:.0f} s)")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
