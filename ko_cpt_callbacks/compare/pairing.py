"""Two evaluations row by row: are they the same rows, scored the same way, and by how much do their losses differ.

Rows are matched by the hash of their text, in whatever order they were evaluated. With one tokenizer the loss per token
is compared. With two it is bits per byte, and only where every row is one whole document: each side then has scored
the same bytes, which equal hashes of the text and equal counts of scored bytes show row by row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ko_cpt_callbacks.compare.value import BITS, NATS, Paired
from ko_cpt_callbacks.metrics.row_sums import OPENS, READ, SEVERAL, SPECIAL_SCORED, RowSums
from ko_cpt_callbacks.metrics.uncertainty import paired_difference

__all__ = ["paired_with"]


def paired_with(baseline_value_rows: RowSums, rows: RowSums, same_tokenizer: bool) -> Paired:
    """The difference of a run and a baseline on the same rows, or why there is no exact one.

    Args:
        baseline_value_rows: Per-row sums of the baseline's evaluation.
        rows: Those of the run's.
        same_tokenizer: Whether both were tokenized alike: equal hashes in ``run.json`` (``tokenizer.hash``).

    Returns:
        The run less the baseline, negative where the run has the lower loss; or the codes of what speaks against it.
    """
    ours, theirs = _matched(rows, same_tokenizer), _matched(baseline_value_rows, same_tokenizer)
    unit = NATS if same_tokenizer else BITS
    reasons = tuple(_reasons(rows, baseline_value_rows, ours, theirs, same_tokenizer))
    if reasons:
        return Paired(unit, reasons=reasons)
    size_a, size_b = (rows.tokens[ours], baseline_value_rows.tokens[theirs])
    scale = 1.0
    if not same_tokenizer:
        size_a, size_b, scale = rows.bytes[ours], baseline_value_rows.bytes[theirs], 1.0 / math.log(2.0)
    found = paired_difference(rows.nll[ours] * scale, size_a, baseline_value_rows.nll[theirs] * scale, size_b)
    if not math.isfinite(found.value):
        return Paired(unit, reasons=("not-finite",))
    return Paired(unit, found.value, found.se, found.n)


def _matched(rows: RowSums, same_tokenizer: bool) -> NDArray[np.intp]:
    """An order in which two evaluations of the same rows agree: by text, of equal texts by what was scored."""
    counts = rows.tokens if same_tokenizer else rows.bytes
    return np.lexsort((rows.flags, rows.bytes, counts, *rows.hash.T))


def _reasons(
    rows: RowSums, others: RowSums, ours: NDArray[np.intp], theirs: NDArray[np.intp], same_tokenizer: bool
) -> Iterator[str]:
    if len(rows) and len(others) and rows.hash.shape[1] != others.hash.shape[1]:
        yield "text-unknown"  # one side is an older file: its hashes are others, whatever the text is
        return
    if not np.array_equal(rows.hash[ours], others.hash[theirs]):
        yield "different-text"
        # Two tokenizers cut a stream of documents at different places.
        if not same_tokenizer and bool(((rows.flags & SEVERAL).any()) or (others.flags & SEVERAL).any()):
            yield "packed"
        return
    if same_tokenizer:
        if not np.array_equal(rows.tokens[ours], others.tokens[theirs]):
            yield "scored-differently"
        elif not _same_bytes(rows.bytes[ours], others.bytes[theirs]):
            yield "scored-differently"  # as many tokens, and not the same ones
        return
    if bool((rows.bytes < 0).any() or (others.bytes < 0).any()):
        yield "bytes-unknown"
        return
    flags = (rows.flags[ours], others.flags[theirs])
    if not all(bool((side & READ).all()) for side in flags):
        yield "row-kind-unknown"
        return
    yield from _of_kinds(rows.bytes[ours], others.bytes[theirs], *flags)


def _same_bytes(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> bool:
    """Whether rows scored equally many bytes, wherever both sides know how many."""
    known = (ours >= 0) & (theirs >= 0)
    return np.array_equal(ours[known], theirs[known])


def _of_kinds(
    ours: NDArray[np.int64], theirs: NDArray[np.int64], flags: NDArray[np.uint8], others: NDArray[np.uint8]
) -> Iterator[str]:
    """What the rows' kinds say against a comparison across tokenizers."""
    if bool(((flags | others) & SEVERAL).any()):
        yield "packed"
    with_text = (ours > 0) | (theirs > 0)
    if not bool((flags & others & OPENS)[with_text].all()):
        yield "no-bos"
    elif not np.array_equal(ours, theirs):
        yield "scored-differently"
    if not np.array_equal(flags & SPECIAL_SCORED, others & SPECIAL_SCORED):
        yield "special-tokens-differ"
