"""What one evaluation came to: each rank's part as bytes, and all parts together; pad tokens among its labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any, Final

import torch
import torch.nn.functional as F
from accelerate.state import GradientState
from torch import Tensor
from torch.utils.data import BatchSampler

from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE
from ko_cpt_callbacks.hf.ranks import pack_parts, unpack_parts
from ko_cpt_callbacks.metrics.row_sums import RowSums

# Labels of one token in a row that hardly any text has at its end. Chosen, not measured.
_EQUAL_RUN: Final = 8


@dataclass(frozen=True, slots=True)
class PaddingCounts:
    """What a first batch showed, over all ranks.

    Attributes:
        masked_labels: Labelled positions whose attention mask is 0.
        pad_run_rows: Rows that begin or end with two or more labeled pad tokens. One alone may be the end of a
            text where the end-of-text token serves as pad.
        rows: Rows of the batch.
        tokens: Labelled positions.
        unlabelled: Positions of text without a label, the first of a text left out: nothing predicts it.
        ends: Pad tokens that stand behind a labeled token, are text, and have no label: where the end token serves
            as pad, a text's end that is not trained on.
        end_labels: Labels that are the pad token.
        equal_ends: Rows that begin or end with eight or more labels of one token, the same in all these rows.
        equal_tokens: Those labels.
    """

    masked_labels: int
    pad_run_rows: int
    rows: int
    tokens: int
    unlabelled: int = 0
    ends: int = 0
    end_labels: int = 0
    equal_ends: int = 0
    equal_tokens: int = 0

    @property
    def suspicious(self) -> bool:
        """Whether pads may be in the loss."""
        return self.masked_labels > 0 or self.pad_run_rows > 0 or self.equal_ends > 0


def count_padding(kwargs: Mapping[str, Any], pad_id: int | None) -> Tensor | None:
    """Counts of one batch, on its device, in the order of `PaddingCounts`.

    Returns:
        An int64 tensor of shape (9,); None where the batch has no labels of shape (rows, length).
    """
    labels = kwargs.get("labels")
    if not isinstance(labels, Tensor) or labels.dim() != 2 or labels.shape[1] < 2:
        return None
    ids, mask, places = (_like(kwargs.get(name), labels) for name in ("input_ids", "attention_mask", "position_ids"))
    labeled = labels != IGNORE
    none = torch.zeros_like(labeled)
    # The mask says what is text. Without token ids every position counts as text: silence is safe.
    unmasked = ~none if mask is None else mask != 0
    pads = none if ids is None or pad_id is None else ids == pad_id
    pad_labels = none if pad_id is None else labels == pad_id
    runs = (pad_labels[:, 0] & pad_labels[:, 1]) | (pad_labels[:, -1] & pad_labels[:, -2])
    text = unmasked & ~pads
    first = text & (text.cumsum(1) == 1)
    if places is not None:  # several texts in a row
        first = first | (places == 0)
    # A masked pad token, or one that another unmasked pad follows, may be a pad. Without a mask a pad token is text
    # where another token follows, as in a packed row.
    follows = F.pad((pads & unmasked)[:, 1:], (0, 1), value=mask is None)
    ends = pads & unmasked & ~follows & F.pad(labeled[:, :-1], (1, 0)) & ~labeled
    masked, unlabelled = labeled & ~unmasked, text & ~first & ~labeled
    counts = [one.sum() for one in (masked, runs, ~none[:, 0], labeled, unlabelled, ends, pad_labels)]
    return torch.stack([*counts, *_equal_ends(labels)])


def _like(value: Any, labels: Tensor) -> Tensor | None:
    return value.to(labels.device) if isinstance(value, Tensor) and value.shape == labels.shape else None


def _equal_ends(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Rows with a run of one token at an end, and the labels of these runs, by the token that most rows end with.

    Rows filled up with a token that neither a tokenizer nor a mask tells of look like that, and hardly any text does.
    """
    best = torch.zeros((2,), dtype=torch.int64, device=labels.device)
    for side in (labels.flip(1), labels):
        token = side[:, 0].mode().values
        runs = ((side == token) & (token != IGNORE)).cumprod(1).sum(1)
        runs = runs * (runs >= _EQUAL_RUN)
        best = torch.maximum(best, torch.stack([(runs > 0).sum(), runs.sum()]))
    return best[0], best[1]


def add_padding(parts: list[list[int] | None]) -> PaddingCounts | None:
    """The counts of all ranks together; None where no rank counted."""
    known = [part for part in parts if part is not None]
    return PaddingCounts(*(sum(column) for column in zip(*known, strict=True))) if known else None


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
        IndistinctRowsError: If there are repeats and they cannot be separated.
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
        targetless_batches: Those of them without a target token.
        evidence: The kind of evidence, None when there was none.
        reason: Why there is no exact loss; None when there is one.
        unit: What the rows' hashes were taken of, ``utf8`` (text) or ``ids``; None where ranks differ.
        bytes_absent: Why bytes are not counted on some rank; None when they are on all.
        padding: Pads among the labels of the first batch; None where it was not looked at.
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
    targetless_batches: int = 0


@dataclass(slots=True)
class Share:
    """One rank's share of an evaluation, beside its rows: as `Measurement` has them, over this rank alone."""

    nll: float = 0.0
    tokens: int = 0
    nonfinite_batches: int = 0
    batches: int = 0
    targetless_batches: int = 0
    evidence: str | None = None
    reason: str | None = None
    unit: str | None = None
    bytes_absent: str | None = None
    no_rows: str | None = None
    padding: list[int] | None = None


def pack(share: Share, rows: RowSums) -> bytes:
    """One rank's share and rows, for the others."""
    head = {item.name: getattr(share, item.name) for item in fields(Share)}
    return pack_parts({"share": json.dumps(head).encode(), "rows": rows.to_payload()})


def merge(payloads: Sequence[bytes]) -> Measurement:
    """All parts, in rank order; the same bytes give the same measurement on every rank."""
    parts = [unpack_parts(payload) for payload in payloads]
    shares = [Share(**json.loads(part["share"])) for part in parts]
    reason = next((share.reason for share in shares if share.reason), None)
    kinds = sorted({share.evidence for share in shares if share.evidence})
    if reason is None and len(kinds) > 1:
        reason = f"the ranks had different evidence: {' and '.join(kinds)}"
    evidence = kinds[0] if kinds else None
    sums = None if reason is not None else RowSums.concatenate([RowSums.from_payload(part["rows"]) for part in parts])
    whole = evidence != "loss"
    units = {share.unit for share in shares if share.unit}
    return Measurement(
        rows=sums if whole else None,
        nll=sum(share.nll for share in shares),
        tokens=sum(share.tokens for share in shares),
        nonfinite_batches=sum(share.nonfinite_batches for share in shares),
        batches=sum(share.batches for share in shares),
        evidence=evidence,
        reason=reason,
        unit=units.pop() if len(units) == 1 else None,
        bytes_absent=next((share.bytes_absent for share in shares if share.bytes_absent), None),
        padding=add_padding([share.padding for share in shares]),
        counts=None if whole else sums,
        no_rows=next((share.no_rows for share in shares if share.no_rows), None),
        targetless_batches=sum(share.targetless_batches for share in shares),
    )
