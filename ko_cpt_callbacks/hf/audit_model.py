"""Mistakes in the model: nothing trained, frozen adapters, frozen new rows, untied embeddings, fp16 weights.

Names, shapes and flags are read, and at most 128 rows of an embedding; never all weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from transformers import PretrainedConfig, TrainingArguments

from ko_cpt_callbacks.hf.adapter_reading import adapter_parameters
from ko_cpt_callbacks.hf.block_reading import text_config
from ko_cpt_callbacks.hf.embedding_reading import EmbeddingParts, embedding_parts, unwrapped
from ko_cpt_callbacks.hf.inspection import elements, quantization

__all__ = ["model_mistakes"]

# Added rows are drawn around the old rows' mean with 1e-9 of their covariance (transformers,
# `_init_added_embeddings_weights_with_mean`), which is 3e-5 of their spread; one optimizer step with a usual learning
# rate moves a row by more than a thousandth. The number is chosen, not measured.
_UNTRAINED_SPREAD: Final = 1e-3
_ROWS_READ: Final = 64
_SHOWN: Final = 3


def model_mistakes(model: nn.Module, tokenizer: Any, args: TrainingArguments) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is wrong with the model, as set-up rows.

    Args:
        model: As the Trainer has it.
        tokenizer: Its tokenizer; None where it is not known, and then nothing is known of new tokens.
        args: The Trainer's arguments.
    """
    view = _View.of(model)
    yield from _untrained(view)
    if not any(item.requires_grad for item in view.parameters.values()):
        return
    yield from _half_precision(view, args)
    if view.input is not None:
        yield from _untied(view)
        yield from _frozen_rows(view, getattr(tokenizer, "tokenizer", tokenizer))


@dataclass(frozen=True, slots=True)
class _View:
    """The model taken apart: the one inside its adapters, all parameters, those of adapters, embeddings and head."""

    base: nn.Module
    is_peft: bool
    parameters: Mapping[str, nn.Parameter]
    adapters: tuple[nn.Parameter, ...]
    input: EmbeddingParts | None
    output: EmbeddingParts | None
    names: Mapping[str, str]
    """Names of the modules ``input`` and ``output`` in the base model."""

    @classmethod
    def of(cls, model: nn.Module) -> _View:
        outer = unwrapped(model)
        base: Any = outer
        while hasattr(base, "get_base_model"):
            base = unwrapped(base.get_base_model())
        parts: dict[str, EmbeddingParts] = {}
        names: dict[str, str] = {}
        for role in ("input", "output"):
            module = _asked(base, f"get_{role}_embeddings")
            if module is not None:
                parts[role] = embedding_parts(module)
                names[role] = next((name for name, item in base.named_modules() if item is module), role)
        return cls(
            base,
            bool(getattr(outer, "peft_config", None) or getattr(base, "peft_config", None)),
            dict(outer.named_parameters()),
            tuple(_adapters(outer)),
            parts.get("input"),
            parts.get("output"),
            names,
        )


def _asked(base: Any, method: str) -> nn.Module | None:
    try:
        found = getattr(base, method)()
    except (AttributeError, NotImplementedError):
        return None
    return found if isinstance(found, nn.Module) else None


