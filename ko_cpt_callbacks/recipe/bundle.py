"""The files of recipes: those that come with the package, with their texts, of other packages, and of the user's own.

A recipe's file is found by an id or a path, read as text, and copied to be changed.
"""

from __future__ import annotations

import os
import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import ConfigurationError, RecipeError, meant, refuse_empty
from ko_cpt_callbacks.plugin import RECIPES, Plugin, folder_file, plugins
from ko_cpt_callbacks.run.file import STATE_FILE, write_whole, writing_failure
from ko_cpt_callbacks.yaml.reading import file_hint, read_text

MAX_BYTES: Final = 65_536
"""The largest recipe that is read; chosen, not measured: a page of YAML has a few thousand bytes."""

WHAT: Final = "a recipe"
NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_NAME_SHOWN: Final = 200  # letters of a name that is none
_LONGEST_LINK: Final = 200
_SUFFIX: Final = ".yaml"
_FIX: Final = (
    "install the wheel, or check the repository out with symbolic links (`git config core.symlinks true`, then `git "
    "checkout -- ko_cpt_callbacks/recipes`); a recipe of your own is named by its path"
)


def bundled_folder() -> Traversable:
    """The folder of recipes inside the package.

    In the repository it is a symbolic link. A checkout without such links (Windows, by default) has a text file in its
    place with the path that it leads to, which is followed.

    Raises:
        RecipeError: If it is not there.
    """
    place = files("ko_cpt_callbacks") / "recipes"
    if place.is_dir():
        return place
    if not place.is_file():
        raise RecipeError(f"{place}: found nothing, expected the bundled recipes; {_FIX}")
    link = place.read_bytes()[: _LONGEST_LINK + 1].decode("utf-8", "replace").strip()
    folder = Path(str(place)).parent / link
    if not link or len(link) > _LONGEST_LINK or "\n" in link or not folder.is_dir():
        raise RecipeError(f"{place}: found a text file, expected the folder of bundled recipes; {_FIX}")
    return folder.resolve()


def bundled_texts() -> tuple[str, ...]:
    """Names of the bundled texts, sorted."""
    names = (file.name for file in (bundled_folder() / "text").iterdir())
    return tuple(sorted(name for name in names if name.endswith((".jsonl", ".txt"))))


def bundled_text(name: str) -> str:
    """What a bundled text says."""
    return (bundled_folder() / "text" / name).read_text(encoding="utf-8")


def recipe_ids() -> tuple[str, ...]:
    """Ids of the bundled recipes, then of those of other packages, each sorted: the names of the files."""
    return (*_bundled_ids(), *(one.name for one in _plugin_recipes()))


def recipe_path(id: str) -> Path:
    """The file of one of `recipe_ids`."""
    added = {one.name: one.value for one in _plugin_recipes()}
    return added.get(id) or Path(str(bundled_folder() / f"{id}{_SUFFIX}"))


def _bundled_ids() -> tuple[str, ...]:
    names = (file.name for file in bundled_folder().iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)))


@cache
def _plugin_recipes() -> tuple[Plugin[Path], ...]:
    return plugins(RECIPES, _bundled_ids(), lambda name, folder: folder_file(folder, f"{name}{_SUFFIX}"))


def is_bundled(path: Path) -> bool:
    """Whether a file is one of the recipes that come with the package; those say where every number is from."""
    try:
        return path.resolve().parent == Path(str(bundled_folder())).resolve()
    except (RecipeError, OSError):
        return False


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
    if os.path.isdir(name):
        hint = _run_hint(Path(name)) or file_hint(Path(name))
        raise RecipeError(f"recipe {name}: found a folder, expected a file, or one of {', '.join(known)}.{hint}")
    hint = meant(name, known)
    raise RecipeError(f"recipe {name}: found no such id or file, expected one of {', '.join(known)}, or a path.{hint}")


def _run_hint(folder: Path) -> str:
    """What takes a folder that is a run's; empty where it is none."""
    run = any(os.path.exists(folder / name) for name in (keys.FOLDER, STATE_FILE))
    return f" It is a run: `ko-cpt check {folder}` judges it." if run else ""


def recipe_text(path: Path, *, as_it_is: bool = False) -> str:
    """The text of a recipe's file.

    Args:
        path: The file.
        as_it_is: Whether a byte order mark at the beginning is kept: for a copy.

    Raises:
        RecipeError: If it cannot be read, is too large, or is no UTF-8.
    """
    return read_text(path, MAX_BYTES, RecipeError, WHAT, f"{WHAT} of a page or two", as_it_is=as_it_is)


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
    if not NAME.fullmatch(path.stem) or path.suffix != _SUFFIX:
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
        raise ConfigurationError(f"{path}: {writing_failure(path, error)}") from None
    return path


def _place(stem: str, target: str | None) -> Path:
    if target is None:
        return Path(f"{stem}{_SUFFIX}")
    refuse_empty("PATH", target, "a file or a folder")
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
