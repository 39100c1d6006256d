"""The files that come with the package: recipes and texts."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def bundled_folder() -> Traversable:
    """The folder of recipes inside the package."""
    return files("ko_cpt_callbacks") / "recipes"


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
