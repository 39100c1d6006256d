"""A page on the terminal, or as plain lines in a file or a pipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from ko_cpt_callbacks.messages.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

__all__ = ["print_page"]


@dataclass(frozen=True)
class _Shown:
    """A page whose every text is printable, whatever a title or a set is called."""

    page: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.page, options):
            if segment.control or segment.text.replace("\n", "").isprintable():
                yield segment
            else:
                yield segment._replace(text="\n".join(map(printable, segment.text.split("\n"))))


def print_page(page: RenderableType, width: int) -> None:
    """Print a page.

    Args:
        page: What to print.
        width: Columns where there is no terminal, whose own width counts otherwise.
    """
    from rich.console import Console  # only for who reads a page

    page = _Shown(page)
    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        console.print(page)
        return
    console.width = width
    with console.capture() as captured:
        console.print(page)
    # rich fills lines up to the width; a file or a pipe wants no such blanks.
    typer.echo("\n".join(line.rstrip() for line in captured.get().split("\n")), nl=False)
