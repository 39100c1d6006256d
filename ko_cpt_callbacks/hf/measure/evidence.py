"""What one forward pass says about the loss of its batch.

Four kinds of evidence, the best first:

``log_probs``
    Per-token log-probabilities in the output (TRL's fused LM head).
``logits``
    Logits in the output, and labels in the call or in the batch it came from; per-token losses come from the
    model's own loss computation where it can be watched (:mod:`.loss_window`), else from the logits in bounded chunks.
``hidden_states``
    No logits in the output: the last hidden states times the head, in bounded chunks (:mod:`.head_scores`).
``loss``
    Only the loss and the number of tokens behind it, checked first (:mod:`.calibration`): no per-row sums, hence no
    error bar.

Anything else is an :class:`Absent` with the reason in plain words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ko_cpt_callbacks.hf.measure.calibration import Calibration, LossReading
from ko_cpt_callbacks.hf.measure.head_scores import HeadScores, HiddenStates
from ko_cpt_callbacks.hf.measure.model_output import Alignment, ForwardOutput, loss_rounding, plain_tensor
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE, TokenLosses, watched_nll

__all__ = ["READS_AHEAD", "SEES_LATER", "Absent", "LossEvidence", "read_evidence"]

# Largest piece of the logits that is reduced at once. 16 MiB of float32: a small part of any logits tensor that
# is worth cutting up (chosen, not measured).
_CHUNK_BYTES: Final = 16 * 2**20

_UNKNOWN_ALIGNMENT: Final = (
    "it is not known whether this model's loss shifts the labels (its class is neither a causal, a masked nor a "
    "sequence-to-sequence model of transformers), and its own loss could not be watched"
)

SEES_LATER: Final = (
    "this model attends to the tokens after each position, so it sees what it has to predict; a decoder's "
    "configuration has is_decoder=True, or no is_causal=False"
)
READS_AHEAD: Final = "this model's logits change with the tokens after them, so it sees what it has to predict"

OTHER_TARGETS: Final = (
    "the model's own loss was computed against other targets than its labels, or from other logits than its output's"
)
_OTHER_LOSS: Final = (
    "the output has no logits, and the model's loss is not the cross-entropy of its hidden states times its head"
)

EvidenceKind = Literal["log_probs", "logits", "hidden_states", "loss"]


@dataclass(frozen=True, slots=True)
class LossEvidence:
    """The loss of one batch, still on the device.

    Attributes:
        kind: Which evidence this is.
        nll: Negative log-likelihood of the label at each position of the row, 0 where nothing is scored;
            (rows, length), or None for ``loss``.
        labels: Those labels, ``-100`` where nothing is scored (a causal model's first one included); (rows, length).
        causal: Whether each is predicted at the position before its own.
        nll_sum: For ``loss``: the batch's summed negative log-likelihood (0-dim); else None.
        token_count: For ``loss``: the target tokens behind it (0-dim); else None.
        no_rows: For ``loss``: why there are no losses per token.
        mismatch: 0-dim bool, true where the numbers are not this batch's exact loss after all; read at the end of
            the evaluation, so that no batch waits for the device.
        mismatch_reason: Why not, in that case.
    """

    kind: EvidenceKind
    nll: Tensor | None = None
    labels: Tensor | None = None
    causal: bool = False
    nll_sum: Tensor | None = None
    token_count: Tensor | None = None
    no_rows: str | None = None
    mismatch: Tensor | None = None
    mismatch_reason: str = OTHER_TARGETS


@dataclass(frozen=True, slots=True)
class Absent:
    """Why a batch gives no exact loss."""

    reason: str


def read_evidence(
    kwargs: Mapping[str, Any],
    output: ForwardOutput,
    watched: Sequence[TokenLosses],
    alignment: Alignment | None,
    *,
    virtual_tokens: int = 0,
    calibration: Calibration | None = None,
    hidden: HiddenStates | None = None,
) -> LossEvidence | Absent:
    """The best evidence in one forward pass whose labels are known.

    Args:
        kwargs: Keyword arguments of the call; ``labels`` (or pre-shifted ``shift_labels``) of shape (rows, length).
        output: The call's output.
        watched: What the loss window saw.
        alignment: How logits and labels belong together; None when the model's class does not say.
        virtual_tokens: Positions a prompt-learning adapter puts before the row.
        calibration: What is asked where the output has no logits; None: its loss is the mean over its targets.
        hidden: The pass's hidden states, for ``calibration``.
    """
    shifted = plain_tensor(kwargs.get("shift_labels"))
    labels = _within_documents(plain_tensor(kwargs.get("labels")), kwargs) if shifted is None else shifted
    if labels is None or labels.dim() != 2:
        return Absent("the labels are not a two-dimensional tensor")
    causal = alignment == "causal" and shifted is None
    if output.log_probs is not None:
        return _from_log_probs(output.log_probs, output.label_mask, labels, pre_shifted=shifted is not None)
    logits = output.logits if output.logits is not None and output.logits.dim() == 3 else None
    extra = virtual_tokens if causal else 0
    if logits is not None:
        extra = logits.shape[1] - labels.shape[1]
        if extra != 0 and not (extra == virtual_tokens and causal):
            return Absent(_unmatched("logits", logits, labels))
    if alignment is None:
        return Absent(_UNKNOWN_ALIGNMENT) if logits is None else _from_unknown(labels, watched)
    targets = _targets(labels, extra, causal=causal)
    seen = watched_nll(watched, targets, logits)
    if seen is not None and logits is None and output.scalar_loss is not None:
        # Without logits to compare with, one loss of several terms may be of an earlier layer.
        seen = None if bool(_disagrees(kwargs, output, _masked(seen[0], targets).sum(), targets)) else seen
    if seen is not None:
        return _by_label("logits", *seen, labels, extra, causal=causal)
    if logits is None:
        return _from_no_logits(kwargs, output, labels, virtual_tokens, calibration, hidden, causal=causal)
    whole = logits
    found = _by_label("logits", *_chunked_nll(whole, targets), labels, extra, causal=causal)
    if not causal or extra:
        return found
    return _unless_as_given(kwargs, output, found, labels, lambda: _chunked_nll(whole, labels)[0])


def _within_documents(labels: Tensor | None, kwargs: Mapping[str, Any]) -> Tensor | None:
    """Labels without the first token of each further document of packed rows, which Unsloth leaves out of its loss.

    Its collators hand the documents' lengths over all rows to the model; no one else has an argument of that name.
    """
    lengths = plain_tensor(kwargs.get("packed_seq_lengths"))
    if labels is None or lengths is None or not lengths.numel():
        return labels
    starts = lengths.flatten().to(labels.device).cumsum(0)
    starts = torch.where(starts < labels.numel(), starts, torch.zeros_like(starts))  # the first is no target either way
    return labels.reshape(-1).index_fill(0, starts, IGNORE).view(labels.shape)


def _from_no_logits(
    kwargs: Mapping[str, Any],
    output: ForwardOutput,
    labels: Tensor,
    virtual_tokens: int,
    calibration: Calibration | None,
    hidden: HiddenStates | None,
    *,
    causal: bool,
) -> LossEvidence | Absent:
    scores: HeadScores | str = "" if calibration is None else calibration.scores(kwargs, hidden)
    if not isinstance(scores, str) and (scores.verified or output.scalar_loss is not None):
        known = scores
        extra = known.length - labels.shape[1]
        if extra != 0 and not (extra == virtual_tokens and causal):
            return Absent(f"the hidden states have {known.length} positions and the labels {labels.shape[1]}")
        nll = known.nll(_targets(labels, extra, causal=causal))
        found = _by_label("hidden_states", nll, None, labels, extra, causal=causal)
        if not known.verified:
            assert found.nll is not None and found.labels is not None
            other = _disagrees(kwargs, output, found.nll.sum(), found.labels)
            return replace(found, mismatch=other, mismatch_reason=_OTHER_LOSS)
        if not causal or extra:
            return found
        return _unless_as_given(kwargs, output, found, labels, lambda: known.nll(labels))
    why = scores if isinstance(scores, str) else ""
    if output.scalar_loss is None:
        return Absent(why or "the model returned no loss, no logits and no log-probabilities")
    reading: LossReading | str = LossReading() if calibration is None else calibration.loss_reading(kwargs)
    if isinstance(reading, str):
        return Absent(reading)
    found = _from_loss(kwargs, output, labels, reading, causal=causal)
    return replace(found, no_rows=why or "the output has no logits")


def _shift(labels: Tensor) -> Tensor:
    """Labels moved one to the left, so that position i holds what the logits at i predict."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORE)


def _targets(labels: Tensor, extra: int, *, causal: bool) -> Tensor:
    """What the logits at every position predict, ``extra`` virtual tokens in front."""
    return _shift(F.pad(labels, (extra, 0), value=IGNORE)) if causal else labels


def _by_position(nll: Tensor, labels: Tensor, virtual_tokens: int) -> tuple[Tensor, Tensor]:
    """Losses of shifted targets put back under the token they belong to.

    Column ``virtual_tokens + i`` of ``nll`` predicts label ``i + 1``; with virtual tokens in front, label 0 is
    predicted too, without them it never is.
    """
    length = labels.shape[1]
    if virtual_tokens:
        return nll[:, virtual_tokens - 1 : virtual_tokens - 1 + length], labels
    first = labels.new_full((labels.shape[0], 1), IGNORE)
    return F.pad(nll[:, : length - 1], (1, 0)), torch.cat([first, labels[:, 1:]], dim=1)


def _masked(nll: Tensor, labels: Tensor) -> Tensor:
    return nll.masked_fill(labels.to(nll.device) == IGNORE, 0.0)


def _by_label(
    kind: EvidenceKind, nll: Tensor, mismatch: Tensor | None, labels: Tensor, virtual_tokens: int, *, causal: bool
) -> LossEvidence:
    """Evidence from losses of shifted targets where the model is causal, else of the labels themselves."""
    if causal:
        nll, labels = _by_position(nll, labels, virtual_tokens)
    return LossEvidence(kind, nll=_masked(nll, labels), labels=labels, causal=causal, mismatch=mismatch)


def _unmatched(what: str, tensor: Tensor, labels: Tensor) -> str:
    return f"the {what} have {tensor.shape[1]} positions and the labels {labels.shape[1]}: they cannot be matched"


def _from_log_probs(
    log_probs: Tensor, mask: Tensor | None, labels: Tensor, *, pre_shifted: bool
) -> LossEvidence | Absent:
    length = labels.shape[1]
    if log_probs.dim() != 2 or log_probs.shape[1] < length - 1 or (pre_shifted and log_probs.shape[1] != length):
        return Absent(_unmatched("log-probabilities", log_probs, labels))
    mismatch, scored = None, labels if pre_shifted else labels[:, 1:]
    if mask is not None and mask.shape == log_probs.shape == scored.shape:
        mismatch = (mask != (scored != IGNORE).to(mask.device)).any()
    # One entry fewer than positions; a prompt-learning adapter's virtual tokens add theirs in front.
    extra = log_probs.shape[1] - (length - 1)
    return _by_label("log_probs", -log_probs.float(), mismatch, labels, extra, causal=not pre_shifted)


def _chunked_nll(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of whole logits, a bounded number of positions at a time; and whether a target lies beyond them."""
    rows, length, vocabulary = logits.shape
    flat, wanted = logits.reshape(-1, vocabulary), targets.reshape(-1).to(logits.device)
    # On a GPU a target out of range would end the process: the model ignores such labels by a loss of its own.
    outside = (wanted != IGNORE) & ((wanted < 0) | (wanted >= vocabulary))
    wanted = wanted.masked_fill(outside, IGNORE)
    nll = torch.zeros(rows * length, dtype=torch.float32, device=logits.device)
    step = max(1, _CHUNK_BYTES // (4 * vocabulary))
    for start in range(0, rows * length, step):
        part = slice(start, start + step)
        nll[part] = F.cross_entropy(flat[part].float(), wanted[part], ignore_index=IGNORE, reduction="none")
    return nll.view(rows, length), outside.any()


def _from_unknown(labels: Tensor, watched: Sequence[TokenLosses]) -> LossEvidence | Absent:
    """For a class that does not say how it aligns: believe the targets of its own loss, else nothing."""
    for shifts, targets in ((True, _shift(labels)), (False, labels)):
        found = watched_nll(watched, targets)
        if found is not None and not bool(found[1]):
            return _by_label("logits", found[0], None, labels, 0, causal=shifts)
    return Absent(_UNKNOWN_ALIGNMENT)


def _from_loss(
    kwargs: Mapping[str, Any], output: ForwardOutput, labels: Tensor, reading: LossReading, *, causal: bool
) -> LossEvidence:
    assert output.loss is not None
    if causal:
        labels = torch.cat([torch.full_like(labels[:, :1], IGNORE), labels[:, 1:]], dim=1)
    count = (labels != IGNORE).sum()
    divisor = kwargs.get("num_items_in_batch") if reading.counted else None
    loss = output.loss.double()
    if reading.without_router and output.aux_loss is not None:
        loss = loss - output.aux_loss.to(loss.device)
    total = loss * torch.as_tensor(count if divisor is None else divisor, device=loss.device)
    # A batch without a target has a mean of 0/0; it adds nothing.
    total = torch.where(count.to(loss.device) > 0, total, torch.zeros_like(total))
    return LossEvidence("loss", labels=labels, causal=causal, nll_sum=total, token_count=count)


def _disagrees(kwargs: Mapping[str, Any], output: ForwardOutput, total: Tensor, labels: Tensor) -> Tensor:
    """Whether the model's loss is none of what the sum of its tokens' losses may have become."""
    loss = output.scalar_loss
    assert loss is not None
    count = (labels != IGNORE).sum().to(total.device)
    given = kwargs.get("num_items_in_batch")
    divisors = [count] if given is None else [count, torch.as_tensor(given, device=total.device)]
    losses = [loss.to(total.device).float()]
    if output.aux_loss is not None:
        losses.append(losses[0] - output.aux_loss.to(total.device))
    apart = torch.stack([(item * divisor - total).abs() for item in losses for divisor in divisors])
    return (apart.amin() > loss_rounding(loss.dtype) * total.abs()) & (count > 0)


def _unless_as_given(
    kwargs: Mapping[str, Any],
    output: ForwardOutput,
    found: LossEvidence,
    given: Tensor,
    nll_as_given: Callable[[], Tensor],
) -> LossEvidence:
    """Evidence with a doubt where a causal model's loss scores its labels where they stand: shifted before the call.

    A class that extends one of transformers may leave the shift to the data. Known by its loss, where that is not seen
    to be what its tokens came to.
    """
    assert found.nll is not None and found.labels is not None
    if output.scalar_loss is None or not bool(_disagrees(kwargs, output, found.nll.sum(), found.labels)):
        return found
    unshifted = _masked(nll_as_given(), given).sum()
    doubt = ~_disagrees(kwargs, output, unshifted, given) & (given != IGNORE).any().to(unshifted.device)
    before = found.mismatch
    return replace(found, mismatch=doubt if before is None else before | doubt.to(before.device))
