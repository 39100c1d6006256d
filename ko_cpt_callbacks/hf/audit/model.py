"""Mistakes in the model: nothing trained, frozen adapters, frozen new rows, untied embeddings, fp16 weights.

Names, shapes and flags are read, and at most 128 rows of an embedding; never all weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import nn
from transformers import TrainingArguments

from ko_cpt_callbacks.hf.audit.vocabulary import vocabulary_mistakes
from ko_cpt_callbacks.hf.model.facts import elements, quantization
from ko_cpt_callbacks.hf.model.parts import ModelParts, moves
from ko_cpt_callbacks.hf.model.structure import text_config

__all__ = ["model_mistakes"]

_SHOWN: Final = 3


def model_mistakes(model: nn.Module, tokenizer: Any, args: TrainingArguments) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is wrong with the model, as set-up rows.

    Args:
        model: As the Trainer has it.
        tokenizer: Its tokenizer; None where it is not known, and then nothing is known of new tokens.
        args: The Trainer's arguments.
    """
    view = ModelParts.of(model)
    yield from _untrained(view)
    if not any(item.requires_grad for item in view.parameters.values()):
        return
    yield from _half_precision(view, args)
    if view.input is not None:
        yield from _untied(view)
        yield from vocabulary_mistakes(view, getattr(tokenizer, "tokenizer", tokenizer))


def _untrained(view: ModelParts) -> Iterator[tuple[str, dict[str, Any]]]:
    trained = [item for item in view.parameters.values() if item.requires_grad]
    if view.adapters:
        if not any(item.requires_grad for item in view.adapters):
            beside = [item for name, item in view.parameters.items() if item.requires_grad and _beside_adapters(name)]
            yield "adapters-frozen", {
                "adapter_parameters": _count(view.adapters),
                "trainable_parameters": _count(trained),
                "beside_adapters": _count(beside),
            }
    elif view.parameters and not trained:
        yield "no-trainable-parameters", {"parameters": _count(view.parameters.values())}


def _beside_adapters(name: str) -> bool:
    """Whether a parameter is part of a module, or of rows, that PEFT trains and saves beside its adapters."""
    return bool({"modules_to_save", "trainable_tokens_delta"} & set(name.split(".")))


def _count(parameters: Any) -> int:
    return sum(elements(item) for item in parameters)


def _half_precision(view: ModelParts, args: TrainingArguments) -> Iterator[tuple[str, dict[str, Any]]]:
    half = [name for name, item in view.parameters.items() if item.requires_grad and item.dtype == torch.float16]
    if not half or getattr(args, "deepspeed", None):  # DeepSpeed keeps a copy in fp32 itself
        return
    kind = quantization(view.base)
    fix = (
        "Load the model with dtype=torch.bfloat16."
        if kind == "none"
        else "Before get_peft_model: model = prepare_model_for_kbit_training(model)."
    )
    modules = [name.rpartition(".")[0].removeprefix("base_model.model.") for name in half]
    shown = [*modules[:_SHOWN], *(["…"] if len(modules) > _SHOWN else [])]
    yield "half-precision-modules", {"tensors": len(half), "modules": shown, "quantization": kind, "fix": fix}


def _untied(view: ModelParts) -> Iterator[tuple[str, dict[str, Any]]]:
    one, other = view.input, view.output
    if one is None or other is None or one.weight is None or other.weight is None or one.same_as(other):
        return
    configs = (getattr(view.base, "config", None), text_config(view.base))
    # A part's configuration may keep a default that the model does not use: both have to say so.
    if not all(getattr(config, "tie_word_embeddings", False) is True for config in configs):
        return
    trained = [view.names[role] for role, part in (("input", one), ("output", other)) if moves(part)]
    if trained:
        keep = "To keep them one: LoraConfig(..., ensure_weight_tying=True). " if view.is_peft else ""
        yield (
            "embeddings-untied",
            {
                "trained": trained,
                "fix": f"{keep}To save both: model.config.tie_word_embeddings = False.",
            },
        )
