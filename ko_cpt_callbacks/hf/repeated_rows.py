"""Which rows of the last distributed batch are real, and which only fill it up.

accelerate completes the last batch over all ranks with rows from the start of the data set and says how many rows
of it are real. A padding-free batch hides its rows: then they must be one document each, or be found again in the
packed data set.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from accelerate.state import GradientState
from torch import Tensor


class IndistinctRowsError(Exception):
    """Repeated rows that cannot be left out; the text says why."""


def rows_kept(
    *, lines: int | None, starts: Tensor | None, rank: int, processes: int, loader: Any, step: int
) -> int | None:
    """How many of a batch's first rows (of a padding-free batch: documents) are no repeats.

    Args:
        lines: Lines of the batch on this rank; None when only its loss is known.
        starts: True where a document begins in a padding-free batch; (length,), or None for ordinary rows.
        rank: Index of this process.
        processes: Number of processes.
        loader: The data loader of the evaluation.
        step: Number of the batch in this evaluation on this rank, from 1.

    Returns:
        None for all.

    Raises:
        IndistinctRowsError: If there are repeats and they cannot be told apart.
    """
    state = GradientState()
    if processes == 1 or not state.end_of_dataloader:
        return None
    real = int(state.remainder)
    if real == 0 or (real < 0 and getattr(getattr(loader, "batch_sampler", None), "drop_last", False)):
        return None
    if real < 0:
        raise IndistinctRowsError(
            "the evaluation data set has no length, so rows repeated to fill the last distributed batch cannot be "
            "told apart"
        )
    if lines is None:
        raise IndistinctRowsError(
            "the last distributed batch holds repeated rows, and a loss per batch cannot leave them out"
        )
    if starts is None:
        return min(lines, max(0, real - rank * lines))
    rows = int(getattr(loader, "total_batch_size", 0)) // processes
    first = ((step - 1) * processes + rank) * rows
    return sum(_documents(loader, starts, first, rows)[: max(0, real - rank * rows)])


def _documents(loader: Any, starts: Tensor, first: int, rows: int) -> list[int]:
    """Documents in each row of a padding-free batch that begins with row ``first`` of the data set."""
    begins = [int(at) for at in starts.nonzero()]
    seen = [end - begin for begin, end in zip(begins, [*begins[1:], len(starts)], strict=True)]
    dataset: Any = getattr(loader, "dataset", None)
    try:
        packed = [list(dataset[index % len(dataset)]["seq_lengths"]) for index in range(first, first + rows)]
    except (TypeError, KeyError, IndexError):
        if len(seen) == rows:  # no row without a document: one each
            return [1] * rows
        packed = []
    # What was evaluated decides: another order or another collator gives other lengths.
    if list(chain.from_iterable(packed)) != seen:
        raise IndistinctRowsError(
            "the last distributed batch holds repeated rows that cannot be told apart in a padding-free batch of "
            "packed rows"
        )
    return [len(lengths) for lengths in packed]
