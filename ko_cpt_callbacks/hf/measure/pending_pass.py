"""One forward pass of an evaluation, between its end and the end of the prediction step that may claim it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any, Final

import torch
from torch import Tensor

from ko_cpt_callbacks.hf.measure.evidence import Absent, LossEvidence
from ko_cpt_callbacks.hf.measure.model_output import ForwardOutput
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE

__all__ = ["PendingPass", "finite_output"]

# How far the losses of one token may lie apart in two passes over it that are the same but for rounding (chosen, not
# measured: on one device two such passes are mostly equal bit for bit).
_SAME: Final = 1e-5


@dataclass(slots=True)
class PendingPass:
    """A forward pass that the current prediction step may claim."""

    evidence: LossEvidence | Absent
    finite: Tensor | None
    """0-dim bool: whether its own loss, or else its logits, are numbers."""
    loss: Tensor | None
    """What the model returned for its labels."""
    kwargs: Mapping[str, Any]
    text_in_labels: bool
    taken: bool
    """Whether its labels were taken out of the call."""
    dataloader: Any
    """The data loader that was being iterated over."""
    padding: Tensor | None
    adapter: Any = None
    """Which adapters were at work."""
    differs: Tensor | None = None
    """0-dim bool: whether an earlier pass over the same labels came to something else."""
    thread: int = field(default_factory=get_ident)
    """Which thread made it: an evaluation may run beside a training."""

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


def finite_output(output: ForwardOutput, evidence: LossEvidence | Absent) -> Tensor | None:
    """Whether a pass came to numbers, as far as its losses per token do not say; None where nothing tells."""
    if output.loss is not None and output.loss.dim() == 0:
        finite = output.loss.isfinite()
        if isinstance(evidence, LossEvidence) and evidence.labels is not None:
            # A batch without a target has a mean of 0/0: that is no broken batch.
            finite = finite | ~(evidence.labels != IGNORE).any().to(finite.device)
        return finite
    if isinstance(evidence, Absent) and output.logits is not None and output.logits.numel():
        # The extremes of anything with a NaN in it are NaN: no copy of the logits is made.
        low, high = torch.aminmax(output.logits)
        return low.isfinite() & high.isfinite()
    return None
