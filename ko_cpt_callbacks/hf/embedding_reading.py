"""An embedding or a head, whatever PEFT has wrapped around it, to the parameters that its forward pass uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from torch import nn

from ko_cpt_callbacks.core.stage import Rows
from ko_cpt_callbacks.hf.adapter_reading import adapter_parameters

__all__ = ["EmbeddingParts", "RowsSeen", "embedding_parts", "module_asked", "rows_seen", "unwrapped"]

_WRAPPERS: Final = ("_orig_mod", "_fsdp_wrapped_module")


@dataclass(frozen=True, slots=True)
class EmbeddingParts:
    """What an embedding's forward pass uses.

    Args:
        weight: The matrix: the copy that ``modules_to_save`` made, where there is one. None where it is no
            parameter (quantised by a method that keeps buffers).
        token_rows: Rows that PEFT keeps apart and writes over the matrix (``trainable_token_indices``).
        indices: Which rows those are.
        adapter: Parameters of an adapter on the matrix (LoRA with ``embed_tokens`` among its targets).
        everything: Ids of all parameters in the module, unused originals included.
    """

    weight: nn.Parameter | None = None
    token_rows: tuple[nn.Parameter, ...] = ()
    indices: tuple[int, ...] = ()
    adapter: tuple[nn.Parameter, ...] = ()
    everything: frozenset[int] = frozenset()

    @property
    def rows(self) -> int | None:
        """Rows of the matrix, also where a shard of it is all that is here (ZeRO-3)."""
        shape: Any = () if self.weight is None else getattr(self.weight, "ds_shape", self.weight.shape)
        return int(shape[0]) if len(shape) == 2 else None

    def same_as(self, other: EmbeddingParts) -> bool:
        """Whether both read the same numbers: one storage, and nothing on top that the other lacks."""
        if self.weight is None or other.weight is None:
            return False
        on_top = [{_place(item) for item in (*part.token_rows, *part.adapter)} for part in (self, other)]
        return on_top[0] == on_top[1] and _one_storage(self.weight, other.weight)


@dataclass(frozen=True, slots=True)
class RowsSeen:
    """Which rows of an embedding move; ``note``: the code of why that is unknown."""

    rows: Rows = "none"
    new_rows: int | None = None
    note: str | None = None


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside ``torch.compile`` and FSDP."""
    for name in _WRAPPERS:
        inner = module._modules.get(name)
        if inner is not None:
            return unwrapped(inner)
    return module


def module_asked(model: nn.Module, method: str) -> nn.Module | None:
    """What a model's own ``get_input_embeddings`` or ``get_output_embeddings`` gives.

    Returns:
        None where there is no such method, or it does not know: transformers' regression models raise.
    """
    try:
        found = getattr(model, method)()
    except (AttributeError, NotImplementedError):
        return None
    return found if isinstance(found, nn.Module) else None


def embedding_parts(module: nn.Module) -> EmbeddingParts:
    """The parts of an embedding or head."""
    everything = frozenset(id(parameter) for parameter in module.parameters())
    return replace(_parts(module), everything=everything)


def _parts(module: nn.Module) -> EmbeddingParts:
    module = unwrapped(module)
    inner = module._modules
    saved, tokens, base = inner.get("modules_to_save"), inner.get("token_adapter"), inner.get("base_layer")
    if isinstance(saved, nn.ModuleDict):
        copy = next((saved[name] for name in _active(module) if name in saved), None)
        original = inner.get("original_module")
        return _parts(copy) if copy is not None else _parts(original) if original is not None else EmbeddingParts()
    if tokens is not None:
        return _parts(tokens)
    if base is not None:
        parts = _parts(base)
        rows = getattr(module, "trainable_tokens_delta", None)
        if rows is None:
            return replace(parts, adapter=(*parts.adapter, *adapter_parameters(module)))
        active = [name for name in _active(module) if name in rows]
        known: Mapping[str, Any] = getattr(module, "token_indices", {})
        indices = tuple(sorted({int(index) for name in active for index in known.get(name, ())}))
        return replace(parts, token_rows=tuple(rows[name] for name in active), indices=indices)
    return EmbeddingParts(weight=module._parameters.get("weight"))


def rows_seen(parts: EmbeddingParts, *, hooked: bool, new_rows_from: int | None) -> RowsSeen:
    """Which rows move.

    Args:
        parts: The embedding or head.
        hooked: Whether a gradient hook on the matrix may hold rows back.
        new_rows_from: First row that the hook lets move; None where nobody says.
    """
    rows = parts.rows
    if any(item.requires_grad for item in parts.adapter):
        return RowsSeen("all")
    if parts.weight is not None and parts.weight.requires_grad:
        if new_rows_from is not None and rows is not None:
            return RowsSeen("new", rows - new_rows_from)
        return RowsSeen("unknown", note="rows-behind-hook") if hooked else RowsSeen("all")
    if any(item.requires_grad for item in parts.token_rows):
        count = len(parts.indices)
        if new_rows_from is not None:
            new = bool(parts.indices) and parts.indices[0] >= new_rows_from
        else:  # rows added to a vocabulary are its last ones
            new = rows is not None and parts.indices == tuple(range(rows - count, rows))
        return RowsSeen("new", count) if new else RowsSeen("unknown", count, "rows-not-last")
    return RowsSeen()


def _active(module: nn.Module) -> tuple[str, ...]:
    names = getattr(module, "active_adapters", None) or getattr(module, "active_adapter", None) or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _place(parameter: nn.Parameter) -> int:
    """Where its numbers are: PEFT ties adapters as transposed views, each a parameter of its own."""
    try:
        return parameter.data_ptr() or id(parameter)
    except RuntimeError:  # a tensor without storage of its own
        return id(parameter)


def _one_storage(one: nn.Parameter, other: nn.Parameter) -> bool:
    if one is other:
        return True
    try:
        place = one.data_ptr()
        return place != 0 and place == other.data_ptr() and one.shape == other.shape
    except RuntimeError:  # a tensor without storage of its own
        return False