def _adapters(outer: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters of adapters proper: not of modules that are trained whole or by single rows beside them."""
    for module in outer.modules():
        if not {"modules_to_save", "token_adapter"} & set(module._modules) and not hasattr(
            module, "trainable_tokens_delta"
        ):
            yield from adapter_parameters(module)
    prompts = outer._modules.get("prompt_encoder")
    if prompts is not None:
        yield from prompts.parameters()


def _untrained(view: _View) -> Iterator[tuple[str, dict[str, Any]]]:
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


def _half_precision(view: _View, args: TrainingArguments) -> Iterator[tuple[str, dict[str, Any]]]:
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


def _untied(view: _View) -> Iterator[tuple[str, dict[str, Any]]]:
    one, other = view.input, view.output
    if one is None or other is None or one.weight is None or other.weight is None or one.same_as(other):
        return
    configs = (getattr(view.base, "config", None), text_config(view.base))
    # A part's configuration may keep a default that the model does not use: both have to say so.
    if not all(getattr(config, "tie_word_embeddings", False) is True for config in configs):
        return
    trained = [view.names[role] for role, part in (("input", one), ("output", other)) if _moves(part)]
    if trained:
        keep = "To keep them one: LoraConfig(..., ensure_weight_tying=True). " if view.is_peft else ""
        yield (
            "embeddings-untied",
            {
                "trained": trained,
                "fix": f"{keep}To save both: model.config.tie_word_embeddings = False.",
            },
        )


def _moves(part: EmbeddingParts) -> bool:
    """Whether any row can change."""
    known = (*(() if part.weight is None else (part.weight,)), *part.token_rows, *part.adapter)
    return any(item.requires_grad for item in known)


def _frozen_rows(view: _View, tokenizer: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    one, other = view.input, view.output
    built, rows = _built_with(view.base), None if one is None else one.rows
    if tokenizer is None or one is None or built is None or rows is None:
        return
    pad = getattr(tokenizer, "pad_token_id", None)
    new = [index for index in range(built, min(len(tokenizer), rows)) if index != pad]
    parts = {"input": one} if other is None or one.same_as(other) else {"input": one, "output": other}
    frozen = {role: part for role, part in parts.items() if part.weight is not None and not _moves(part)}
    if not new or not frozen:
        return
    yield (
        "embeddings-frozen",
        {
            "new_tokens": len(new),
            "frozen": [view.names[role] for role in frozen],
            "untrained": all(_alike(part, new, built) for part in frozen.values()),
            "fix": _unfreeze(view, list(frozen), tied=other is not None and one.same_as(other)),
        },
    )


def _unfreeze(view: _View, frozen: list[str], *, tied: bool) -> str:
    if not view.is_peft:
        calls = [f"model.get_{role}_embeddings().requires_grad_(True)" for role in frozen]
        return f"Before Trainer(...): {'; '.join(calls)}."
    saved = [view.names[role].rpartition(".")[2] for role in view.names if not tied or role == "input"]
    also = ", ensure_weight_tying=True" if tied else ""
    return f"LoraConfig(..., modules_to_save={saved}{also})."


def _built_with(base: nn.Module) -> int | None:
    """The vocabulary before it grew; None where it has not grown, or that cannot be seen.

    Two traces are certain. A resize changes the configuration and the outer model, but not the number that the
    inner model was built with. And the checkpoint's own configuration, on disk, has the old number (PEFT looks at it
    for the same question).
    """
    config = text_config(base)
    now = getattr(config, "vocab_size", None)
    inner = getattr(base, str(getattr(base, "base_model_prefix", "")) or "model", None)
    before = [getattr(inner, "vocab_size", None), _saved_vocabulary(base)]
    known = [number for number in before if isinstance(number, int) and isinstance(now, int) and 0 < number < now]
    return min(known) if known else None


def _saved_vocabulary(base: nn.Module) -> int | None:
    """What the configuration on disk says; nothing is downloaded."""
    place = getattr(getattr(base, "config", None), "_name_or_path", None)
    if not place:
        return None
    try:
        saved, _ = PretrainedConfig.get_config_dict(place, local_files_only=True)
    except (OSError, ValueError):
        return None
    text = saved.get("text_config")
    number = saved.get("vocab_size", text.get("vocab_size") if isinstance(text, dict) else None)
    return number if isinstance(number, int) else None


def _alike(part: EmbeddingParts, new: list[int], built: int) -> bool:
    """Whether the new rows are nearly the same, as no training leaves them; False where that cannot be seen."""
    weight = part.weight
    if weight is None or weight.is_meta or len(new) < 2 or built < 2 or weight.shape[0] <= new[-1]:
        return False
    if type(weight.detach()) is not torch.Tensor:  # sharded: to look at a row, every process would have to
        return False
    spreads = []
    rows: Sequence[int]
    for rows in (new, range(built)):
        sample = [rows[place * len(rows) // _ROWS_READ] for place in range(_ROWS_READ)]
        picked = weight.detach()[torch.tensor(sorted(set(sample)), device=weight.device)].float()
        spreads.append(float((picked - picked.mean(0)).abs().max()))
    return spreads[0] < _UNTRAINED_SPREAD * spreads[1]
