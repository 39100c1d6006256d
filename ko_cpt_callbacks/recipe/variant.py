"""The same recipe with other values, as if its file said so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ko_cpt_callbacks.recipe.reading import RecipeFile
from ko_cpt_callbacks.recipe.schema import Page


def with_values(file: RecipeFile, change: Callable[[dict[str, Any]], None]) -> RecipeFile:
    """A recipe whose raw values were changed in place by a function."""
    values = copy.deepcopy(file.document.values)
    change(values)
    return replace(file, recipe=Page.model_validate(values), document=replace(file.document, values=values))


def each_arguments(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The ``arguments`` of every training of a recipe, the base's own too."""
    found = [stage["arguments"] for stage in values["stages"].values()]
    pretraining = (values["base"].get("build") or {}).get("pretraining")
    return found if pretraining is None else [pretraining["arguments"], *found]


def on_device(file: RecipeFile, device: str) -> RecipeFile:
    """The recipe for a CPU or for GPUs, whatever it says itself.

    Args:
        file: The recipe.
        device: ``cpu`` or ``cuda``.
    """

    def change(values: dict[str, Any]) -> None:
        for arguments in each_arguments(values):
            arguments["use_cpu"] = device == "cpu"

    return with_values(file, change)
