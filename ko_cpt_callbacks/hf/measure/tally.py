"""What one rank has of an evaluation: forward passes until a prediction step claims one, and sums of the claimed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from threading import get_ident
from typing import Any, Final

import torch
from accelerate.state import GradientState
from torch import Tensor

from ko_cpt_callbacks.hf.measure.evidence import Absent, LossEvidence
from ko_cpt_callbacks.hf.measure.labels import (
    STARTS_UNKNOWN,
    document_starts,
    later_targets_seen,
    leave_out_after_padding,
    leave_out_starts,
    scores_starts,
    token_mask,
)
from ko_cpt_callbacks.hf.measure.measurement import IndistinctRowsError, Share, rows_kept
from ko_cpt_callbacks.hf.measure.model_output import ForwardOutput
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE
from ko_cpt_callbacks.hf.measure.row_reader import BatchRecord, RowReader
from ko_cpt_callbacks.metrics.row_sums import RowSums

__all__ = ["PendingPass", "Tally", "length_of"]

_TWO_RESULTS: Final = (
    "one prediction step made several forward passes over the same labels, with different results (a reference model?)"
)

_OTHER_TOKENS: Final = (
    "the labels are not the tokens of the model's input (shifted by the collator already, or masked as for a masked "
    "model?)"
)

_SEES_TARGETS: Final = "the attention mask lets tokens see later ones that are targets"

# How far the losses of one token may lie apart in two passes over it that are the same but for rounding (chosen, not
# measured: on one device two such passes are mostly equal bit for bit).
_SAME: Final = 1e-5


@dataclass(slots=True)
class PendingPass:
    """A forward pass that the current prediction step may claim."""

    kwargs: Mapping[str, Any]
    """Arguments of the call by name, ``labels`` among them."""
    evidence: LossEvidence | Absent
    finite: Tensor | None
    """0-dim bool: whether its own loss, or else its logits, are numbers."""
    loss: Tensor | None
    """What the model returned for its labels."""
    text_in_labels: bool = False
    """Whether the labels are a text of their own (sequence to sequence)."""
    taken: bool = False
    """Whether its labels were taken out of the call: such a pass counts where none had labels."""
    padding: Tensor | None = None
    """Pads among its labels, where they were counted."""
    adapter: Any = None
    """Which adapters were at work."""
    dataloader: Any = field(default_factory=lambda: GradientState().active_dataloader)
    """The data loader that was being iterated over."""
    differs: Tensor | None = None
    """0-dim bool: whether an earlier pass over the same labels came to something else."""
    thread: int = field(default_factory=get_ident)
    """Which thread made it: an evaluation may run beside a training."""

    @classmethod
    def of(
        cls, call: Mapping[str, Any], output: ForwardOutput, evidence: LossEvidence | Absent, **more: Any
    ) -> PendingPass:
        """A pass by its call, its output and what they say of its loss; ``more``: what else differs from the usual."""
        return cls(call, evidence, _finite(output, evidence), output.scalar_loss, **more)

    def same_labels(self, other: PendingPass) -> bool:
        """Whether both passes are over the very same labels, come by in the same way."""
        return self.taken == other.taken and self.kwargs.get("labels") is other.kwargs.get("labels")

    def differs_from(self, before: PendingPass) -> Tensor:
        """Whether an earlier pass over the same labels came to different losses, or one before it had.

        Passes under different adapters differ, also where the adapter is new and changes nothing yet.
        """
        if before.adapter != self.adapter:
            return torch.tensor(True)
        old, new = before.evidence, self.evidence
        differs = torch.tensor(isinstance(old, LossEvidence) or isinstance(new, LossEvidence))
        if isinstance(old, LossEvidence) and isinstance(new, LossEvidence) and old.kind == new.kind:
            first, second = (item.nll_sum if item.nll is None else item.nll for item in (old, new))
            if first is not None and second is not None and first.shape == second.shape:
                first = first.to(second.device)
                # Where both are no numbers nothing differs that matters: the batch is broken.
                differs = ((first - second).abs() > _SAME * (1 + second.abs())).any()
        return differs if before.differs is None else differs | before.differs.to(differs.device)


def _finite(output: ForwardOutput, evidence: LossEvidence | Absent) -> Tensor | None:
    """Whether a pass came to numbers, as far as its losses per token do not say; None where nothing tells."""
    if output.scalar_loss is not None:
        finite = output.scalar_loss.isfinite()
        if isinstance(evidence, LossEvidence) and evidence.labels is not None:
            # A batch without a target has a mean of 0/0: that is no broken batch.
            finite = finite | ~(evidence.labels != IGNORE).any().to(finite.device)
        return finite
    if isinstance(evidence, Absent) and output.logits is not None and output.logits.numel():
        # The extremes of anything with a NaN in it are NaN: no copy of the logits is made.
        low, high = torch.aminmax(output.logits)
        return low.isfinite() & high.isfinite()
    return None


@dataclass(slots=True)
class Tally(Share):
    """One rank's running sums of one evaluation."""

    dataloader: Any = None
    thread: int = 0
    steps: int = 0
    at_end: bool = False
    rows: list[RowSums] = field(default_factory=list)
    held: list[tuple[BatchRecord, int | None]] = field(default_factory=list)
    finite: list[Tensor] = field(default_factory=list)
    empty: list[Tensor] = field(default_factory=list)
    doubts: list[tuple[Tensor, str]] = field(default_factory=list)
    first_padding: Tensor | None = None

    def refuse(self, reason: str) -> None:
        """No exact loss, because of the first reason that is given."""
        self.reason = self.reason or reason

    def count(self, step: PendingPass, rank: int, processes: int) -> None:
        """A forward pass that a prediction step claimed; nothing waits for the device yet."""
        self.batches += 1
        self.first_padding = step.padding if self.first_padding is None else self.first_padding
        evidence, finite = step.evidence, step.finite
        # Before anything is refused: a broken batch is broken, whether or not there is an exact loss.
        if isinstance(evidence, LossEvidence):
            losses = evidence.nll_sum if evidence.nll is None else evidence.nll
            assert losses is not None and evidence.labels is not None
            numbers = losses.isfinite().all()
            finite = numbers if finite is None else numbers & finite.to(numbers.device)
            self.empty.append((evidence.labels == IGNORE).all())
        if finite is not None:
            self.finite.append(finite)
        if isinstance(evidence, Absent):
            self.refuse(evidence.reason)
            return
        if self.evidence not in (None, evidence.kind):
            self.refuse(f"the evidence changed from {self.evidence} to {evidence.kind} within one evaluation")
            return
        self.evidence, self.no_rows = evidence.kind, evidence.no_rows
        # A sequence-to-sequence model is evaluated on its labels; its input is another text.
        own = {} if step.text_in_labels else step.kwargs
        starts = document_starts(own)
        try:
            kept = rows_kept(
                lines=None if evidence.nll is None else evidence.nll.shape[0],
                starts=starts,
                rank=rank,
                processes=processes,
                loader=self.dataloader,
                step=self.steps,
            )
        except IndistinctRowsError as error:
            self.refuse(str(error))
        if self.reason is None:  # else nothing of this evaluation will be read
            self._hold(step, evidence, own, starts, kept)

    def _hold(
        self, step: PendingPass, evidence: LossEvidence, own: Mapping[str, Any], starts: Tensor | None, kept: int | None
    ) -> None:
        assert evidence.labels is not None
        shape = evidence.labels.shape
        mask = token_mask(own, shape)
        if evidence.nll is None:
            if scores_starts(step.kwargs, starts):
                self.refuse(STARTS_UNKNOWN)
            assert evidence.nll_sum is not None and evidence.token_count is not None
            self.nll += float(evidence.nll_sum)
            self.tokens += int(evidence.token_count)
            evidence = leave_out_after_padding(evidence, mask, step.kwargs)
            # Bytes, hashes and tokens need no losses.
            evidence = replace(evidence, nll=torch.zeros(shape))
        else:
            evidence = leave_out_starts(evidence, starts, step.loss, step.kwargs)
            evidence = leave_out_after_padding(evidence, mask, step.kwargs)
        if step.differs is not None:
            self.doubts.append((step.differs, _TWO_RESULTS))
        if evidence.mismatch is not None:
            self.doubts.append((evidence.mismatch, evidence.mismatch_reason))
        ids, labels = own.get("input_ids"), evidence.labels
        shifted = isinstance(step.kwargs.get("shift_labels"), Tensor)
        later = None
        if labels is not None and (evidence.causal or shifted):
            later = later_targets_seen(own, labels, shifted=shifted)
        if later is not None:
            self.doubts.append((later, _SEES_TARGETS))
        if evidence.causal and isinstance(ids, Tensor) and ids.shape == shape and labels is not None:
            other = (labels != IGNORE) & (labels != ids.to(labels.device))
            seen = other if mask is None else other & (mask != 0).to(other.device)
            self.doubts.append((seen.any(), _OTHER_TOKENS))
        record = BatchRecord(
            evidence=evidence,
            input_ids=ids if isinstance(ids, Tensor) and ids.shape == shape else None,
            attention_mask=mask,
            starts=None if starts is None or starts.shape != shape else starts,
            batch=self.steps,
        )
        self.held.append((record, kept))

    def read(self, reader: Callable[[], RowReader]) -> None:
        """Read what is held on the device."""
        held, self.held = self.held, []
        finite, self.finite = self.finite, []
        empty, self.empty = self.empty, []
        doubts, self.doubts = self.doubts, []
        self.nonfinite_batches += sum(not bool(item) for item in finite)
        self.targetless_batches += sum(map(bool, empty))
        for doubt, reason in doubts:
            if bool(doubt):
                self.refuse(reason)
        if self.reason is None:
            rows = reader()
            self.unit, self.bytes_absent = rows.unit, rows.bytes_absent
            self.rows.extend(rows.read(record, kept) for record, kept in held)

    def end(self, reader: Callable[[], RowReader], processes: int) -> None:
        """The evaluation is over: read the rest, and refuse what was not seen whole."""
        if self.first_padding is not None:
            self.padding = self.first_padding.tolist()
        self.read(reader)
        if self.steps == 0:
            self.refuse("no prediction step was seen")
        expected = length_of(self.dataloader)
        if expected is not None and self.steps != expected:
            self.refuse(f"{self.steps} of {expected} batches were seen")
        if processes > 1 and self.steps and not self.at_end:
            self.refuse("the end of the distributed data was not seen, so repeated rows cannot be left out")


def length_of(dataloader: Any) -> int | None:
    """Batches of a data loader; None where it does not tell."""
    try:
        return len(dataloader)
    except (TypeError, NotImplementedError):
        return None
