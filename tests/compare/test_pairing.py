"""Two evaluations row by row: what pairs, what does not and why, and the interval of the difference."""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ko_cpt_callbacks.compare.pairing import paired_with
from ko_cpt_callbacks.compare.value import BITS, NATS
from ko_cpt_callbacks.metrics.row_sums import OPENS, READ, SEVERAL, SPECIAL_SCORED, RowSums

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WHOLE = READ | OPENS | SPECIAL_SCORED


def rows(**more: Any) -> RowSums:
    """Four whole documents."""
    columns: dict[str, Any] = {
        "nll": [30.0, 12.0, 45.0, 21.0], "tokens": [10, 4, 15, 7], "bytes": [40, 16, 60, 28],
        "hash": [11, 22, 33, 44], "flags": [WHOLE] * 4, **more,
    }  # fmt: skip
    count = len(columns["nll"])
    return RowSums(
        nll=np.array(columns["nll"], dtype=np.float64),
        tokens=np.array(columns["tokens"], dtype=np.int64),
        bytes=np.array(columns["bytes"], dtype=np.int64),
        hash=np.array(columns["hash"], dtype=np.uint64),
        order=np.array([[1, 0, at] for at in range(count)], dtype=np.int64).reshape(-1, 3),
        flags=np.array(columns["flags"], dtype=np.uint8),
    )


def taken(whole: RowSums, index: list[int]) -> RowSums:
    """Some rows, in that order."""
    at = np.array(index)
    return RowSums(whole.nll[at], whole.tokens[at], whole.bytes[at], whole.hash[at], whole.order, whole.flags[at])


def test_one_tokenizer() -> None:
    """Nats per token: run less baseline, with the paired standard error, computed here by hand."""
    better = rows(nll=[29.0, 12.0, 42.0, 20.0])
    found = paired_with(rows(), better, same_tokenizer=True)
    assert (found.unit, found.rows, found.reasons) == (NATS, 4, ())
    assert found.difference == pytest.approx((103.0 - 108.0) / 36.0)
    tokens = np.array([10, 4, 15, 7])
    residuals = (better.nll - 103 / 36 * tokens) / 36 - (rows().nll - 108 / 36 * tokens) / 36
    assert found.se == pytest.approx(math.sqrt(4 / 3 * float(np.sum(residuals**2))))


def test_two_tokenizers() -> None:
    """Bits per byte; the number of tokens does not matter."""
    found = paired_with(rows(tokens=[20, 8, 30, 14]), rows(nll=[29.0, 12.0, 42.0, 20.0]), same_tokenizer=False)
    assert (found.unit, found.reasons) == (BITS, ())
    assert found.difference == pytest.approx((103.0 - 108.0) / math.log(2.0) / 144.0)


@pytest.mark.parametrize("same", [True, False])
def test_a_run_with_itself(same: bool) -> None:
    """No difference, and no doubt about it; rows with and without text or targets included."""
    each = rows(nll=[1.0, 0.0, 2.0, 3.0], tokens=[3, 0, 4, 5], bytes=[9, 0, 12, 0], hash=[1, 2, 2, 0])
    found = paired_with(each, each, same)
    assert (found.difference, found.se) == (0.0, 0.0)


@pytest.mark.parametrize("same", [True, False])
def test_order_does_not_matter(same: bool) -> None:
    """Rows are matched by their text; equal texts by what was scored."""
    base = rows(hash=[11, 22, 22, 44], tokens=[10, 4, 3, 7], bytes=[40, 16, 12, 28])
    run = replace(base, nll=base.nll * 0.9)
    whole = paired_with(base, run, same)
    shuffled = paired_with(base, taken(run, [2, 3, 0, 1]), same)
    assert shuffled.difference == pytest.approx(whole.difference)
    assert shuffled.se == pytest.approx(whole.se)
    assert whole.difference is not None and whole.difference < 0


@pytest.mark.parametrize(
    ("changed", "same", "reasons"),
    [
        ({"hash": [11, 22, 33, 45]}, True, ("different-text",)),
        ({"hash": [11, 22, 33, 45]}, False, ("different-text",)),
        ({"hash": [11, 22, 33, 45], "flags": [WHOLE | SEVERAL] * 4}, False, ("different-text", "packed")),
        ({"hash": [11, 22, 33, 45], "flags": [WHOLE | SEVERAL] * 4}, True, ("different-text",)),
        ({"tokens": [10, 4, 15, 6]}, True, ("scored-differently",)),
        ({"tokens": [10, 4, 15, 6]}, False, ()),
        ({"bytes": [40, 16, 60, 27]}, False, ("scored-differently",)),
        ({"bytes": [40, 16, 60, -1]}, False, ("bytes-unknown",)),
        ({"bytes": [40, 16, 60, -1]}, True, ()),
        ({"flags": [WHOLE, WHOLE, WHOLE, 0]}, False, ("row-kind-unknown",)),
        ({"flags": [0] * 4}, True, ()),
        ({"flags": [WHOLE, WHOLE, WHOLE, WHOLE | SEVERAL]}, False, ("packed",)),
        ({"flags": [WHOLE | SEVERAL] * 4}, True, ()),
        ({"flags": [WHOLE, WHOLE, READ | SPECIAL_SCORED, WHOLE]}, False, ("no-bos",)),
        ({"flags": [READ | SPECIAL_SCORED] * 4, "bytes": [37, 13, 57, 25]}, False, ("no-bos",)),
        ({"flags": [READ | OPENS] * 4}, False, ("special-tokens-differ",)),
        ({"flags": [READ | SEVERAL] * 4}, False, ("packed", "no-bos", "special-tokens-differ")),
        ({"nll": [30.0, math.nan, 45.0, 21.0]}, True, ("not-finite",)),
        ({"nll": [30.0, math.inf, 45.0, 21.0]}, False, ("not-finite",)),
    ],
)
def test_what_does_not_pair(changed: dict[str, Any], same: bool, reasons: tuple[str, ...]) -> None:
    """Every reason, on either side alike; without a reason there is a difference, with one there is none."""
    for base, run in ((rows(), rows(**changed)), (rows(**changed), rows())):
        found = paired_with(base, run, same)
        assert found.reasons == reasons
        assert (found.difference is None) == bool(reasons)


def test_fewer_rows() -> None:
    """A set that was cut short is another text."""
    assert paired_with(rows(), taken(rows(), [0, 1, 2]), True).reasons == ("different-text",)
    assert paired_with(rows(), RowSums.empty(), True).reasons == ("different-text",)


def test_nothing_at_all() -> None:
    """Two evaluations of nothing: no difference that is a number."""
    assert paired_with(RowSums.empty(), RowSums.empty(), True).reasons == ("not-finite",)


def test_one_row() -> None:
    """A difference without an error."""
    found = paired_with(taken(rows(), [0]), taken(rows(nll=[29.0, 0, 0, 0]), [0]), True)
    assert (found.difference, found.se, found.rows) == (pytest.approx(-0.1), None, 1)


def test_intervals_hold_the_truth() -> None:
    """Of 500 simulated pairs a kind whose true difference is known, 93 to 97 % of the 95 % intervals hold it.

    One tokenizer, two, and no difference at all; by numbers drawn anew for each kind.
    """
    spec = importlib.util.spec_from_file_location("paired_intervals", BENCHMARKS / "paired_intervals.py")
    assert spec is not None and spec.loader is not None
    bench = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    shares = {family.name: bench.covered(family, pairs=500, seed=1) for family in bench.FAMILIES}
    assert len(shares) == 3
    assert {name: share for name, share in shares.items() if not 0.93 <= share <= 0.97} == {}
