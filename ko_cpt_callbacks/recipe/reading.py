"""A recipe's file to a recipe, or every mistake in it at once. Nothing is loaded, and torch is not needed."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks.document.file_text import read_text
from ko_cpt_callbacks.document.mistake import Key, Mistake, dotted, near_miss, one_each, shown
from ko_cpt_callbacks.document.shape import line_of, shape_mistakes
from ko_cpt_callbacks.document.yaml_text import Document, read_document
from ko_cpt_callbacks.errors import RecipeError
from ko_cpt_callbacks.recipe.agreement import agreement_mistakes
from ko_cpt_callbacks.recipe.bundle import bundled_folder, recipe_ids
from ko_cpt_callbacks.recipe.schema import Page

MAX_BYTES: Final = 65_536
"""The largest recipe that is read; chosen, not measured: a page of YAML has a few thousand bytes."""

_WHAT: Final = "a recipe"
_OPTION: Final = "--set"


@dataclass(frozen=True)
class RecipeFile:
    """A recipe and where it was read from.

    Attributes:
        path: The file.
        recipe: What it says.
        document: Its raw values with their lines, overrides applied.
        overrides: The values that are not the file's, by dotted key.
    """

    path: Path
    recipe: Page
    document: Document
    overrides: Mapping[str, Any]

    def error(self, mistakes: Iterable[tuple[Key, str, str, str | None]]) -> RecipeError:
        """An error about values that only their user can judge.

        Args:
            mistakes: Key, found, expected, near miss.
        """
        told = []
        for key, found, expected, near in mistakes:
            origin = _OPTION if dotted(key) in self.overrides else None
            told.append(Mistake(key, line_of(self.document, key), found, expected, near, origin))
        return _error(told, str(self.path))


def find_recipe(name: str) -> Path:
    """The file of a recipe.

    Args:
        name: The id of a bundled recipe, or the path of a file.

    Raises:
        RecipeError: If there is none.
    """
    known = recipe_ids()
    if name in known:
        return Path(str(bundled_folder() / f"{name}.yaml"))
    if Path(name).is_file():
        return Path(name)
    near = near_miss(name, known)
    hint = "" if near is None else f" Did you mean {near}?"
    raise RecipeError(f"recipe {name}: found no such id or file, expected one of {', '.join(known)}, or a path.{hint}")


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> RecipeFile:
    """The recipe of a file.

    Args:
        path: The file.
        overrides: ``key=value`` texts: a dotted key such as ``stages.lora.lora.r``, and a value in YAML.

    Raises:
        RecipeError: If it cannot be used. It tells every mistake, one a line: file and line, key, what was found,
            what is expected, and what was probably meant.
    """
    file = str(path)
    text = read_text(path, MAX_BYTES, RecipeError, _WHAT, f"{_WHAT} of a page or two")
    document = read_document(text, _WHAT)
    if document.values is None:
        raise _error(document.mistakes or [Mistake((), None, "an empty file", _WHAT)], file)
    if not isinstance(document.values, dict):
        raise _error([*document.mistakes, Mistake((), 1, shown(document.values), "a mapping")], file)
    document, changed = _override(document, overrides)
    recipe, mistakes = shape_mistakes(Page, document)
    told = [*document.mistakes, *mistakes, *agreement_mistakes(document, changed)]
    if not told and recipe is not None and path.stem != recipe.id:
        told.append(Mistake(("id",), document.lines[("id",)], shown(recipe.id), f"the file's name {path.stem}"))
    if told or recipe is None:
        raise _error(_once(told, changed), file)
    return RecipeFile(path, recipe, document, {dotted(key): value for key, value in changed.items()})


def _override(document: Document, overrides: Sequence[str]) -> tuple[Document, dict[Key, Any]]:
    """The document with other values, and those values by key."""
    values = copy.deepcopy(document.values)
    changed: dict[Key, Any] = {}
    wrong: list[Mistake] = []
    for text in overrides:
        name, sign, value = text.partition("=")
        parts = tuple(name.strip().split("."))
        if not sign or not all(parts):
            wrong.append(Mistake((), None, shown(text), "KEY=VALUE", "stages.lora.arguments.max_steps=4", _OPTION))
            continue
        read = read_document(value, _WHAT)
        wrong.extend(replace(item, key=parts, origin=_OPTION) for item in read.mistakes)
        at = values
        for depth, part in enumerate(parts[:-1]):
            inner = at.get(part)
            if not isinstance(inner, dict):
                known = [*at]
                expected = f"one of {', '.join(known)}"
                near = near_miss(part, known)
                wrong.append(Mistake(parts[: depth + 1], None, "no mapping", expected, near, _OPTION))
                break
            at = inner
        else:
            at[parts[-1]] = read.values
            changed[parts] = read.values
    return replace(document, values=values, mistakes=(*document.mistakes, *wrong)), changed


def _once(mistakes: Sequence[Mistake], changed: Mapping[Key, Any]) -> list[Mistake]:
    """One mistake a place, the first told, by line; those of overrides say so."""
    # An override that changed nothing says nothing about the value in the file.
    loose = [item for item in mistakes if item.origin is not None and item.key not in changed]
    rest = [item for item in mistakes if item.origin is None or item.key in changed]
    return loose + one_each(
        replace(item, origin=_OPTION) if any(item.key[: len(known)] == known for known in changed) else item
        for item in rest
    )


def _error(mistakes: Iterable[Mistake], file: str) -> RecipeError:
    return RecipeError("\n".join(mistake.sentence(file) for mistake in mistakes))
