"""Recipes as a terminal shows them: the list, and the memory that one needs, term by term."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.recipe.memory import GIB, Sharding, StageMemory, recipe_memory
from ko_cpt_callbacks.recipe.reading import RecipeFile
from ko_cpt_callbacks.recipe.schema import Page

__all__ = ["gibibytes", "list_page", "memory_page", "needs"]

_SHARED: Final[dict[Sharding, str]] = {
    "none": "each GPU has the whole model (DDP)",
    "zero2": "gradients and optimizer state are shared (ZeRO-2)",
    "full": "weights too are shared (FSDP, ZeRO-3)",
}


def gibibytes(number: int) -> str:
    """Bytes in GiB, to a tenth."""
    return f"{number / GIB:.1f}"


def needs(page: Page, gpus: int = 1, sharding: Sharding = "none") -> int:
    """Bytes of the stage that needs most of each GPU."""
    return max(memory.bytes for memory in recipe_memory(page, gpus=gpus, sharding=sharding))


def list_page(files: Iterable[RecipeFile]) -> RenderableType:
    """All recipes, one a row."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title in ("id", "what", "stages", "GiB on one GPU"):
        table.add_column(title, overflow="fold", no_wrap=title == "id", justify="right" if "GiB" in title else "left")
    for file in files:
        page = file.recipe
        row = (page.id, page.title, ", ".join(page.stages), gibibytes(needs(page)))
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
    parts += [Text(), Text("From shapes and settings; nothing was loaded. Measure before you rent.")]
    return Group(*parts)
