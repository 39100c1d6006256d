"""A recipe's file to a recipe, or every mistake in it at once. Nothing is loaded, and torch is not needed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks.errors import ConfigurationError, RecipeError
from ko_cpt_callbacks.recipe.base_config import LocalBase
from ko_cpt_callbacks.recipe.bundle import bundled_folder, recipe_ids, recipe_path
from ko_cpt_callbacks.recipe.checks import consistency_mistakes, source_mistakes
from ko_cpt_callbacks.recipe.override import OPTION, override, reported_once, with_defaults, without_defaults
from ko_cpt_callbacks.recipe.schema import Defaults, Page
from ko_cpt_callbacks.run.file import write_whole
from ko_cpt_callbacks.yaml.mistake import Mistake, dotted, near_miss, shape_mistakes, shown
from ko_cpt_callbacks.yaml.reading import KeyMistake, YamlDocument, read_document, read_text

__all__ = ["MAX_BYTES", "RecipeFile", "copy_recipe", "find_recipe", "read_recipe", "recipe_text"]

MAX_BYTES: Final = 65_536
"""The largest recipe that is read; chosen, not measured: a page of YAML has a few thousand bytes."""

_WHAT: Final = "a recipe"
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_NAME_SHOWN: Final = 200  # letters of a name that is none


@dataclass(frozen=True)
class RecipeFile:
    """A recipe and where it was read from.

    Attributes:
        path: The file.
        recipe: What it says.
        document: Its raw values with their lines, overrides and defaults applied, with its id.
        overrides: The values that are not the file's, by dotted key.
        base: Its base, where that is a folder.
    """

    path: Path
    recipe: Page
    document: YamlDocument
    overrides: Mapping[str, Any]
    base: LocalBase = field(default_factory=LocalBase)

    def error(self, mistakes: Iterable[KeyMistake]) -> RecipeError:
        """An error about values that only their user can judge.

        Args:
            mistakes: Key, found, expected, near miss.
        """
        placed = [
            replace(item, origin=OPTION) if dotted(item.key) in self.overrides else item
            for item in self.document.placed(mistakes)
        ]
        return _error(reported_once(placed, self.document), str(self.path))


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
        return recipe_path(name)
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


def read_recipe(
    path: Path, overrides: Sequence[str] = (), further: Callable[[Any, Path], Iterable[KeyMistake]] | None = None
) -> RecipeFile:
    """The recipe of a file.

    Args:
        path: The file.
        overrides: ``key=value`` texts: a dotted key such as ``stages.lora.lora.r``, and a value in YAML. A single
            text is one.
        further: What else is asked of the raw values and the folder of a recipe that cannot be used, such as
            `recipe.text_checks.text_mistakes`: so that its mistakes are reported together with the others.

    Raises:
        RecipeError: If it cannot be used. It tells every mistake, one a line: file and line, key, what was found,
            what is expected, and what was probably meant.
    """
    file = str(path)
    document = read_document(recipe_text(path), _WHAT, aliases=True)
    if document.values is None:
        raise _error(document.mistakes or [Mistake((), 1, "an empty file", _WHAT)], file)
    if not isinstance(document.values, dict):
        raise _error([*document.mistakes, Mistake((), 1, shown(document.values), "a mapping")], file)
    document, done = override(document, overrides)
    sourced = list(source_mistakes(document, tuple(done.values))) if is_bundled(path) else []
    document = with_defaults(_with_id(document, path))
    recipe, mistakes = shape_mistakes(Page, document)
    base = LocalBase.of(document.values, path.parent)
    mistakes = [
        *_name_mistakes(document, path),
        *document.mistakes,
        *mistakes,
        *consistency_mistakes(base.with_shape(document), sourced, base.mistakes),
    ]
    if mistakes or recipe is None:
        mistakes += () if further is None else document.placed(further(document.values, path.parent))
        raise _error(done.once(reported_once(mistakes, document)), file)
    recipe = base.completed(recipe).model_copy(update={"defaults": Defaults()})
    given = {dotted(key): value for key, value in done.values.items()}
    return RecipeFile(path, recipe, without_defaults(document), given, base)


def is_bundled(path: Path) -> bool:
    """Whether a file is one of the recipes that come with the package; those say where every number is from."""
    try:
        return path.resolve().parent == Path(str(bundled_folder())).resolve()
    except (RecipeError, OSError):
        return False


def _with_id(document: YamlDocument, path: Path) -> YamlDocument:
    """A document with an id: its own, or the file's name."""
    return document if "id" in document.values else replace(document, values={"id": path.stem, **document.values})


