"""The files that come with the package, recipes and texts; recipes of other packages."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from ko_cpt_callbacks.errors import RecipeError
from ko_cpt_callbacks.plugin import RECIPES, Plugin, folder_file, plugins

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
