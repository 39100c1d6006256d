"""Two evaluations row by row: are they the same rows, scored the same way, and by how much do their losses differ.

Rows are matched by the hash of their text, in whatever order they were evaluated. With one tokenizer the loss per token
is compared. With two it is bits per byte, and only where every row is one whole document: each side then has scored
the same bytes, which equal hashes of the text and equal counts of scored bytes show row by row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

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
    one, other = _matched(rows, same_tokenizer), _matched(baseline_value_rows, same_tokenizer)
    unit = NATS if same_tokenizer else BITS
    reasons = tuple(_reasons(one, other, same_tokenizer))
    if reasons:
        return Paired(unit, reasons=reasons)
    scale, sizes = 1.0, (one.tokens, other.tokens)
    if not same_tokenizer:
        scale, sizes = 1.0 / math.log(2.0), (one.bytes, other.bytes)
    found = paired_difference(one.nll * scale, sizes[0], other.nll * scale, sizes[1])
    if not math.isfinite(found.value):
        return Paired(unit, reasons=("not-finite",))
    return Paired(unit, found.value, found.se, found.n)


def _matched(rows: RowSums, same_tokenizer: bool) -> RowSums:
    """In an order in which two evaluations of the same rows agree: by text, of equal texts by what was scored."""
    counts = rows.tokens if same_tokenizer else rows.bytes
    by = np.lexsort((rows.flags, rows.bytes, counts, *rows.hash.T))
    return RowSums(rows.nll[by], rows.tokens[by], rows.bytes[by], rows.hash[by], rows.order[by], rows.flags[by])


def _reasons(one: RowSums, other: RowSums, same_tokenizer: bool) -> Iterator[str]:
    packed = bool((one.flags & SEVERAL).any() or (other.flags & SEVERAL).any())
    if len(one) and len(other) and one.hash.shape[1] != other.hash.shape[1]:
        yield "text-unknown"  # one side is an older file: its hashes are others, whatever the text is
    elif not np.array_equal(one.hash, other.hash):
        yield "different-text"
        # Two tokenizers cut a stream of documents at different places.
        if packed and not same_tokenizer:
            yield "packed"
    elif same_tokenizer:
        known = (one.bytes >= 0) & (other.bytes >= 0)
        # Rows of as many tokens, but not as many bytes, have not the same ones.
        if not np.array_equal(one.tokens, other.tokens) or not np.array_equal(one.bytes[known], other.bytes[known]):
            yield "scored-differently"
    elif bool((one.bytes < 0).any() or (other.bytes < 0).any()):
        yield "bytes-unknown"
    elif not bool((one.flags & other.flags & READ).all()):
        yield "row-kind-unknown"
    else:
        if packed:
            yield "packed"
        with_text = (one.bytes > 0) | (other.bytes > 0)
        if not bool((one.flags & other.flags & OPENS)[with_text].all()):
            yield "no-bos"
        elif not np.array_equal(one.bytes, other.bytes):
            yield "scored-differently"
        if not np.array_equal(one.flags & SPECIAL_SCORED, other.flags & SPECIAL_SCORED):
            yield "special-tokens-differ"
