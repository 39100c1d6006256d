"""Recipes as a terminal shows them: the list, and the memory that one needs, term by term."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.recipe.family import NotCountedError, count_page
from ko_cpt_callbacks.recipe.installed import installed_folder
from ko_cpt_callbacks.recipe.memory import GIB, Sharding, StageMemory, recipe_memory
from ko_cpt_callbacks.recipe.parameter_count import ParameterCount
from ko_cpt_callbacks.recipe.reading import RecipeFile
from ko_cpt_callbacks.recipe.schema import Page

__all__ = ["gibibytes", "list_page", "memory_of", "memory_page", "needs", "numbers_of"]

_SHARED: Final[dict[Sharding, str]] = {
    "none": "each GPU has the whole model (DDP)",
    "zero2": "gradients and optimizer state are shared (ZeRO-2)",
    "full": "weights too are shared (FSDP, ZeRO-3)",
}


def gibibytes(number: int) -> str:
    """Bytes in GiB, to a tenth."""
    return f"{number / GIB:.1f}"


def memory_of(file: RecipeFile, gpus: int = 1, sharding: Sharding = "none") -> tuple[StageMemory, ...]:
    """What each stage of a recipe needs of each GPU, its numbers counted in the model where that is a folder.

    Raises:
        NotCountedError: If they cannot be counted, and do not follow from the shape.
        ConfigurationError: If the recipe cannot be used on the model.
    """
    page, count = numbers_of(file)
    return recipe_memory(page, count, gpus=gpus, sharding=sharding)


def numbers_of(file: RecipeFile) -> tuple[Page, ParameterCount]:
    """The numbers of a recipe's model when its stages begin, and the recipe with its shape: see `memory_of`."""
    if file.base.folder is not None and installed_folder() is not None:
        with suppress(ImportError):  # torch, or what transformers needs, is not there
            from ko_cpt_callbacks.training.model.config import read_base

            page, _, count = read_base(file.recipe, file.path.parent)
            return page, count
    config = file.base.config
    if config is not None and config.shape is not None and config.unusual:
        raise NotCountedError(
            f"not estimated: found {', '.join(config.unusual)} in the config.json of {file.recipe.base.model}, of "
            "which the numbers do not follow; with torch and transformers they are counted in the model"
        )
    return file.recipe, count_page(file.recipe)


def needs(file: RecipeFile) -> int | None:
    """Bytes of the stage that needs most of one GPU; None where that cannot be estimated."""
    try:
        return max(memory.bytes for memory in memory_of(file))
    except NotCountedError:
        return None


def list_page(files: Iterable[RecipeFile]) -> RenderableType:
    """All recipes, one a row."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title in ("id", "what", "stages", "GiB on one GPU"):
        table.add_column(title, overflow="fold", no_wrap=title == "id", justify="right" if "GiB" in title else "left")
    for file in files:
        page = file.recipe
        needed = needs(file)
        row = (page.id, page.title, ", ".join(page.stages), "?" if needed is None else gibibytes(needed))
        table.add_row(*(Text(printable(cell)) for cell in row))
    return Group(
        table,
        Text(),
        Text("ko-cpt recipes show ID prints one, --gpu-memory the terms of its memory; --gpus N --sharding full for"),
        Text("several cards. ko-cpt recipes copy ID makes one your own, ko-cpt validate FILE checks it."),
    )


def memory_page(page: Page, found: Sequence[StageMemory]) -> RenderableType:
    """What each stage needs of each GPU, and why."""
    first = found[0]
    cards = "one GPU" if first.gpus == 1 else f"each of {first.gpus} GPUs: {_SHARED[first.sharding]}"
    parts: list[RenderableType] = [Text(printable(f"{page.id}: {page.title}")), Text(f"GiB of {cards}")]
    for memory in found:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="fold")
        for term in memory.terms:
            size = gibibytes(term.bytes)
            how = term.how if term.counted else f"{term.how}: not at the same time, and less"
            table.add_row(Text(f"  {term.name}"), Text(size if term.counted else f"({size})"), Text(how))
        table.add_row(Text("  all"), Text(gibibytes(memory.bytes)), Text(f"{memory.trainable:,} numbers are trained"))
        parts += [Text(), Text(printable(memory.stage)), table]
    parts += [Text(), Text("From shapes and settings; no weight was loaded. Measure before you rent.")]
    return Group(*parts)
