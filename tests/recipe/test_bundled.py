"""Every recipe that comes with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from ko_cpt_callbacks.recipe.bundle import find_recipe, recipe_ids
from ko_cpt_callbacks.recipe.reading import read_recipe

FOLDER = Path(__file__).resolve().parents[2] / "recipes"
FILES = sorted(FOLDER.glob("*.yaml"))


def test_the_folder_is_the_collection() -> None:
    """There are recipes, and those that can be named are the files of the folder, without exception."""
    assert sorted(path.stem for path in FILES) == list(recipe_ids()) != []
    assert sorted(FOLDER.rglob("*.yml")) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_valid(path: Path) -> None:
    """It is read without a mistake, by its id too, and is not too large to be read at a glance."""
    recipe = read_recipe(path).recipe
    assert recipe == read_recipe(find_recipe(path.stem)).recipe
    assert len(path.read_text("utf-8").splitlines()) <= 170


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_explains_itself(path: Path) -> None:
    """It begins with a comment that says what it trains, how it is launched and how a value is changed."""
    header = path.read_text("utf-8").partition("\nid: ")[0]
    assert all(line.startswith("#") or not line for line in header.splitlines())
    assert f"ko-cpt train {path.stem}\n" in header.replace("  ", "\n")
    assert "What it trains" in header
    assert f"ko-cpt train {path.stem} --resume" in header
    assert "--set " in header


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_holds_enough_out(path: Path) -> None:
    """Of the small texts that come with the package at least 30 % is never trained on."""
    data = read_recipe(path).recipe.data
    assert data.held_out >= 0.3 or not any(source.bundled for source in data.sources.values())
