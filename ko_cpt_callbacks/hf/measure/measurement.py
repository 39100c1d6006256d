"""What one evaluation came to: each rank's part as bytes, and all parts together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from accelerate.state import GradientState
from torch import Tensor
from torch.utils.data import BatchSampler

from ko_cpt_callbacks.hf.measure.padding import PaddingCounts, add_padding
from ko_cpt_callbacks.metrics.row_sums import RowSums


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


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one evaluation came to, over all ranks.

    Attributes:
        rows: Sums of every row; None for ``loss`` evidence or when there is no exact loss.
        no_rows: For ``loss`` evidence: why there are no sums per row.
        counts: For ``loss`` evidence: tokens, bytes and hash of every row, losses 0; else None.
        nll: Summed negative log-likelihood (nats) for ``loss`` evidence.
        tokens: Target tokens for ``loss`` evidence.
        nonfinite_batches: Batches whose loss was NaN or infinite.
        batches: Batches seen, over all ranks.
        evidence: The kind of evidence, None when there was none.
        reason: Why there is no exact loss; None when there is one.
        unit: What the rows' hashes were taken of, ``utf8`` (text) or ``ids``; None where ranks differ.
        bytes_absent: Why bytes are not counted on some rank; None when they are on all.
        padding: Pads among the labels of the first batch; None where nobody looked.
    """

    rows: RowSums | None
    nll: float
    tokens: int
    nonfinite_batches: int
    batches: int
    evidence: str | None
    reason: str | None
    unit: str | None = None
    bytes_absent: str | None = None
    padding: PaddingCounts | None = None
    counts: RowSums | None = None
    no_rows: str | None = None


def pack(head: Mapping[str, Any], rows: RowSums) -> bytes:
    """One rank's part: its sums as JSON, its rows as arrays."""
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + rows.to_payload()


def merge(payloads: Sequence[bytes]) -> Measurement:
    """All parts, in rank order; the same bytes give the same measurement on every rank."""
    parts = [_unpack(payload) for payload in payloads]
    heads = [head for head, _ in parts]
    reason = next((head["reason"] for head in heads if head["reason"]), None)
    kinds = sorted({head["evidence"] for head in heads if head["evidence"]})
    if reason is None and len(kinds) > 1:
        reason = f"the ranks had different evidence: {' and '.join(kinds)}"
    evidence = kinds[0] if kinds else None
    sums = None if reason is not None else RowSums.concatenate([rows for _, rows in parts])
    whole = evidence != "loss"
    units = {head["unit"] for head in heads if head["unit"]}
    return Measurement(
        rows=sums if whole else None,
        nll=sum(head["nll"] for head in heads),
        tokens=sum(head["tokens"] for head in heads),
        nonfinite_batches=sum(head["nonfinite"] for head in heads),
        batches=sum(head["batches"] for head in heads),
        evidence=evidence,
        reason=reason,
        unit=units.pop() if len(units) == 1 else None,
        bytes_absent=next((head["bytes_absent"] for head in heads if head["bytes_absent"]), None),
        padding=add_padding([head["padding"] for head in heads]),
        counts=None if whole else sums,
        no_rows=next((head["no_rows"] for head in heads if head["no_rows"]), None),
    )


def _unpack(payload: bytes) -> tuple[dict[str, Any], RowSums]:
    size = int.from_bytes(payload[:8], "little")
    return json.loads(payload[8 : 8 + size]), RowSums.from_payload(payload[8 + size :])
