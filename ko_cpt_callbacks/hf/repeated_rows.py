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
from torch.utils.data import BatchSampler


class IndistinctRowsError(Exception):
    """Repeated rows that cannot be left out; the text says why."""


def rows_kept(
    *, lines: int | None, starts: Tensor | None, rank: int, processes: int, loader: Any, step: int
) -> int | None:
    """How many of a batch's first lines are no repeats; where one line holds several rows, how many documents.

    Args:
        lines: Lines of the batch on this rank; None when only its loss is known.
        starts: Where documents begin in packed lines; (lines, length), or None for ordinary rows.
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
    sampler = getattr(loader, "batch_sampler", None)
    if getattr(sampler, "even_batches", True) is False or _whole_batches(sampler, processes):
        return None
    real = int(state.remainder)
    if real == 0 or (real < 0 and getattr(sampler, "drop_last", False)):
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
    # A loader that hands batches out from the first rank says no batch size; its lines are rows.
    rows = int(getattr(loader, "total_batch_size", 0)) // processes or lines
    if lines == rows:
        kept = min(lines, max(0, real - rank * lines))
        if starts is None or lines > 1:
            return kept
        return None if kept else 0
    if starts is None or lines != 1:
        raise IndistinctRowsError(
            f"the last distributed batch holds repeated rows, and its {rows} rows came as {lines} lines"
        )
    first = ((step - 1) * processes + rank) * rows
    return sum(_documents(loader, starts[0], first, rows)[: max(0, real - rank * rows)])


def _whole_batches(sampler: Any, processes: int) -> bool:
    """Whether batches come as a batch sampler of the user's own made them, with none repeated.

    Raises:
        IndistinctRowsError: If such batches were filled up or repeated: accelerate counts on equal batches there.
    """
    inner = getattr(sampler, "batch_sampler", None)
    if inner is None or type(inner).__iter__ is BatchSampler.__iter__:
        return False
    if getattr(inner, "batch_size", None) is None and len(inner) % processes == 0:
        return True
    raise IndistinctRowsError(
        f"the evaluation's batches come from {type(inner).__name__}, so rows repeated to fill the last distributed "
        "batch cannot be told apart"
    )


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
