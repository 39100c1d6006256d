"""A recipe's ``arguments`` as TrainingArguments, checked against the installed class before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from transformers import TrainingArguments

from ko_cpt_callbacks.document.mistake import Key, near_miss
from ko_cpt_callbacks.errors import RecipeError
from ko_cpt_callbacks.recipe.reading import RecipeFile
from ko_cpt_callbacks.recipe.schema import Page

# What the runner decides: where things go, and how they are shown and repeated.
_OWN: Final = ("output_dir", "seed", "data_seed", "disable_tqdm", "resume_from_checkpoint", "push_to_hub")
_REFUSED: Final = (TypeError, ValueError, ImportError)


def check_arguments(file: RecipeFile) -> None:
    """Every name is an argument of the installed transformers, and together they can be used.

    Raises:
        RecipeError: If not; all mistakes together.
    """
    check_names(file)
    for key, given in _all(file.recipe):
        try:
            training_arguments(given, Path("unused"), file.recipe.seed)
        except _REFUSED as error:
            raise _unusable(file, key, error) from error


def check_names(file: RecipeFile, arguments_class: type[Any] = TrainingArguments) -> None:
    """Every name is an argument of an installed class.

    Args:
        file: The recipe.
        arguments_class: ``TrainingArguments``, or a class made from it.

    Raises:
        RecipeError: If not; all mistakes together.
    """
    known = [item.name for item in fields(arguments_class) if item.init and item.name not in _OWN]
    wrong = [mistake for key, given in _all(file.recipe) for mistake in _names(key, given, known, arguments_class)]
    if wrong:
        raise file.error(wrong)


def stage_arguments(
    file: RecipeFile, stage: str, output_dir: str | Path, arguments_class: type[Any], more: Mapping[str, Any]
) -> Any:
    """The arguments of a stage, unchanged, as an object of a class.

    Args:
        file: The recipe.
        stage: The stage's name.
        output_dir: The stage's folder.
        arguments_class: ``TrainingArguments``, or a class made from it.
        more: Further arguments, or other values.

    Raises:
        RecipeError: If the class does not take them.
    """
    check_names(file, arguments_class)
    given = {"seed": file.recipe.seed, **file.recipe.stages[stage].arguments, **more}
    try:
        return arguments_class(output_dir=str(output_dir), **given)
    except _REFUSED as error:
        raise _unusable(file, ("stages", stage, "arguments"), error) from error


def training_arguments(arguments: dict[str, Any], output_dir: Path, seed: int) -> TrainingArguments:
    """The arguments of one training; without the Trainer's own progress bar, which prints every row."""
    return TrainingArguments(output_dir=str(output_dir), seed=seed, disable_tqdm=True, **arguments)


def _unusable(file: RecipeFile, key: Key, error: Exception) -> RecipeError:
    reason = " ".join(str(error).split())
    return file.error([(key, f"arguments that cannot be used ({reason})", "others", None)])


def _all(page: Page) -> Iterator[tuple[Key, dict[str, Any]]]:
    if page.base.build is not None and page.base.build.pretraining is not None:
        yield ("base", "build", "pretraining", "arguments"), page.base.build.pretraining.arguments
    for name, stage in page.stages.items():
        yield ("stages", name, "arguments"), stage.arguments


def _names(
    key: Key, arguments: dict[str, Any], known: list[str], arguments_class: type[Any]
) -> Iterator[tuple[Key, str, str, str | None]]:
    for name in arguments:
        if name in _OWN:
            yield (*key, name), "an argument that ko-cpt train sets itself", "none of " + ", ".join(_OWN), None
        elif name not in known:
            where = "transformers." if arguments_class is TrainingArguments else ""
            expected = f"an argument of the installed {where}{arguments_class.__name__}"
            yield (*key, name), "an unknown argument", expected, near_miss(name, known)
