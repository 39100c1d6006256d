"""What a model's output holds, whatever container it came in, and how its class aligns logits and labels.

A `ModelHook` sees it; the hook stays with its model: a copy that is saved, pickled or made in memory has none.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ko_cpt_callbacks.hf.model.structure import base_model, text_config

__all__ = [
    "Alignment", "ForwardOutput", "ModelHook", "alignment_of", "loss_rounding", "plain_tensor", "router_loss",
    "sees_later_tokens",
]  # fmt: skip

Alignment = Literal["causal", "masked", "seq2seq"]


@dataclass(frozen=True, slots=True)
class ForwardOutput:
    """The parts of a model output that matter here, whatever container it came in."""

    loss: Tensor | None
    logits: Tensor | None
    log_probs: Tensor | None
    label_mask: Tensor | None
    aux_loss: Tensor | None = None

    @property
    def scalar_loss(self) -> Tensor | None:
        """The loss, where it is one number for the whole batch."""
        return None if self.loss is None or self.loss.dim() else self.loss

    @classmethod
    def of(cls, output: Any, vocabulary: int | None = None) -> ForwardOutput:
        """Read a ``ModelOutput``, a mapping, a tuple ``(loss, logits, …)`` or ``(logits, …)``, or bare logits.

        Args:
            output: What the forward pass returned.
            vocabulary: Width of the model's logits, by which logits without a loss are known; None: not known.
        """
        if isinstance(output, Tensor):
            output = (output,)
        if isinstance(output, Mapping):
            get = output.get
            return cls(
                loss=plain_tensor(get("loss")),
                logits=plain_tensor(get("logits")),
                log_probs=plain_tensor(get("log_probs")),
                label_mask=plain_tensor(get("label_mask")),
                aux_loss=plain_tensor(get("aux_loss")),
            )
        if isinstance(output, (tuple, list)) and output:
            first = plain_tensor(output[0])
            loss = first if first is not None and first.dim() == 0 else None
            logits = plain_tensor(output[1]) if loss is not None and len(output) > 1 else None
            if first is not None and first.dim() == 3 and first.shape[-1] == vocabulary:
                logits = first
            return cls(loss=loss, logits=logits, log_probs=None, label_mask=None)
        return cls(loss=None, logits=None, log_probs=None, label_mask=None)


def plain_tensor(value: Any) -> Tensor | None:
    """A tensor without its gradient; None for anything else, such as a stand-in that raises when it is read."""
    return value.detach() if isinstance(value, Tensor) else None


def loss_rounding(dtype: torch.dtype) -> float:
    """How far two ways to one loss may lie apart, as a share: rounding; in half precision, of every token's loss.

    Chosen, not measured.
    """
    return 3e-3 if dtype in (torch.float16, torch.bfloat16) else 1e-4


def router_loss(output: ForwardOutput, base: nn.Module) -> Tensor | None:
    """A mixture of experts' share of the loss; None where the output does not name it."""
    weight = getattr(text_config(base), "router_aux_loss_coef", None)
    return None if output.aux_loss is None or not isinstance(weight, float) else output.aux_loss * weight


def alignment_of(model: nn.Module) -> Alignment | None:
    """How this model's logits and labels belong together, from what its class declares.

    Returns:
        ``causal`` (logits at i predict label i + 1), ``masked`` or ``seq2seq`` (label i), or None when unknown.
    """
    from transformers.models.auto import modeling_auto as auto

    base = base_model(model)
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


def sees_later_tokens(model: nn.Module) -> bool:
    """Whether a model whose class is a causal one attends to the tokens after a position, as its configuration says.

    An encoder's class with a causal head does so until ``is_decoder`` is set, XLNet and CPM-Ant always; any model where
    ``is_causal`` is false, or ``use_bidirectional_attention`` set for all tokens (transformers 5). Its losses are none
    of a text that is read token after token.
    """
    from transformers.models.auto import modeling_auto as auto

    config = text_config(base_model(model))
    if config is None or alignment_of(model) != "causal":
        return False
    kind = getattr(config, "model_type", None)
    if kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES or kind == "bert-generation":
        return not getattr(config, "is_decoder", False)
    everywhere = getattr(config, "use_bidirectional_attention", None) in (True, "all")
    return everywhere or kind in ("xlnet", "cpmant") or not getattr(config, "is_causal", True)


class ModelHook:
    """A hook for ``register_forward_hook`` and its like.

    ``torch.save(model)`` and ``copy.deepcopy(model)`` write a model's hooks too. Of this one they write a function of
    the standard library that takes as many arguments and does nothing, so that the model also loads where this package
    is not installed, and a copy is watched by no one.

    Args:
        call: What the hook does; its result is dropped, so that nothing of the model's changes.
        arguments: How many positional arguments it is called with: 3 or 4.
        on_error: Called with an exception in it; the forward pass never sees it.
    """

    def __init__(self, call: Callable[..., Any], arguments: int, on_error: Callable[[Exception], None]) -> None:
        self._call, self._arguments, self._on_error = call, arguments, on_error

    def __call__(self, *args: Any) -> None:
        """Do it."""
        try:
            self._call(*args)
        except Exception as error:
            self._on_error(error)

    def __reduce__(self) -> tuple[Any, ...]:
        """What a copy gets: ``string.Formatter.check_unused_args``, whose body is empty."""
        return getattr, (string.Formatter if self._arguments == 4 else string.Formatter(), "check_unused_args")
