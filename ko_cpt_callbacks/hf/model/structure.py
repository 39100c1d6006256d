"""A model taken apart: adapters, parameters, blocks, embeddings and head, whatever PEFT has wrapped around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from torch import nn

from ko_cpt_callbacks.compare.stage import LoraFacts, Rows

__all__ = [
    "LORA", "ONLY_ROWS", "Blocks", "EmbeddingParts", "ModelParts", "RowsSeen", "active_configs",
    "adapter_parameters", "base_model", "embedding_parts", "find_blocks", "kind", "lora_facts", "module_asked",
    "rows_seen", "text_config", "wants_tied",
]  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """The blocks, in order, and the module around them: the language model without its head."""

    holder: nn.Module
    modules: Sequence[nn.Module]


def find_blocks(base: nn.Module, embedding: nn.Module | None) -> Blocks | None:
    """The outermost list of as many modules as there are layers, beside the embeddings; None where it is not clear.

    Args:
        base: The model, without adapters around it.
        embedding: Its input embedding: a vision tower of the same depth does not hold it.
    """
    count = getattr(text_config(base), "num_hidden_layers", None)
    found: dict[str, nn.ModuleList] = {}
    for name, module in base.named_modules():
        if (
            isinstance(module, nn.ModuleList)
            and len(module) == count
            and not any(name.startswith(f"{outside}.") for outside in found)
        ):
            found[name] = module
    if len(found) > 1 and embedding is not None:
        found = {
            name: module
            for name, module in found.items()
            if any(part is embedding for part in base.get_submodule(name.rpartition(".")[0]).modules())
        }
    if len(found) != 1:
        return None
    name, modules = next(iter(found.items()))
    return Blocks(base.get_submodule(name.rpartition(".")[0]), list(modules))


def text_config(base: nn.Module) -> Any:
    """The configuration of the language model; None where there are several, such as an encoder's and a decoder's."""
    config: Any = getattr(base, "config", None)
    try:
        return config.get_text_config() if hasattr(config, "get_text_config") else config
    except ValueError:
        return None


LORA: Final = "LORA"
ONLY_ROWS: Final = "TRAINABLE_TOKENS"
"""An adapter that moves rows of the embeddings and nothing else."""


def active_configs(outer: nn.Module, base: nn.Module) -> list[Any]:
    """The configurations of the active adapters: of a PeftModel, or of a model that had them added to itself."""
    for holder in (outer, base):
        known = getattr(holder, "peft_config", None)
        if not isinstance(known, dict) or not known:
            continue
        active: Any = getattr(holder, "active_adapters", None) or getattr(holder, "active_adapter", None)
        try:
            names = active() if callable(active) else active
        except ValueError:  # transformers: none was loaded
            continue
        listed = [names] if isinstance(names, str) else list(names or ())
        return [known[name] for name in listed if name in known]
    return []


def kind(config: Any) -> str:
    """PEFT's word for a configuration: ``LORA``."""
    named = getattr(config, "peft_type", None)
    return str(getattr(named, "value", named))


