"""Where documents begin in the lines of a packed batch, from whatever its collator says of them.

Packed lines hold several documents each, and every collator has its own way to say where they part: a block-diagonal
mask, numbers of documents in place of ones in the attention mask (LLaMA-Factory's ``neat_packing``, Axolotl),
``seq_idx``, cumulative lengths, or positions that begin again. A document is a row of its own: its text is what
identifies it, however it was packed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from ko_cpt_callbacks.hf.measure.evidence import Evidence
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE

__all__ = ["STARTS_UNKNOWN", "document_starts", "leave_out_starts", "scores_starts", "token_mask"]

# A model's own mean in float32 against ours: rounding stays below 1e-5; one document's first token in a batch of
# 10,000 moves it by about as much as this (chosen, not measured).
_SAME: Final = 1e-4

# Additive masks hold 0 where attention is allowed and the lowest number of the format, or -inf, where not.
_ALLOWED_ABOVE: Final = -1.0

# Formats of a mask that can hold the numbers of documents.
_NUMBERS: Final = (torch.int8, torch.int16, torch.int32, torch.int64)

STARTS_UNKNOWN: Final = (
    "documents are packed with their first tokens among the labels, and without logits it cannot be known whether the "
    "model's loss counts those"
)


def document_starts(kwargs: Mapping[str, Any]) -> Tensor | None:
    """Where documents begin in every line of a batch; (rows, length) of bool, or None where nothing says so.

    Padding may count as documents too: it has neither text nor targets.

    Args:
        kwargs: The forward call's keyword arguments.
    """
    ids = kwargs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.shape[1] == 0:
        return None
    mask = kwargs.get("attention_mask")
    if isinstance(mask, Tensor) and _is_square(mask, ids):
        # Whoever cannot see the token before begins anew.
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
        return _allowed(mask)[:, 0].diagonal(dim1=-2, dim2=-1)
    return None


def scores_starts(kwargs: Mapping[str, Any], starts: Tensor | None) -> bool:
    """Whether the labels score the first token of a document behind another one; waits for the device."""
    labels = kwargs.get("labels")
    if starts is None or not isinstance(labels, Tensor) or labels.shape != starts.shape:
        return False
    return bool((starts & (labels != IGNORE).to(starts.device))[:, 1:].any())


def leave_out_starts(
    evidence: Evidence, starts: Tensor | None, loss: Tensor | None, kwargs: Mapping[str, Any]
) -> Evidence:
    """The evidence without the first tokens of documents, where the model's own loss leaves them out too.

    Some models mask them although the labels do not: then the model's mean is that of the other tokens. Told by the
    value of its loss, on the device; where it is neither mean, the evidence stays as it is.

    Args:
        evidence: Of one batch.
        starts: Where documents begin; None: nobody says.
        loss: What the model returned; 0-dim.
        kwargs: The forward call's keyword arguments.
    """
    nll, labels = evidence.nll, evidence.labels
    if starts is None or nll is None or labels is None or labels.shape != starts.shape:
        return evidence
    if loss is None or loss.dim() != 0:
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
