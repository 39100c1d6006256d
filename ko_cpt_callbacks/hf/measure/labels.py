"""Labels of an evaluation batch: where documents begin in packed lines, and labels that the model never saw.

Packed lines hold several documents each, and every collator has its own way to say where they part: a block-diagonal
mask, numbers of documents in place of ones in the attention mask (LLaMA-Factory's ``neat_packing``, Axolotl),
``seq_idx``, cumulative lengths, or positions that begin again. A document is a row of its own: its text is what
identifies it, however it was packed.

Label smoothing, ``compute_loss_func`` and many a ``compute_loss`` of the user's own call the model without labels.
The batch had them, and the Trainer's ``prediction_step`` still holds it while the model runs: its frame is above the
forward hook's. No method is wrapped and nothing is kept. Only a prediction step is asked, never a forward pass of
somebody else's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from ko_cpt_callbacks.hf.measure.evidence import LossEvidence
from ko_cpt_callbacks.hf.measure.model_output import Alignment
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE

__all__ = [
    "FOREIGN_LABELS", "STARTS_UNKNOWN", "TakenLabels", "document_starts", "find_labels", "later_targets_seen",
    "leave_out_after_padding", "leave_out_starts", "scores_starts", "token_mask",
]  # fmt: skip

# A model's own mean in float32 against ours: rounding stays below 1e-5; one document's first token in a batch of
# 10,000 moves it by about as much as this (chosen, not measured).
_SAME: Final = 1e-4

# Additive masks hold 0 where attention is allowed and the lowest number of the format, or -inf, where not.
_ALLOWED_ABOVE: Final = -1.0

# Formats of a mask that can hold the numbers of documents.
_NUMBERS: Final = (torch.int8, torch.int16, torch.int32, torch.int64)

STARTS_UNKNOWN: Final = (
    "rows are packed, or padded on the left, with their first tokens among the labels, and without logits it cannot be "
    "known whether the model's loss counts those"
)


def document_starts(kwargs: Mapping[str, Any]) -> Tensor | None:
    """Where documents begin in every line of a batch; (rows, length) of bool, or None where nothing says so.

    Padding may count as documents too: it has neither text nor targets.
    """
    ids = kwargs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.shape[1] == 0:
        return None
    mask = kwargs.get("attention_mask")
    if isinstance(mask, Tensor) and _is_square(mask, ids):
        # Anyone who cannot see the token before begins anew.
        before = _allowed(mask)[:, 0].diagonal(offset=-1, dim1=-2, dim2=-1)
        return _opened(~before)
    seq_idx = kwargs.get("seq_idx")
    if isinstance(seq_idx, Tensor) and seq_idx.shape == ids.shape:
        return _opened(seq_idx[:, 1:] != seq_idx[:, :-1])
    lengths = kwargs.get("cu_seq_lens_q", kwargs.get("cu_seqlens"))
    if isinstance(lengths, Tensor) and lengths.dim() == 1:
        return _from_lengths(lengths, ids)
    restarts = _restarts(kwargs.get("position_ids"), ids, masked=isinstance(mask, Tensor))
    if isinstance(mask, Tensor) and mask.shape == ids.shape and mask.dtype in _NUMBERS:
        # Numbers of documents grow along a line; a hole of zeros, or the padding behind, begins none.
        numbers = mask.cummax(1).values
        changes = numbers[:, 1:] != numbers[:, :-1]
        restarts = changes if restarts is None else changes | restarts
    return None if restarts is None else _opened(restarts)


def _restarts(positions: Any, ids: Tensor, *, masked: bool) -> Tensor | None:
    """Where positions begin again. A leap forward is a new document to a model without a mask, and to no other."""
    if not isinstance(positions, Tensor) or positions.shape != ids.shape:
        return None
    step = positions[:, 1:] - positions[:, :-1]
    return step < 1 if masked else step != 1


def token_mask(kwargs: Mapping[str, Any], shape: torch.Size) -> Tensor | None:
    """Nonzero where a line has a token, from a mask per token or per pair of tokens; None: everywhere.

    Args:
        kwargs: The forward call's keyword arguments.
        shape: Of the batch: (rows, length).
    """
    mask, ids = kwargs.get("attention_mask"), kwargs.get("input_ids")
    if not isinstance(mask, Tensor):
        return None
    if mask.shape == shape:
        return mask
    if isinstance(ids, Tensor) and ids.shape == shape and _is_square(mask, ids):
        pairs = _allowed(mask)[:, 0]
        tokens = pairs.diagonal(dim1=-2, dim2=-1)
        return tokens & ~_pads_in_front(pairs, ids, kwargs.get("labels"))
    return None


def _pads_in_front(pairs: Tensor, ids: Tensor, labels: Any) -> Tensor:
    """Pads on the left that see themselves: one token repeated, without a label, and no token behind sees it."""
    like = ids == ids[:, :1]
    if isinstance(labels, Tensor) and labels.shape == ids.shape:
        like = like & (labels == IGNORE).to(ids.device)
    unseen = ~pairs.diagonal(offset=-1, dim1=-2, dim2=-1)  # whether a place is the last before such a token
    ends = like.cumprod(1)[:, :-1] * unseen.to(ids.device)
    return F.pad(ends.flip(1).cumsum(1).flip(1) > 0, (0, 1), value=False).to(pairs.device)


def later_targets_seen(kwargs: Mapping[str, Any], labels: Tensor, *, shifted: bool) -> Tensor | None:
    """Whether a mask per pair of tokens lets a token see a target before it is predicted; 0-dim bool.

    A prefix that sees all of itself and is no target does no harm. Pads may see anything where no prediction sees them.

    Args:
        kwargs: The forward call's keyword arguments.
        labels: Of a causal model; (rows, length).
        shifted: Whether the label at i is the token at i + 1.

    Returns:
        None without such a mask.
    """
    mask, ids = kwargs.get("attention_mask"), kwargs.get("input_ids")
    if not isinstance(mask, Tensor) or not isinstance(ids, Tensor) or not _is_square(mask, ids):
        return None
    pairs = _allowed(mask)[:, 0]
    scored = (labels != IGNORE).to(pairs.device)
    targets = F.pad(scored[:, :-1], (1, 0), value=False) if shifted else scored
    predicts = F.pad(targets[:, 1:], (0, 1), value=False)
    used = predicts | (pairs & predicts[:, :, None]).any(1)
    last = pairs.shape[2] - 1 - pairs.flip(2).int().argmax(2)  # the last place that each sees
    before = targets.cumsum(1)
    return (used & pairs.any(2) & (before.gather(1, last) > before)).any()


def scores_starts(kwargs: Mapping[str, Any], starts: Tensor | None) -> bool:
    """Whether the labels score the first token of a document behind another one; waits for the device."""
    labels = kwargs.get("labels")
    if starts is None or not isinstance(labels, Tensor) or labels.shape != starts.shape:
        return False
    return bool((starts & (labels != IGNORE).to(starts.device))[:, 1:].any())


def leave_out_starts(
    evidence: LossEvidence, starts: Tensor | None, loss: Tensor | None, kwargs: Mapping[str, Any]
) -> LossEvidence:
    """The evidence without the first tokens of documents, where the model's own loss leaves them out too.

    Some models mask them although the labels do not: then the model's mean is that of the other tokens. Found by the
    value of its loss, on the device; where it is neither mean, the evidence stays as it is.
    """
    nll, labels = evidence.nll, evidence.labels
    if loss is None or starts is None or nll is None or labels is None or labels.shape != starts.shape:
        return evidence
    begins = starts.to(labels.device)
    if isinstance(kwargs.get("shift_labels"), Tensor):  # the label at i is the token at i + 1
        begins = F.pad(begins[:, 1:], (0, 1), value=False)
    scored = labels != IGNORE
    inner = begins & scored
    every, rest = nll.float().sum(), nll.float().masked_fill(inner.to(nll.device), 0.0).sum()
    own = loss.float().to(every.device)
    count, fewer = scored.sum().to(every.device), (scored & ~begins).sum().to(every.device)
    divisors = [(count, fewer)]
    given = kwargs.get("num_items_in_batch")
    if given is not None:
        number = torch.as_tensor(given, device=every.device)
        divisors.append((number, number))
    whole = torch.stack([_same(own, every / full) for full, _ in divisors]).any()
    left_out = torch.stack([_same(own, rest / less) for _, less in divisors]).any() & ~whole
    dropped = inner & left_out.to(labels.device)
    return replace(
        evidence,
        nll=nll.masked_fill(dropped.to(nll.device), 0.0),
        labels=labels.masked_fill(dropped, IGNORE),
        mismatch=None if evidence.mismatch is None else evidence.mismatch & ~left_out.to(evidence.mismatch.device),
    )


def leave_out_after_padding(evidence: LossEvidence, mask: Tensor | None, kwargs: Mapping[str, Any]) -> LossEvidence:
    """The evidence without the first tokens of rows that are padded on the left.

    A causal model's own loss scores such a token where a pad stands before it. It is predicted from nothing, and only
    where a longer row is in the batch: with it the loss of a text depends on which rows share a batch.
    """
    labels = evidence.labels
    shifted = isinstance(kwargs.get("shift_labels"), Tensor)  # the label at i is the token at i + 1
    if mask is None or labels is None or mask.shape != labels.shape or not (evidence.causal or shifted):
        return evidence
    tokens = mask.to(labels.device) != 0
    first = (tokens & (tokens.cumsum(1) == 1))[:, 1:]
    unfounded = F.pad(first, (0, 1) if shifted else (1, 0), value=False) & (labels != IGNORE)
    if evidence.nll is None:
        return replace(evidence, mismatch=unfounded.any(), mismatch_reason=STARTS_UNKNOWN)
    nll = evidence.nll.masked_fill(unfounded.to(evidence.nll.device), 0.0)
    return replace(evidence, nll=nll, labels=labels.masked_fill(unfounded, IGNORE))


def _same(own: Tensor, mean: Tensor) -> Tensor:
    return (own - mean).abs() <= _SAME * mean.abs()


def _opened(changes: Tensor) -> Tensor:
    """Every line begins with a document, whatever its first position is: nothing before a restart may be lost."""
    return F.pad(changes, (1, 0), value=True)


def _is_square(mask: Tensor, ids: Tensor) -> bool:
    rows, length = ids.shape
    return mask.dim() == 4 and mask.shape[0] == rows and mask.shape[2:] == (length, length)


def _allowed(mask: Tensor) -> Tensor:
    return mask > _ALLOWED_ABOVE if mask.dtype.is_floating_point else mask != 0


def _from_lengths(lengths: Tensor, ids: Tensor) -> Tensor | None:
    """Starts from cumulative lengths over all lines, one behind the other."""
    rows, length = ids.shape
    starts = torch.zeros(rows * length + 1, dtype=torch.bool, device=ids.device)
    # The end of the last document is the begin of the padding behind it, or of nothing.
    starts[lengths.to(ids.device, torch.int64).clamp(max=rows * length)] = True
    return _opened(starts[:-1].view(rows, length)[:, 1:])


FOREIGN_LABELS: Final = (
    "the model was called without labels, and the labels of the batch do not belong to the tokens of that call"
)

_STEP: Final = "prediction_step"

# A prediction step is a few dozen calls above its forward pass, wrappers of adapters, precision and distribution
# included; a stack deeper than this is not searched (chosen, not measured).
_FRAMES: Final = 200

# What tells that a forward pass was given this batch, the first that is in both: the decoder's tokens decide what
# the logits of an encoder-decoder belong to.
_INPUTS: Final = ("decoder_input_ids", "input_ids", "inputs_embeds")


@dataclass(frozen=True, slots=True)
class TakenLabels:
    """Labels that belong to a forward pass without any.

    Attributes:
        labels: (rows, length).
        other_inputs: 0-dim bool, true where the call had other inputs than the batch; None where they are the very
            same.
    """

    labels: Tensor
    other_inputs: Tensor | None

    def foreign(self, call: Mapping[str, Any], alignment: Alignment | None) -> Tensor | None:
        """Whether the labels are no labels of this call; 0-dim bool, or None where nothing speaks for it.

        A causal model's labels are its own tokens. Without a loss of the model's that tells how they were meant,
        others (a response beside its prompt, in rows that happen to be as long) are not believed.
        """
        ids, found = call.get("input_ids"), self.other_inputs
        if alignment == "causal" and isinstance(ids, Tensor) and ids.shape == self.labels.shape:
            wanted = ids.to(self.labels.device)
            other = ((self.labels != IGNORE) & (self.labels != wanted)).any()
            found = other if found is None else found | other.to(found.device)
        return found


def find_labels(call: Mapping[str, Any]) -> TakenLabels | None:
    """The labels of the batch that a running prediction step gave to a forward pass.

    Returns:
        None outside a prediction step, where its batch has no labels of shape (rows, length), and where the pass was
        plainly given something else: a generated token, half a batch.
    """
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_FRAMES):
        if frame is None:
            return None
        if frame.f_code.co_name == _STEP:
            found = _from_step(frame, call)
            if found is not None:
                return found
        frame = frame.f_back
    return None


def _from_step(frame: FrameType, call: Mapping[str, Any]) -> TakenLabels | None:
    known = frame.f_locals
    batch = known.get("inputs")
    if not isinstance(batch, Mapping):
        return None
    # `compute_loss` pops from this very mapping; the Trainer and its descendants put the labels aside before.
    labels = next((item for item in (batch.get("labels"), known.get("labels")) if _is_labels(item)), None)
    name = next((name for name in _INPUTS if isinstance(call.get(name), Tensor)), None)
    if labels is None or name is None:
        return None
    given, own = call[name], batch.get(name)
    if not isinstance(own, Tensor) or given.shape != own.shape:
        return None
    if given is own or (given.data_ptr() == own.data_ptr() and given.device == own.device):
        return TakenLabels(labels, None)
    return TakenLabels(labels, (given != own.to(given.device)).any())


def _is_labels(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 2 and not torch.is_floating_point(value)
