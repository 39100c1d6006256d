"""What one forward pass says about the loss of its batch.

Three kinds of evidence, the best first:

``log_probs``
    Per-token log-probabilities in the output (TRL's fused LM head).
``logits``
    Logits in the output and labels in the call; per-token losses come from the model's own loss computation
    where it can be watched (:mod:`.loss_window`), else from the logits in bounded chunks.
``loss``
    Only the mean loss and the number of tokens behind it: no per-row sums, hence no error bar.

Anything else is an :class:`Absent` with the reason in plain words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ko_cpt_callbacks.hf.loss_window import TokenLosses

IGNORE: Final = -100

# Largest piece of the logits that is reduced at once. 16 MiB of float32: a small part of any logits tensor that
# is worth cutting up (chosen, not measured).
_CHUNK_BYTES: Final = 16 * 2**20

_UNKNOWN_ALIGNMENT: Final = (
    "it is not known whether this model's loss shifts the labels (its class is neither a causal, a masked nor a "
    "sequence-to-sequence model of transformers), and its own loss could not be watched"
)

EvidenceKind = Literal["log_probs", "logits", "loss"]
Alignment = Literal["causal", "masked", "seq2seq"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """The loss of one batch, still on the device.

    Attributes:
        kind: Which evidence this is.
        nll: Negative log-likelihood of the label at each position of the row, 0 where nothing is scored;
            (rows, length), or None for ``loss``.
        labels: Those labels, ``-100`` where nothing is scored (a causal model's first one included); same shape.
        nll_sum: For ``loss``: the batch's summed negative log-likelihood (0-dim); else None.
        token_count: For ``loss``: the target tokens behind it (0-dim); else None.
        mismatch: 0-dim bool, true where the watched loss was computed against other targets than the labels;
            read at the end of the evaluation, so that no batch waits for the device.
    """

    kind: EvidenceKind
    nll: Tensor | None = None
    labels: Tensor | None = None
    nll_sum: Tensor | None = None
    token_count: Tensor | None = None
    mismatch: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """Why a batch gives no exact loss."""

    reason: str


@dataclass(frozen=True, slots=True)
class Output:
    """The parts of a model output that matter here, whatever container it came in."""

    loss: Tensor | None
    logits: Tensor | None
    log_probs: Tensor | None
    label_mask: Tensor | None

    @classmethod
    def of(cls, output: Any) -> Output:
        """Read a ``ModelOutput``, a mapping, or a tuple ``(loss, logits, …)``."""
        if isinstance(output, Mapping):
            get = output.get
            return cls(
                loss=_tensor(get("loss")),
                logits=_tensor(get("logits")),
                log_probs=_tensor(get("log_probs")),
                label_mask=_tensor(get("label_mask")),
            )
        if isinstance(output, (tuple, list)) and output:
            first = _tensor(output[0])
            loss = first if first is not None and first.dim() == 0 else None
            logits = _tensor(output[1]) if loss is not None and len(output) > 1 else None
            return cls(loss=loss, logits=logits, log_probs=None, label_mask=None)
        return cls(loss=None, logits=None, log_probs=None, label_mask=None)


def read_evidence(
    kwargs: Mapping[str, Any],
    output: Output,
    watched: Sequence[TokenLosses],
    alignment: Alignment | None,
    *,
    virtual_tokens: int = 0,
) -> Evidence | Absent:
    """The best evidence in one forward pass that was given labels.

    Args:
        kwargs: Keyword arguments of the call; ``labels`` (or pre-shifted ``shift_labels``) of shape (rows, length).
        output: The call's output.
        watched: What the loss window saw.
        alignment: How logits and labels belong together; None when the model's class does not say.
        virtual_tokens: Positions a prompt-learning adapter puts before the row.
    """
    shifted = _tensor(kwargs.get("shift_labels"))
    labels = _tensor(kwargs.get("labels")) if shifted is None else shifted
    if labels is None or labels.dim() != 2:
        return Absent("the labels are not a two-dimensional tensor")
    causal = alignment == "causal" and shifted is None
    if output.log_probs is not None:
        return _from_log_probs(output.log_probs, labels, pre_shifted=shifted is not None)
    if output.logits is not None and output.logits.dim() == 3:
        extra = output.logits.shape[1] - labels.shape[1]
        if extra != 0 and not (extra == virtual_tokens and causal):
            return Absent(_unmatched("logits", output.logits, labels))
        if alignment is None:
            return _from_unknown(labels, watched)
        targets = _shift(F.pad(labels, (extra, 0), value=IGNORE)) if causal else labels
        nll, mismatch = _watched_nll(watched, targets) or (_chunked_nll(output.logits, targets), None)
        if causal:
            nll, labels = _by_position(nll, labels, extra)
        return Evidence("logits", nll=_masked(nll, labels), labels=labels, mismatch=mismatch)
    if output.loss is not None and output.loss.dim() == 0:
        if alignment is None:
            return Absent(_UNKNOWN_ALIGNMENT)
        return _from_loss(kwargs, output.loss, labels, causal=causal)
    return Absent("the model returned no loss, no logits and no log-probabilities")


def _tensor(value: Any) -> Tensor | None:
    return value.detach() if isinstance(value, Tensor) else None


def _shift(labels: Tensor) -> Tensor:
    """Labels moved one to the left, so that position i holds what the logits at i predict."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORE)


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


def _unmatched(what: str, tensor: Tensor, labels: Tensor) -> str:
    return f"the {what} have {tensor.shape[1]} positions and the labels {labels.shape[1]}: they cannot be matched"


def _from_log_probs(log_probs: Tensor, labels: Tensor, *, pre_shifted: bool) -> Evidence | Absent:
    nll, length = -log_probs.float(), labels.shape[1]
    if log_probs.dim() != 2 or log_probs.shape[1] < length - 1 or (pre_shifted and log_probs.shape[1] != length):
        return Absent(_unmatched("log-probabilities", log_probs, labels))
    if not pre_shifted:
        # One entry fewer than positions; a prompt-learning adapter's virtual tokens add theirs in front.
        nll, labels = _by_position(nll, labels, log_probs.shape[1] - (length - 1))
    return Evidence("log_probs", nll=_masked(nll, labels), labels=labels)


def _watched_nll(watched: Sequence[TokenLosses], targets: Tensor) -> tuple[Tensor, Tensor] | None:
    """Losses the model computed against ``targets``, and whether the targets were in fact others."""
    rows, length = targets.shape
    for losses in watched:
        # Some losses drop the last position instead of ignoring it: (length - 1) entries a row.
        for width in (length, length - 1):
            if width < 1 or losses.targets.numel() != rows * width:
                continue
            wanted = targets[:, :width].to(losses.targets.device)
            mismatch = (losses.targets.view(rows, width) != wanted).any()
            return F.pad(losses.nll.view(rows, width), (0, length - width)), mismatch
    return None


def _chunked_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """Losses of whole logits, a bounded number of positions at a time; (rows, length)."""
    rows, length, vocabulary = logits.shape
    flat, wanted = logits.reshape(-1, vocabulary), targets.reshape(-1).to(logits.device)
    nll = torch.zeros(rows * length, dtype=torch.float32, device=logits.device)
    step = max(1, _CHUNK_BYTES // (4 * vocabulary))
    for start in range(0, rows * length, step):
        part = slice(start, start + step)
        nll[part] = F.cross_entropy(flat[part].float(), wanted[part], ignore_index=IGNORE, reduction="none")
    return nll.view(rows, length)


def _from_unknown(labels: Tensor, watched: Sequence[TokenLosses]) -> Evidence | Absent:
    """For a class that does not say how it aligns: believe the targets of its own loss, else nothing."""
    for shifts, targets in ((True, _shift(labels)), (False, labels)):
        found = _watched_nll(watched, targets)
        if found is not None and not bool(found[1]):
            nll, scored = _by_position(found[0], labels, 0) if shifts else (found[0], labels)
            return Evidence("logits", nll=_masked(nll, scored), labels=scored)
    return Absent(_UNKNOWN_ALIGNMENT)


def _from_loss(kwargs: Mapping[str, Any], loss: Tensor, labels: Tensor, *, causal: bool) -> Evidence:
    count = ((labels[:, 1:] if causal else labels) != IGNORE).sum()
    divisor = kwargs.get("num_items_in_batch")
    if divisor is None:
        divisor = count
    total = loss.double() * torch.as_tensor(divisor, device=loss.device)
    # A batch without a target has a mean of 0/0; it adds nothing.
    total = torch.where(count.to(loss.device) > 0, total, torch.zeros_like(total))
    return Evidence("loss", nll_sum=total, token_count=count)


def alignment_of(model: nn.Module) -> Alignment | None:
    """How this model's logits and labels belong together, from what its class declares.

    Returns:
        ``causal`` (logits at i predict label i + 1), ``masked`` or ``seq2seq`` (label i), or None when unknown.
    """
    from transformers.models.auto import modeling_auto as auto

    base = getattr(model, "get_base_model", lambda: model)()
    if getattr(getattr(base, "config", None), "is_encoder_decoder", False):
        return "seq2seq"
    # A class of the user's own that extends one of transformers aligns like it.
    names = {ancestor.__name__ for ancestor in type(base).__mro__}
    loss_type = getattr(base, "loss_type", None)
    causal = {*auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()}
    causal |= {*auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values()}
    flat = {item for entry in causal for item in (entry if isinstance(entry, (tuple, list)) else (entry,))}
    if names & flat or loss_type in ("ForCausalLM", "ForConditionalGeneration"):
        return "causal"
    if names & {*auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.values()} or loss_type == "ForMaskedLM":
        return "masked"
    return None
