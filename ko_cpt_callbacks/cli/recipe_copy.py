"""A bundled recipe as a file of the user's own."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.reading import find_recipe, recipe_text
from ko_cpt_callbacks.run.file import write_whole

__all__ = ["copy_recipe"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
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
    """The text with the new id, however it is spelt; commands in its comments name the file. The rest stays."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        found = _ID.match(line)
        if found is not None:
            mark = found["mark"] or ('"' if path.stem in _WORDS else "")
            lines[number] = f"{found['key']}{mark}{path.stem}{mark}{found['rest']}"
            break
    old = re.escape(id)
    return re.sub(rf"^(\ufeff?#.*\btrain ){old}(?=\s|$)", rf"\g<1>{path.name}", "\n".join(lines), flags=re.MULTILINE)
