"""Exact sums of an evaluation through a forward hook.

Nothing here judges and nothing is gathered but sums: no logits leave the device they were made on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import get_ident
from typing import Any, Final

import torch
from accelerate.state import GradientState
from torch import Tensor

from ko_cpt_callbacks.errors import error_text
from ko_cpt_callbacks.hf.measure.evidence import Absent, LossEvidence
from ko_cpt_callbacks.hf.measure.labels import (
    STARTS_UNKNOWN,
    document_starts,
    leave_out_after_padding,
    leave_out_starts,
    scores_starts,
    token_mask,
)
from ko_cpt_callbacks.hf.measure.measurement import IndistinctRowsError, Measurement, merge, pack, rows_kept
from ko_cpt_callbacks.hf.measure.model_output import ForwardOutput
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE
from ko_cpt_callbacks.hf.measure.pending_pass import PendingPass, finite_output
from ko_cpt_callbacks.hf.measure.row_reader import BatchRecord, RowReader
from ko_cpt_callbacks.hf.ranks import Ranks
from ko_cpt_callbacks.metrics.row_sums import RowSums

# Batches kept on the device before their sums are read: reading waits for the device, so not at every batch.
_HELD_BATCHES: Final = 8

NO_PASS: Final = "no forward pass of the model was seen in a prediction step"
NO_LABELS: Final = "no labels of shape (rows, length) were seen, neither in the model's call nor in the batch"
_TWO_RESULTS: Final = (
    "one prediction step made several forward passes over the same labels, with different results (a reference model?)"
)


@dataclass(slots=True)
class _Tally:
    """One rank's running sums of one evaluation."""

    dataloader: Any = None
    thread: int = 0
    steps: int = 0
    batches: int = 0
    parts: list[RowSums] = field(default_factory=list)
    held: list[tuple[BatchRecord, int | None]] = field(default_factory=list)
    finite: list[Tensor] = field(default_factory=list)
    empty: list[Tensor] = field(default_factory=list)
    doubts: list[tuple[Tensor, str]] = field(default_factory=list)
    nll: float = 0.0
    tokens: int = 0
    nonfinite: int = 0
    targetless: int = 0
    evidence: str | None = None
    reason: str | None = None
    unit: str | None = None
    bytes_absent: str | None = None
    no_rows: str | None = None
    at_end: bool = False
    padding: Tensor | None = None

    def refuse(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason


class EvalMeter:
    """Sums of one evaluation at a time.

    A forward pass with labels is only *pending* until the Trainer ends its prediction step; so a forward pass
    outside an evaluation is never counted and a batch is never counted twice.

    Args:
        reader: Makes the row reader on first use (the byte table of a large vocabulary takes a moment).
        ranks: The processes whose parts are added up.
        on_error: Called with the exception of a batch that could not be counted; the evaluation then has no exact loss.
    """

    def __init__(
        self,
        reader: Callable[[], RowReader],
        ranks: Ranks,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self._reader = reader
        self._on_error = on_error
        self._ranks = ranks
        self._pending: list[PendingPass] = []
        self._passes = 0
        self._unlabelled_loss: Tensor | None = None
        self._tally = _Tally()
        self._never: str | None = None
        self._measured: Measurement | None = None

    @property
    def running(self) -> bool:
        """Whether prediction steps were seen since the last evaluation ended."""
        return self._tally.steps > 0

    @property
    def elsewhere(self) -> bool:
        """Whether another thread than this one is evaluating."""
        return self.running and self._tally.thread != get_ident()

    def observe(
        self,
        call: Mapping[str, Any],
        output: ForwardOutput,
        evidence: LossEvidence | Absent,
        *,
        own_labels: bool = False,
        taken: bool = False,
        padding: Tensor | None = None,
        adapter: Any = None,
    ) -> None:
        """A forward pass in evaluation mode whose labels are known.

        Args:
            call: Its arguments by name, ``labels`` among them.
            output: Its output.
            evidence: What it says of the loss.
            own_labels: Whether the labels are a text of their own (sequence to sequence).
            taken: Whether the labels were taken out of the call: such a pass counts where none had labels.
            padding: Pads among its labels, where they were counted.
            adapter: Which adapters were at work.
        """
        loader = GradientState().active_dataloader
        finite = finite_output(output, evidence)
        step = PendingPass(evidence, finite, output.loss, call, own_labels, taken, loader, padding, adapter)
        before = next((item for item in self._pending if step.same_labels(item)), None)
        if before is not None:
            if taken and isinstance(evidence, Absent):
                return  # a generated text begins with the batch's tokens too
            if not (taken and isinstance(before.evidence, Absent)):
                step.differs = step.differs_from(before)
        # Two passes with different labels say what a hundred say; a loop of the user's own must not fill the memory.
        others = [item for item in self._pending if not step.same_labels(item)]
        self._pending = [*others[-2:], step]

    @property
    def has_labelled_pass(self) -> bool:
        """Whether the current prediction step has a pass with labels in its call: it counts before any other."""
        active = GradientState().active_dataloader
        return any(not item.taken and item.dataloader is active for item in self._pending)

    def see_unlabelled(self, output: ForwardOutput) -> None:
        """A forward pass in evaluation mode without labels anywhere: at most it counts as a broken batch."""
        self._passes += 1
        if output.loss is not None and output.loss.dim() == 0:
            self._unlabelled_loss = output.loss.isfinite()

    def refuse(self, reason: str) -> None:
        """No exact loss for the evaluation that is running, or about to."""
        self._tally.refuse(reason)

    def refuse_all(self, reason: str) -> None:
        """No exact loss for any evaluation: the set-up rules it out."""
        self._never = reason

    @property
    def refused(self) -> str | None:
        """Why no evaluation has an exact loss; None where one may have."""
        return self._never

    def drop_pending(self) -> None:
        """Forget forward passes that no prediction step claimed, and an evaluation that was broken off."""
        self._clear()
        self._measured = None
        if self._tally.steps:
            self._tally = _Tally()

    def _clear(self) -> None:
        self._pending, self._passes, self._unlabelled_loss = [], 0, None

    def commit(self, dataloader: Any) -> None:
        """The Trainer ended a prediction step over ``dataloader``."""
        # A pass under another data loader, or under none, came before this evaluation: it is no one's.
        active = GradientState().active_dataloader
        here = get_ident()
        pending = [item for item in self._pending if item.dataloader is active and item.thread == here]
        passes, unlabelled_loss = self._passes, self._unlabelled_loss
        self._clear()
        if self._tally.dataloader is not dataloader and self._tally.steps:
            self._tally = _Tally()  # the evaluation before this one was broken off
        self._measured = None  # its row would have come by now
        tally = self._tally
        tally.dataloader = dataloader
        tally.thread = here
        tally.steps += 1
        tally.at_end = bool(GradientState().end_of_dataloader)
        pending = [item for item in pending if not item.taken] or pending
        try:
            if not pending:
                tally.refuse(NO_LABELS if passes else NO_PASS)
                if unlabelled_loss is not None:
                    tally.batches += 1
                    tally.finite.append(unlabelled_loss)
            elif any(not item.same_labels(pending[0]) for item in pending):
                tally.refuse("one prediction step made several forward passes with different labels")
            else:
                self._count(pending[-1], tally)
            if len(tally.held) + len(tally.finite) >= 2 * _HELD_BATCHES:
                self._reduce(tally)
        except Exception as error:  # the loss would lack this batch
            tally.refuse(f"the meter failed: {error_text(error)}")
            if self._on_error is not None:
                self._on_error(error)

    def _count(self, step: PendingPass, tally: _Tally) -> None:
        tally.batches += 1
        tally.padding = step.padding if tally.padding is None else tally.padding
        evidence = step.evidence
        # Before anything is refused: a broken batch is broken, whether or not there is an exact loss.
        finite = step.finite
        if isinstance(evidence, LossEvidence):
            losses = evidence.nll_sum if evidence.nll is None else evidence.nll
            assert losses is not None
            numbers = losses.isfinite().all()
            finite = numbers if finite is None else numbers & finite.to(numbers.device)
            if evidence.labels is not None:
                tally.empty.append((evidence.labels == IGNORE).all())
        if finite is not None:
            tally.finite.append(finite)
        if isinstance(evidence, Absent):
            tally.refuse(evidence.reason)
            return
        if tally.evidence not in (None, evidence.kind):
            tally.refuse(f"the evidence changed from {tally.evidence} to {evidence.kind} within one evaluation")
            return
        tally.evidence, tally.no_rows = evidence.kind, evidence.no_rows
        # A sequence-to-sequence model is evaluated on its labels; its input is another text.
        own = {} if step.text_in_labels else step.kwargs
        starts = document_starts(own)
        try:
            kept = self._rows_kept(evidence, starts, tally)
        except IndistinctRowsError as error:
            tally.refuse(str(error))
            return
        if tally.reason is not None:
            return  # nothing of this evaluation will be read
        assert evidence.labels is not None
        shape = evidence.labels.shape
        mask = token_mask(own, shape)
        if evidence.nll is None:
            if scores_starts(step.kwargs, starts):
                tally.refuse(STARTS_UNKNOWN)
            self._count_loss(evidence, tally)
            evidence = leave_out_after_padding(evidence, mask, step.kwargs)
            # Bytes, hashes and tokens need no losses.
            evidence = replace(evidence, nll=torch.zeros(shape))
        else:
            evidence = leave_out_starts(evidence, starts, step.loss, step.kwargs)
            evidence = leave_out_after_padding(evidence, mask, step.kwargs)
        if step.differs is not None:
            tally.doubts.append((step.differs, _TWO_RESULTS))
        if evidence.mismatch is not None:
            tally.doubts.append((evidence.mismatch, evidence.mismatch_reason))
        assert evidence.nll is not None
        ids = own.get("input_ids")
        record = BatchRecord(
            evidence=evidence,
            input_ids=ids if isinstance(ids, Tensor) and ids.shape == shape else None,
            attention_mask=mask,
            starts=None if starts is None or starts.shape != shape else starts,
            batch=tally.steps,
        )
        tally.held.append((record, kept))

    def _count_loss(self, evidence: LossEvidence, tally: _Tally) -> None:
        assert evidence.nll_sum is not None and evidence.token_count is not None
        tally.nll += float(evidence.nll_sum)
        tally.tokens += int(evidence.token_count)

    def _rows_kept(self, evidence: LossEvidence, starts: Tensor | None, tally: _Tally) -> int | None:
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
        finite, tally.finite = tally.finite, []
        empty, tally.empty = tally.empty, []
        doubts, tally.doubts = tally.doubts, []
        tally.nonfinite += sum(not bool(item) for item in finite)
        tally.targetless += sum(map(bool, empty))
        for doubt, reason in doubts:
            if bool(doubt):
                tally.refuse(reason)
        if tally.reason is not None:
            return
        reader = self._reader()
        tally.unit, tally.bytes_absent = reader.unit, reader.bytes_absent
        tally.parts.extend(reader.read(record, kept) for record, kept in held)

    def ends(self, dataloader: Any) -> bool:
        """Whether the prediction step that was just committed is the last over ``dataloader``; every rank alike."""
        state = GradientState()
        if dataloader is not None and state.active_dataloader is dataloader:
            return bool(state.end_of_dataloader)
        return self._tally.steps > 0 and self._tally.steps == _length(dataloader)

    def close(self) -> bytes:
        """This rank's part of the evaluation that ends, and begin anew; it never raises."""
        tally, self._tally = self._tally, _Tally()
        self._clear()
        tally.reason = self._never or tally.reason
        try:
            self._close(tally)
        except Exception as error:  # the others are waiting: say what happened instead of raising
            tally.refuse(f"the meter failed: {error_text(error)}")
        rows = RowSums.concatenate(tally.parts) if tally.reason is None else RowSums.empty()
        header = {
            "nll": tally.nll,
            "tokens": tally.tokens,
            "nonfinite": tally.nonfinite,
            "targetless": tally.targetless,
            "batches": tally.batches,
            "evidence": tally.evidence,
            "reason": tally.reason,
            "unit": tally.unit,
            "bytes_absent": tally.bytes_absent,
            "no_rows": tally.no_rows,
            "padding": None if tally.padding is None else tally.padding.tolist(),
        }
        if self._ranks.alone:
            header["reason"] = "the callback is not on every rank, so this rank's share is all it could measure"
            if not tally.nonfinite:
                header["batches"] = 0  # no bad batch here says nothing of the others
        return pack(header, rows)

    def keep(self, parts: Sequence[bytes]) -> None:
        """The parts of all ranks, until the evaluation's row is logged."""
        self._measured = merge(parts)

    @property
    def measured(self) -> bool:
        """Whether an evaluation ended and its row was not logged yet."""
        return self._measured is not None

    def finish(self) -> Measurement:
        """What the evaluation that ended came to; where its end was not seen, what this rank can say of it."""
        found, self._measured = self._measured, None
        if found is not None:
            return found
        if self._ranks.together:
            self._tally.refuse("the end of the evaluation was not seen, so the ranks could not add up")
        return merge([self.close()])

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