def adapter_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that a PEFT layer adds to the layer it stands around; none for any other module."""
    for path in getattr(module, "adapter_layer_names", ()):
        held: Any = module
        for name in path.split("."):
            held = getattr(held, name, None)
        if isinstance(held, nn.Parameter):
            yield held
        elif isinstance(held, nn.Module):
            yield from held.parameters()


def lora_facts(configs: Iterable[Any]) -> LoraFacts | None:
    """The settings of the first LoRA among configurations; None where there is none."""
    config: Any = next((item for item in configs if kind(item) == LORA), None)
    if config is None:
        return None
    layers, rows = config.layers_to_transform, getattr(config, "trainable_token_indices", None)
    return LoraFacts(
        rank=config.r,
        alpha=config.lora_alpha,
        target_modules=_names(config.target_modules),
        layers_to_transform=None if layers is None else (layers,) if isinstance(layers, int) else tuple(layers),
        modules_to_save=_names(config.modules_to_save),
        token_rows=None if rows is None else _count(rows),
        dora=bool(getattr(config, "use_dora", False)),
        rslora=bool(getattr(config, "use_rslora", False)),
        bias=str(config.bias),
        rank_varies=bool(config.rank_pattern),
    )


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(sorted(str(item) for item in value))


def _count(rows: Any) -> int:
    lists = rows.values() if isinstance(rows, dict) else [rows]
    return len({int(index) for item in lists for index in item})


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
        same = _place(self.weight) == _place(other.weight) and self.weight.shape == other.weight.shape
        return same and on_top[0] == on_top[1]

    @property
    def moves(self) -> bool:
        """Whether any row can change."""
        known = (*(() if self.weight is None else (self.weight,)), *self.token_rows, *self.adapter)
        return any(item.requires_grad for item in known)


@dataclass(frozen=True, slots=True)
class RowsSeen:
    """Which rows of an embedding move; ``note``: the code of why that is unknown."""

    rows: Rows = "none"
    new_rows: int | None = None
    note: str | None = None


def _unwrapped(module: nn.Module) -> nn.Module:
    """The module inside ``torch.compile`` and FSDP."""
    for name in _WRAPPERS:
        inner = module._modules.get(name)
        if inner is not None:
            return _unwrapped(inner)
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
    module = _unwrapped(module)
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
        new_rows_from: First row that the hook lets move; None where it is not known.
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


@dataclass(frozen=True, slots=True)
class ModelParts:
    """A model as the Trainer has it, inside DDP, FSDP or ``torch.compile`` too.

    Attributes:
        outer: With its adapters.
        base: The model that they were put on.
        parameters: All of them, by name.
        adapters: Those of adapters proper: not of modules that are trained whole or by single rows beside them.
        input: The embeddings; None where they are not found.
        output: The head.
        names: Names of the modules ``input`` and ``output`` in the base model.
    """

    outer: nn.Module
    base: nn.Module
    parameters: Mapping[str, nn.Parameter]
    adapters: tuple[nn.Parameter, ...]
    input: EmbeddingParts | None
    output: EmbeddingParts | None
    names: Mapping[str, str]

    @classmethod
    def of(cls, model: nn.Module) -> ModelParts:
        """Take a model apart."""
        outer = _unwrapped(model)
        while not hasattr(outer, "get_input_embeddings") and isinstance(outer._modules.get("module"), nn.Module):
            outer = _unwrapped(outer._modules["module"])  # type: ignore[arg-type]  # DDP and the like
        base = base_model(outer)
        parts: dict[str, EmbeddingParts] = {}
        names: dict[str, str] = {}
        for role in ("input", "output"):
            module = module_asked(base, f"get_{role}_embeddings")
            if module is not None:
                parts[role] = embedding_parts(module)
                names[role] = next((name for name, item in base.named_modules() if item is module), role)
        parameters = dict(outer.named_parameters())
        return cls(outer, base, parameters, tuple(_adapters(outer)), parts.get("input"), parts.get("output"), names)

    @property
    def is_peft(self) -> bool:
        """Whether adapters were put on the model."""
        return bool(getattr(self.outer, "peft_config", None) or getattr(self.base, "peft_config", None))


def base_model(model: nn.Module) -> nn.Module:
    """The model inside its adapters."""
    inner: Any = model
    while hasattr(inner, "get_base_model"):
        inner = _unwrapped(inner.get_base_model())
    return inner  # type: ignore[no-any-return]


def wants_tied(base: nn.Module) -> bool:
    """Whether a model's configuration says that embeddings and head are one.

    A part's configuration may keep a default that the model does not use: both have to say so.
    """
    configs = (getattr(base, "config", None), text_config(base))
    return all(getattr(config, "tie_word_embeddings", False) is True for config in configs)


def _adapters(outer: nn.Module) -> Iterator[nn.Parameter]:
    for module in outer.modules():
        if not {"modules_to_save", "token_adapter"} & set(module._modules) and not hasattr(
            module, "trainable_tokens_delta"
        ):
            yield from adapter_parameters(module)
    prompts = outer._modules.get("prompt_encoder")
    if prompts is not None:
        yield from prompts.parameters()
