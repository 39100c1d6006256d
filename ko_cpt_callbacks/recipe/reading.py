"""A recipe's file to a recipe, or every mistake in it at once. Nothing is loaded, and torch is not needed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks.errors import RecipeError
from ko_cpt_callbacks.recipe.bundle import bundled_folder, recipe_ids
from ko_cpt_callbacks.recipe.checks import agreement_mistakes
from ko_cpt_callbacks.recipe.override import OPTION, override
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.yaml.mistake import Key, Mistake, dotted, near_miss, shown
from ko_cpt_callbacks.yaml.reading import Document, read_document, read_text
from ko_cpt_callbacks.yaml.shape import line_of, shape_mistakes

MAX_BYTES: Final = 65_536
"""The largest recipe that is read; chosen, not measured: a page of YAML has a few thousand bytes."""

_WHAT: Final = "a recipe"
_NAME_SHOWN: Final = 200  # letters of a name that is none


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
            origin = OPTION if dotted(key) in self.overrides else None
            told.append(Mistake(key, line_of(self.document, key), found, expected, near, origin))
        return _error(told, str(self.path))


def find_recipe(name: str) -> Path:
    """The file of a recipe.

    Args:
        name: The id of a bundled recipe, or the path of a file.

    Raises:
        RecipeError: If there is none.
    """
    try:
        known = recipe_ids()
    except RecipeError:  # a file of the user's own needs no bundled ones
        if os.path.isfile(name):
            return Path(name)
        raise
    if name in known:
        return Path(str(bundled_folder() / f"{name}.yaml"))
    if os.path.isfile(name):  # of a name that no file can have, Path.is_file raises an error
        return Path(name)
    if len(name) > _NAME_SHOWN:
        name = f"{name[:_NAME_SHOWN]}…"
    near = near_miss(name, known)
    hint = "" if near is None else f" Did you mean {near}?"
    raise RecipeError(f"recipe {name}: found no such id or file, expected one of {', '.join(known)}, or a path.{hint}")


def recipe_text(path: Path, *, as_it_is: bool = False) -> str:
    """The text of a recipe's file.

    Args:
        path: The file.
        as_it_is: Whether a byte order mark at the beginning is kept: for a copy.

    Raises:
        RecipeError: If it cannot be read, is too large, or is no UTF-8.
    """
    return read_text(path, MAX_BYTES, RecipeError, _WHAT, f"{_WHAT} of a page or two", as_it_is=as_it_is)


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> RecipeFile:
    """The recipe of a file.

    Args:
        path: The file.
        overrides: ``key=value`` texts: a dotted key such as ``stages.lora.lora.r``, and a value in YAML. A single
            text is one.

    Raises:
        RecipeError: If it cannot be used. It tells every mistake, one a line: file and line, key, what was found,
            what is expected, and what was probably meant.
    """
    file = str(path)
    document = read_document(recipe_text(path), _WHAT)
    if document.values is None:
        raise _error(document.mistakes or [Mistake((), 1, "an empty file", _WHAT)], file)
    if not isinstance(document.values, dict):
        raise _error([*document.mistakes, Mistake((), 1, shown(document.values), "a mapping")], file)
    document, done = override(document, overrides)
    recipe, mistakes = shape_mistakes(Page, document)
    told = [*document.mistakes, *mistakes, *agreement_mistakes(document, done.values), *_id_mistakes(document, path)]
    if told or recipe is None:
        raise _error(done.once(told), file)
    return RecipeFile(path, recipe, document, {dotted(key): value for key, value in done.values.items()})


def _id_mistakes(document: Document, path: Path) -> Iterator[Mistake]:
    """An id is its file's name."""
    id = document.values.get("id")
    if isinstance(id, str) and id != path.stem:
        yield Mistake(("id",), line_of(document, ("id",)), shown(id), f"the file's name {path.stem}")


def _error(mistakes: Iterable[Mistake], file: str) -> RecipeError:
    return RecipeError("\n".join(mistake.sentence(file) for mistake in mistakes))
