"""Which stages share an adapter, and what it has to hold for all of them.

A quantised body cannot take an adapter's product into its weights without loss, and cannot be trained without one:
there the run has one adapter, from the first stage to the last. Elsewhere stages that follow each other with the same
settings share one, and it is merged into the weights before a stage with other settings or without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.recipe.stage_schema import Lora


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter, and what is trained whole beside it while it is there.

    Attributes:
        settings: Of LoRA.
        stages: The stages that share it, in order.
        layers: The layers that one of them moves; None for all.
        input: Whether one of them trains the input embedding, or rows of it.
        output: The same of the head.
    """

    settings: Lora
    stages: tuple[str, ...]
    layers: tuple[int, ...] | None
    input: bool
    output: bool


def stage_lora(page: Page, name: str) -> Lora | None:
    """The settings that a stage's layers move through, where it names another stage those of that one."""
    lora = page.stages[name].lora
    while isinstance(lora, str):
        lora = page.stages[lora].lora
    return lora


def stage_adapter(page: Page, name: str) -> Adapter | None:
    """The adapter that is on the model in a stage; None where there is none.

    Args:
        page: A recipe without mistakes.
        name: Of the stage. Over a quantised body it need not use the adapter itself.
    """
    names = tuple(page.stages)
    if page.base.quantization == "none":
        settings = stage_lora(page, name)
        if settings is None:
            return None
        names = _neighbours(page, names, name, settings)
    else:
        settings = next(found for stage in names if (found := stage_lora(page, stage)) is not None)
    count = page.base.sizes.num_hidden_layers
    moved = {index for stage in names for index in layer_indices(page.stages[stage].trains.layers, count)}
    return Adapter(
        settings,
        names,
        None if len(moved) == count else tuple(sorted(moved)),
        any(page.stages[stage].trains.input != "none" for stage in names),
        any(page.stages[stage].trains.output != "none" for stage in names),
    )


def layer_indices(layers: str | Sequence[int], count: int) -> tuple[int, ...]:
    """The layers that a word stands for, counted from 0.

    >>> layer_indices("odd", 5)
    (1, 3)
    """
    if not isinstance(layers, str):
        return tuple(sorted(layers))
    every: dict[str, Any] = {"none": range(0), "odd": range(1, count, 2), "even": range(0, count, 2)}
    return tuple(every.get(layers, range(count)))


def _neighbours(page: Page, names: Sequence[str], name: str, settings: Lora) -> tuple[str, ...]:
    """The stages around one that follow each other with its settings."""
    place = names.index(name)
    first, last = place, place
    while first > 0 and stage_lora(page, names[first - 1]) == settings:
        first -= 1
    while last + 1 < len(names) and stage_lora(page, names[last + 1]) == settings:
        last += 1
    return tuple(names[first : last + 1])