def _name_mistakes(document: YamlDocument, path: Path) -> Iterator[Mistake]:
    """A file whose name is no id has to say one."""
    if ("id",) not in document.lines and document.values["id"] == path.stem and not _NAME.fullmatch(path.stem):
        plain = re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).lstrip("-_0123456789")[:64].rstrip("-_")
        found = f"none, and the file's name, {shown(path.stem)}, cannot be one"
        yield Mistake(("id",), 1, found, "a name of small letters, digits, - and _", f"id: {plain}" if plain else None)


def _error(mistakes: Iterable[Mistake], file: str) -> RecipeError:
    return RecipeError("\n".join(mistake.sentence(file) for mistake in mistakes))


_SUFFIX: Final = ".yaml"

# A line with the id: the key, then a value in either kind of quotation marks or plain, then a comment or nothing.
_ID: Final = re.compile(
    r"""^(?P<key>\ufeff?(?:id|"id"|'id')[ \t]*:[ \t]+)
    (?:(?P<mark>["'])(?:(?!(?P=mark)).)*(?P=mark) | [^\s"'#&*!|>%@`{\[]\S*)
    (?P<rest>(?:[ \t]+\#.*)?\s*)$""",
    re.VERBOSE,
)
# What is no text without quotation marks.
_WORDS: Final = ("true", "false", "null")


def copy_recipe(id: str, target: str | None = None, *, force: bool = False) -> Path:
    """Write a recipe to a place of the user's: with its comments, under the id that its new name asks for.

    Args:
        id: Of a bundled recipe, or a file.
        target: A file, or a folder to put it into; None: the folder where the command runs.
        force: Replace what is there.

    Returns:
        The file.

    Raises:
        RecipeError: If there is no such recipe, or its file cannot be read.
        ConfigurationError: If the place cannot be used, or is taken and ``force`` is not given.
    """
    source = find_recipe(id)
    path = _place(source.stem, target)  # may be too long for the system, of which Path.is_dir would raise an error
    if not _NAME.fullmatch(path.stem) or path.suffix != _SUFFIX:
        raise ConfigurationError(
            f"{path}: found a name that no recipe can have, expected small letters, digits, - and _, the first a "
            f"letter, 64 at most, and {_SUFFIX}: a recipe's id is its file's name"
        )
    if os.path.isdir(path):
        raise ConfigurationError(f"{path}: found a folder, expected a file, or a folder of another name")
    if os.path.lexists(path) and not force:
        raise ConfigurationError(f"{path}: found something there already, expected a new name; or give --force")
    text = recipe_text(source, as_it_is=True)
    try:
        write_whole(path, _renamed(text, source.stem, path).encode())
    except OSError as error:
        raise ConfigurationError(f"{path}: found {error.strerror or error}, expected a place to write to") from None
    return path


def _place(stem: str, target: str | None) -> Path:
    if target is None:
        return Path(f"{stem}{_SUFFIX}")
    if not target:
        raise ConfigurationError("PATH: found an empty text, expected a file or a folder; is a variable unset?")
    path = Path(target)
    return path / f"{stem}{_SUFFIX}" if os.path.isdir(path) or target.endswith(("/", os.sep)) else path


def _renamed(text: str, id: str, path: Path) -> str:
    """The text with the new id, however it is spelled; commands in its comments name the file. The rest stays."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        found = _ID.match(line)
        if found is not None:
            mark = found["mark"] or ('"' if path.stem in _WORDS else "")
            lines[number] = f"{found['key']}{mark}{path.stem}{mark}{found['rest']}"
            break
    old = re.escape(id)
    return re.sub(rf"^(\ufeff?#.*\btrain ){old}(?=\s|$)", rf"\g<1>{path.name}", "\n".join(lines), flags=re.MULTILINE)
