"""A page on the terminal, or as plain lines in a file or a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["print_page"]


def print_page(page: RenderableType, width: int) -> None:
    """Print a page.

    Args:
        page: What to print.
        width: Columns where there is no terminal, whose own width counts otherwise.
    """
    from rich.console import Console  # only for who reads a page

    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        console.print(page)
        return
    console.width = width
    with console.capture() as captured:
        console.print(page)
    # rich fills lines up to the width; a file or a pipe wants no such blanks.
    typer.echo("\n".join(line.rstrip() for line in captured.get().split("\n")), nl=False)
