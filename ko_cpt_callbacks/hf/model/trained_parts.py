"""What is being trained, read from the model: which rows, which blocks, through which adapter.

Found by structure, not by name: the embeddings and the head as the model itself names them, the blocks as the one
list of as many modules as the configuration says there are layers. Names, shapes and flags are looked at, never a
weight. Where what is there does not tell, the answer is ``unknown``. A gradient hook under which only the last rows of
a matrix move says so itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from torch import Tensor, nn

from ko_cpt_callbacks.compare.stage import GROUPS, UNKNOWN, Adapter, Layers, StageFacts, Tied, Trains
from ko_cpt_callbacks.hf.model.facts import elements, quantization
from ko_cpt_callbacks.hf.model.structure import (
    LORA,
    ONLY_ROWS,
    EmbeddingParts,
    ModelParts,
    RowsSeen,
    active_configs,
    adapter_parameters,
    find_blocks,
    kind,
    lora_facts,
    module_asked,
    rows_seen,
    wants_tied,
)

__all__ = ["RowHold", "held_rows", "hold_rows", "moving_numbers", "read_stage", "release_rows"]

_OTHER_SHOWN: Final = 8


def read_stage(model: nn.Module, *, new_rows_from: int | None = None) -> StageFacts:
    """What ``model`` trains, as it stands: read it when its parameters are set up, before the first step.

    Args:
        model: As the Trainer has it; inside PEFT, DDP, FSDP or ``torch.compile`` too.
        new_rows_from: First row of the embeddings that moves, where a gradient hook holds the earlier ones back:
            a parameter does not show which of its rows move, so this number is believed. Where only one of
            embeddings and head has a hook it is that one's. None: not known.

    Raises:
        ValueError: If ``new_rows_from`` is no row of the embeddings.
    """
    view = ModelParts.of(model)
    seen = _Seen.of(view)
    if new_rows_from is not None and not 0 <= new_rows_from <= (seen.input.rows or new_rows_from):
        raise ValueError(f"new_rows_from: found {new_rows_from}, expected a row out of {seen.input.rows}")
    _sort(seen, view)
    input_rows, output_rows = _rows(seen, new_rows_from)
    adapter = _adapter(seen)
    layers = _layers(seen)
    notes = [item.note for item in (input_rows, output_rows) if item.note is not None]
    if seen.trainable and set(seen.groups) <= {"norm", "other"}:
        adapter = "unknown"  # something moves, and none of the four words is for it
        notes.append("nothing-recognised")
    elif seen.partial or (seen.moved and seen.adapted):
        adapter = "unknown"
        notes.append("adapter-and-weights" if seen.adapted else "blocks-in-part")
    if layers == UNKNOWN:
        notes.append("blocks-not-found")
    return StageFacts(
        trains=Trains(input_rows.rows, output_rows.rows, layers, adapter),
        layer_count=None if seen.blocks is None else len(seen.blocks),
        layer_indices=tuple(sorted(seen.moved | seen.adapted)),
        adapters=tuple(dict.fromkeys(map(kind, seen.configs))),
        lora=lora_facts(seen.configs),
        quantization=quantization(view.base),
        tied=_tied(view, seen),
        rows=seen.input.rows,
        new_rows=input_rows.new_rows if input_rows.new_rows is not None else output_rows.new_rows,
        parameters=seen.parameters,
        trainable={group: seen.groups[group] for group in GROUPS if group in seen.groups},
        other=tuple(seen.other[:_OTHER_SHOWN]),
        notes=tuple(dict.fromkeys(notes)),
    )


@dataclass(slots=True)
class _Seen:
    """What was found, and the trainable parameters sorted into it."""

    input: EmbeddingParts
    output: EmbeddingParts
    has_input: bool
    has_head: bool
    blocks: Sequence[nn.Module] | None
    configs: Sequence[Any]
    parameters: int = 0
    all_train: bool = True
    trainable: list[nn.Parameter] = field(default_factory=list)
    groups: dict[str, int] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)
    moved: set[int] = field(default_factory=set)
    adapted: set[int] = field(default_factory=set)
    partial: bool = False
    adapter_trains: bool = False

    @classmethod
    def of(cls, view: ModelParts) -> _Seen:
        """The parts of a model, nothing sorted yet."""
        blocks = find_blocks(view.base, module_asked(view.base, "get_input_embeddings"))
        return cls(
            input=view.input or EmbeddingParts(),
            output=view.output or EmbeddingParts(),
            has_input=view.input is not None,
            has_head=view.output is not None or not hasattr(view.base, "get_output_embeddings"),
            blocks=None if blocks is None else blocks.modules,
            configs=active_configs(view.outer, view.base),
        )


def _sort(seen: _Seen, view: ModelParts) -> None:
    """Every parameter to its group."""
    adapters = {id(parameter) for parameter in view.adapters}
    saved, norms = _marked(view.outer)
    inside = {id(parameter) for parameter in view.base.parameters()}
    block_of = {id(item): index for index, block in enumerate(seen.blocks or ()) for item in block.parameters()}
    biased = any(getattr(config, "bias", "none") not in ("none", None) for config in seen.configs)
    still: set[int] = set()
    for name, parameter in view.parameters.items():
        count, key = elements(parameter), id(parameter)
        seen.parameters += count
        index = block_of.get(key)
        adapter = key in adapters or key in saved or key not in inside
        if not parameter.requires_grad:
            seen.all_train = False
            if index is not None and not adapter:
                still.add(index)
            continue
        seen.trainable.append(parameter)
        if key in seen.input.everything:
            group = "input"
        elif key in seen.output.everything:
            group = "output"
        elif adapter:
            group = "adapter"
            if index is not None and key in adapters:
                seen.adapted.add(index)
        elif index is not None:
            group = "layers"
            if not (biased and name.endswith("bias")):
                seen.moved.add(index)
        else:
            group = "norm" if key in norms else "other"
        if key in adapters or key not in inside:
            seen.adapter_trains = True
        if group == "other":
            seen.other.append(name)
        seen.groups[group] = seen.groups.get(group, 0) + count
    seen.partial = bool(seen.moved & still)


def _marked(outer: nn.Module) -> tuple[set[int], set[int]]:
    """Ids of parameters: of modules that are trained whole beside adapters, and of norms."""
    saved: set[int] = set()
    norms: set[int] = set()
    for module in outer.modules():
        if "modules_to_save" in module._modules:
            saved |= {id(item) for item in adapter_parameters(module)}
        if "norm" in type(module).__name__.lower():
            norms |= {id(item) for item in module._parameters.values() if item is not None}
    return saved, norms


def _rows(seen: _Seen, declared: int | None) -> tuple[RowsSeen, RowsSeen]:
    hooked = _hooked(seen)
    found = []
    for parts, there in ((seen.input, seen.has_input), (seen.output, seen.has_head)):
        held = parts.weight is not None and id(parts.weight) in hooked
        number = declared if held or not hooked else None
        own = None if parts.weight is None else held_rows(parts.weight)
        number = number if own is None else own
        rows = rows_seen(parts, hooked=held, new_rows_from=number)
        if (not there or parts.weight is None) and rows.rows == "none" and "other" in seen.groups:
            rows = RowsSeen("unknown", note="embedding-not-found")
        found.append(rows)
    return found[0], found[1]


def _hooked(seen: _Seen) -> set[int]:
    """Ids of the matrices of which a gradient hook may hold rows back.

    Hooks that every other trainable parameter has too (clipping, an optimizer that steps in the backward pass)
    are no such.
    """
    rows = {id(part.weight) for part in (seen.input, seen.output) if part.weight is not None}
    others = [item for item in seen.trainable if id(item) not in rows]
    if others and all(_has_hook(item) for item in others):
        return set()
    return {id(item) for item in seen.trainable if id(item) in rows and _has_hook(item)}


def _has_hook(parameter: nn.Parameter) -> bool:
    return bool(parameter._backward_hooks) or bool(getattr(parameter, "_post_accumulate_grad_hooks", None))


def _layers(seen: _Seen) -> Layers:
    indices = seen.moved | seen.adapted
    if seen.trainable and seen.all_train:
        return "all"
    if seen.blocks is None:
        return "unknown" if {"adapter", "other"} & set(seen.groups) else "none"
    return _layers_word(indices, len(seen.blocks))


def _layers_word(indices: Iterable[int], count: int) -> Layers:
    moving = set(indices)
    if not moving:
        return "none"
    if len(moving) == count:
        return "all"
    words: tuple[tuple[Layers, int], ...] = (("odd", 1), ("even", 0))
    return next((word for word, first in words if moving == set(range(first, count, 2))), "some")


def _adapter(seen: _Seen) -> Adapter:
    if not seen.adapter_trains:
        return "none"
    kinds = set(map(kind, seen.configs)) - {ONLY_ROWS}
    if not kinds:
        return "unknown"
    return "lora" if kinds == {LORA} else "other"


def _tied(view: ModelParts, seen: _Seen) -> Tied:
    if not seen.has_head:
        return "no head"
    if seen.input.weight is None or seen.output.weight is None:
        return "unknown"
    if seen.input.same_as(seen.output):
        return "tied"
    return "silently untied" if wants_tied(view.base) else "untied"


class RowHold:
    """Sets the gradient of the first rows to zero, where it has been added up and before anyone reads it.

    With a gradient that was always zero no optimizer moves a row, unless it decays weights: then it moves every row.

    Args:
        first_row: The first row that moves.
    """

    def __init__(self, first_row: int) -> None:
        self.first_row = first_row

    def __call__(self, parameter: Tensor) -> None:
        """In place: a copy of the gradient of a large vocabulary would take as much memory once more."""
        if parameter.grad is not None:
            parameter.grad[: self.first_row] = 0


def hold_rows(parameter: nn.Parameter, first_row: int) -> None:
    """Let only the rows from one on move; what held rows of it before is taken off."""
    release_rows(parameter)
    parameter.register_post_accumulate_grad_hook(RowHold(first_row))


def release_rows(parameter: nn.Parameter) -> None:
    """Let all rows move again."""
    hooks = _hooks(parameter)
    for key in [key for key, hook in hooks.items() if isinstance(hook, RowHold)]:
        del hooks[key]


def held_rows(parameter: nn.Parameter) -> int | None:
    """The first row that moves; None where nothing of this module holds any."""
    return next((hook.first_row for hook in _hooks(parameter).values() if isinstance(hook, RowHold)), None)


def moving_numbers(parameter: nn.Parameter) -> int:
    """Numbers of a trained parameter that can move: those of held rows cannot."""
    first = held_rows(parameter)
    return parameter.numel() if first is None else parameter[first:].numel()


def _hooks(parameter: nn.Parameter) -> dict[Any, Any]:
    found: dict[Any, Any] | None = getattr(parameter, "_post_accumulate_grad_hooks", None)
    return {} if found is None else found
