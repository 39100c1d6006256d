"""A model taken apart for the audit: what is inside its adapters, its parameters, its embeddings and head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ko_cpt_callbacks.hf.model.structure import EmbeddingParts, adapter_parameters, embedding_parts, unwrapped

__all__ = ["ModelParts", "moves"]


@dataclass(frozen=True, slots=True)
class ModelParts:
    """The model inside its adapters, all parameters, those of adapters, embeddings and head."""

    base: nn.Module
    is_peft: bool
    parameters: Mapping[str, nn.Parameter]
    adapters: tuple[nn.Parameter, ...]
    input: EmbeddingParts | None
    output: EmbeddingParts | None
    names: Mapping[str, str]
    """Names of the modules ``input`` and ``output`` in the base model."""

    @classmethod
    def of(cls, model: nn.Module) -> ModelParts:
        """The parts of a model as the Trainer has it."""
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


def moves(part: EmbeddingParts) -> bool:
    """Whether any row can change."""
    known = (*(() if part.weight is None else (part.weight,)), *part.token_rows, *part.adapter)
    return any(item.requires_grad for item in known)
