"""The files that come with the package: recipes and texts."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from ko_cpt_callbacks.errors import RecipeError

_LONGEST_LINK: Final = 200
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
    """Ids of the bundled recipes, sorted: the names of the files."""
    names = (file.name for file in bundled_folder().iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))
