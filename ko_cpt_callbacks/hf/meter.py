"""Exact sums of an evaluation through a forward hook.

Nothing here judges and nothing is gathered but sums: no logits leave the device they were made on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from accelerate.state import GradientState
from torch import Tensor

from ko_cpt_callbacks.core.row_sums import RowSums
from ko_cpt_callbacks.hf.document_start import (
    STARTS_UNKNOWN,
    document_starts,
    leave_out_starts,
    scores_starts,
    token_mask,
)
from ko_cpt_callbacks.hf.evidence import IGNORE, Absent, Alignment, Evidence, Output, read_evidence
from ko_cpt_callbacks.hf.loss_window import TokenLosses
from ko_cpt_callbacks.hf.measurement import Measurement, merge, pack
from ko_cpt_callbacks.hf.rank import Ranks
from ko_cpt_callbacks.hf.repeated_rows import IndistinctRowsError, rows_kept
from ko_cpt_callbacks.hf.row_reader import BatchRecord, RowReader

# Batches kept on the device before their sums are read: reading waits for the device, so not at every batch.
_HELD_BATCHES: Final = 8

NO_LABELS: Final = (
    "no forward pass with labels was seen (label smoothing and compute_loss_func take the labels out of the call)"
)


@dataclass(slots=True)
class _Tally:
    """One rank's running sums of one evaluation."""

    dataloader: Any = None
    steps: int = 0
    batches: int = 0
    parts: list[RowSums] = field(default_factory=list)
    held: list[tuple[BatchRecord, Tensor, int | None]] = field(default_factory=list)
    nll: float = 0.0
    tokens: int = 0
    nonfinite: int = 0
    evidence: str | None = None
    reason: str | None = None
    unit: str | None = None
    bytes_absent: str | None = None
    at_end: bool = False
    padding: Tensor | None = None

    def refuse(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason


@dataclass(slots=True)
class _Pending:
    """A forward pass that the current prediction step may claim."""

    evidence: Evidence | Absent
    loss: Tensor | None
    kwargs: Mapping[str, Any]
    text_in_labels: bool
    dataloader: Any
    """The data loader that was being iterated over."""
    padding: Tensor | None


class EvalMeter:
    """Sums of one evaluation at a time.

    A forward pass with labels is only *pending* until the Trainer ends its prediction step; so a forward pass
    outside an evaluation is never counted and a batch is never counted twice.

    Args:
        reader: Makes the row reader on first use (the byte table of a large vocabulary takes a moment).
    """

    def __init__(self, reader: Callable[[], RowReader], ranks: Ranks) -> None:
        self._reader = reader
        self._ranks = ranks
        self._pending: list[_Pending] = []
        self._tally = _Tally()
        self._never: str | None = None

    @property
    def running(self) -> bool:
        """Whether prediction steps were seen since the last evaluation ended."""
        return self._tally.steps > 0

    def observe(
        self,
        kwargs: Mapping[str, Any],
        output: Output,
        watched: list[TokenLosses],
        alignment: Alignment | None,
        virtual_tokens: int,
        padding: Tensor | None = None,
    ) -> None:
        """A forward pass with labels, in evaluation mode."""
        evidence = read_evidence(kwargs, output, watched, alignment, virtual_tokens=virtual_tokens)
        loader = GradientState().active_dataloader
        own_labels = alignment == "seq2seq"
        step = _Pending(evidence, output.loss, kwargs, own_labels, loader, padding)
        # Two passes with different labels say what a hundred say; a loop of the user's own must not fill the memory.
        others = [item for item in self._pending if _labels(item) is not _labels(step)]
        self._pending = [*others[-1:], step]

    def refuse(self, reason: str) -> None:
        """No exact loss for the evaluation that is running, or about to."""
        self._tally.refuse(reason)

    def refuse_all(self, reason: str) -> None:
        """No exact loss for any evaluation: the set-up rules it out."""
        self._never = reason

    def drop_pending(self) -> None:
        """Forget forward passes that no prediction step claimed, and an evaluation that was broken off."""
        self._pending.clear()
        if self._tally.steps:
            self._tally = _Tally()

    def commit(self, dataloader: Any) -> None:
        """The Trainer ended a prediction step over ``dataloader``."""
        # A pass under another data loader, or under none, came before this evaluation: it is nobody's.
        active = GradientState().active_dataloader
        pending, self._pending = [item for item in self._pending if item.dataloader is active], []
        if self._tally.dataloader is not dataloader and self._tally.steps:
            self._tally = _Tally()  # the evaluation before this one was broken off
        tally = self._tally
        tally.dataloader = dataloader
        tally.steps += 1
        tally.at_end = bool(GradientState().end_of_dataloader)
        if not pending:
            tally.refuse(NO_LABELS)
            return
        if len(pending) > 1 and any(_labels(item) is not _labels(pending[0]) for item in pending):
            tally.refuse("one prediction step made several forward passes with different labels")
            return
        try:
            self._count(pending[-1], tally)
        except Exception as error:  # the loss would lack this batch
            tally.refuse(f"the meter failed: {type(error).__name__}: {error}")
            raise

    def _count(self, step: _Pending, tally: _Tally) -> None:
        tally.batches += 1
        tally.padding = step.padding if tally.padding is None else tally.padding
        evidence = step.evidence
        if isinstance(evidence, Absent):
            tally.refuse(evidence.reason)
            return
        if tally.evidence not in (None, evidence.kind):
            tally.refuse(f"the evidence changed from {tally.evidence} to {evidence.kind} within one evaluation")
            return
        tally.evidence = evidence.kind
        # A sequence-to-sequence model is evaluated on its labels; its input is another text.
        own = {} if step.text_in_labels else step.kwargs
        starts = document_starts(own)
        try:
            kept = self._rows_kept(evidence, starts, tally)
        except IndistinctRowsError as error:
            tally.refuse(str(error))
            return
        if evidence.nll is None:
            if scores_starts(step.kwargs, starts):
                tally.refuse(STARTS_UNKNOWN)
            self._count_loss(evidence, tally)
            return
        evidence = leave_out_starts(evidence, starts, step.loss, step.kwargs)
        assert evidence.nll is not None
        ids = own.get("input_ids")
        shape = evidence.nll.shape
        record = BatchRecord(
            evidence=evidence,
            input_ids=ids if isinstance(ids, Tensor) and ids.shape == shape else None,
            attention_mask=token_mask(own, shape),
            starts=None if starts is None or starts.shape != shape else starts,
            batch=tally.steps,
        )
        finite = evidence.nll.isfinite().all()
        if step.loss is not None and step.loss.dim() == 0:
            # A batch without a target has a mean of 0/0: that is no broken batch.
            has_target = (evidence.labels != IGNORE).any() if evidence.labels is not None else finite
            finite = finite & (step.loss.isfinite() | ~has_target.to(step.loss.device)).to(finite.device)
        tally.held.append((record, finite, kept))
        if len(tally.held) >= _HELD_BATCHES:
            self._reduce(tally)

    def _count_loss(self, evidence: Evidence, tally: _Tally) -> None:
        assert evidence.nll_sum is not None and evidence.token_count is not None
        total = float(evidence.nll_sum)
        tally.nonfinite += 0 if torch.isfinite(evidence.nll_sum) else 1
        tally.nll += total
        tally.tokens += int(evidence.token_count)

    def _rows_kept(self, evidence: Evidence, starts: Tensor | None, tally: _Tally) -> int | None:
        return rows_kept(
            lines=None if evidence.nll is None else evidence.nll.shape[0],
            starts=starts,
            rank=self._ranks.index,
            processes=self._ranks.size,
            loader=tally.dataloader,
            step=tally.steps,
        )

    def _reduce(self, tally: _Tally) -> None:
        held, tally.held = tally.held, []
        reader = self._reader()
        tally.unit, tally.bytes_absent = reader.unit, reader.bytes_absent
        for record, finite, kept in held:
            mismatch = record.evidence.mismatch
            if mismatch is not None and bool(mismatch):
                tally.refuse("the model's own loss was computed against other targets than its labels")
            tally.nonfinite += 0 if bool(finite) else 1
            tally.parts.append(reader.read(record, kept))

    def finish(self) -> Measurement:
        """Close the evaluation: reduce over the ranks and begin anew. Every rank must call it."""
        tally, self._tally = self._tally, _Tally()
        self._pending.clear()
        tally.reason = self._never or tally.reason
        try:
            self._close(tally)
        except Exception as error:  # the others are waiting: say what happened instead of raising
            tally.refuse(f"the meter failed: {type(error).__name__}: {error}")
        rows = RowSums.concatenate(tally.parts) if tally.reason is None else RowSums.empty()
        header = {
            "nll": tally.nll,
            "tokens": tally.tokens,
            "nonfinite": tally.nonfinite,
            "batches": tally.batches,
            "evidence": tally.evidence,
            "reason": tally.reason,
            "unit": tally.unit,
            "bytes_absent": tally.bytes_absent,
            "padding": None if tally.padding is None else tally.padding.tolist(),
        }
        if self._ranks.alone:
            header["reason"] = "the callback is not on every rank, so this rank's share is all it could measure"
            if not tally.nonfinite:
                header["batches"] = 0  # no bad batch here says nothing of the others
        return merge(self._ranks.gather(pack(header, rows)))

    def _close(self, tally: _Tally) -> None:
        self._reduce(tally)
        if tally.steps == 0:
            tally.refuse("no prediction step was seen")
        expected = _length(tally.dataloader)
        if expected is not None and tally.steps != expected:
            tally.refuse(f"{tally.steps} of {expected} batches were seen")
        if self._ranks.size > 1 and tally.steps and not tally.at_end:
            tally.refuse("the end of the distributed data was not seen, so repeated rows cannot be left out")


def _length(dataloader: Any) -> int | None:
    try:
        return len(dataloader)
    except (TypeError, NotImplementedError):
        return None


def _labels(step: _Pending) -> Any:
    return step.kwargs.get("labels")
