"""A recipe's ``arguments`` as TrainingArguments, checked against the installed class before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from transformers import TrainingArguments

from ko_cpt_callbacks.document.mistake import Key, near_miss
from ko_cpt_callbacks.recipe.reading import RecipeFile
from ko_cpt_callbacks.recipe.schema import Recipe

# What the runner decides: where things go, and how they are shown and repeated.
_OWN: Final = ("output_dir", "seed", "data_seed", "disable_tqdm", "resume_from_checkpoint", "push_to_hub")


def check_arguments(file: RecipeFile) -> None:
    """Every name is an argument of the installed transformers, and together they can be used.

    Raises:
        RecipeError: If not; all mistakes together.
    """
    known = [item.name for item in fields(TrainingArguments) if item.init and item.name not in _OWN]
    wrong = [mistake for key, arguments in _all(file.recipe) for mistake in _names(key, arguments, known)]
    if wrong:
        raise file.error(wrong)
    for key, arguments in _all(file.recipe):
        try:
            training_arguments(arguments, Path("unused"), file.recipe.seed)
        except (TypeError, ValueError, ImportError) as error:
            reason = " ".join(str(error).split())
            raise file.error([(key, f"arguments that cannot be used ({reason})", "others", None)]) from error


def training_arguments(arguments: dict[str, Any], output_dir: Path, seed: int) -> TrainingArguments:
    """The arguments of one training; without the Trainer's own progress bar, which prints every row."""
    return TrainingArguments(output_dir=str(output_dir), seed=seed, disable_tqdm=True, **arguments)


def _all(recipe: Recipe) -> Iterator[tuple[Key, dict[str, Any]]]:
    yield ("base", "build", "arguments"), recipe.base.build.arguments
    for name, stage in recipe.stages.items():
        yield ("stages", name, "arguments"), stage.arguments


def _names(key: Key, arguments: dict[str, Any], known: list[str]) -> Iterator[tuple[Key, str, str, str | None]]:
    for name in arguments:
        if name in _OWN:
            yield (*key, name), "an argument that ko-cpt train sets itself", "none of " + ", ".join(_OWN), None
        elif name not in known:
            expected = "an argument of the installed transformers.TrainingArguments"
            yield (*key, name), "an unknown argument", expected, near_miss(name, known)
