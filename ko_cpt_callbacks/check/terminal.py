"""What commands share: options, and what they print: JSON, a page, or on stderr what they cannot do, a line a mistake.

On any stream there is.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

import typer

from ko_cpt_callbacks.errors import BaselineError, ConfigurationError, KoCPTError, RecipeError, near_miss
from ko_cpt_callbacks.messages.catalogue import LANGUAGE_VARIABLE, LANGUAGES
from ko_cpt_callbacks.messages.formatter import WIDTH
from ko_cpt_callbacks.messages.terminal import encodable, printable, wrapped
from ko_cpt_callbacks.run.file import clip
from ko_cpt_callbacks.run.page import PageLine

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

__all__ = [
    "FAMILY", "LANGUAGE", "LANGUAGE_OF_RUN", "LIST_OF_OBJECTS", "ONE_OBJECT", "complain", "contradictory", "fail",
    "guarded", "in_range", "let_print_anything", "one_of", "page_width", "print_folded", "print_json", "print_lines",
    "print_page", "printable_lines", "terminal_width",
]  # fmt: skip

LANGUAGE: Final = typer.Option(metavar="|".join(LANGUAGES), help=f"Language; default: {LANGUAGE_VARIABLE}, else en.")
LANGUAGE_OF_RUN: Final = typer.Option(
    metavar="|".join(LANGUAGES), help=f"Language; default: {LANGUAGE_VARIABLE}, else run.json's."
)
ONE_OBJECT: Final = typer.Option("--json", help="One JSON object instead of text.")
LIST_OF_OBJECTS: Final = typer.Option("--json", help="JSON: a list of objects.")
FAMILY: Final = typer.Option(
    metavar="RUN", help="A finished run of the same set-up: a folder, or an id of yours. Repeatable."
)


def one_of(option: str, value: str | None, known: Sequence[str]) -> None:
    """Refuse a word of an option that is none of those known; one that was not given is fine.

    Raises:
        ConfigurationError: If it is none; names the nearest.
    """
    if value is None or value in known:
        return
    near = near_miss(value, known)
    hint = "" if near is None else f"; did you mean {near}?"
    raise ConfigurationError(f"{option}: found {value!r}, expected one of {', '.join(known)}{hint}")


def contradictory(option: str, beside: str, expected: str) -> ConfigurationError:
    """What is wrong with an option beside one that it contradicts: neither may win without a word.

    Args:
        option: Its name.
        beside: The other one, as it was given.
        expected: What the other one would have to be.
    """
    return ConfigurationError(f"{option}: found with {beside}, expected {expected}; leave one of them out")


def in_range(
    option: str, value: float | None, least: float, most: float, what: str = "a number", *, above: bool = False
) -> None:
    """Refuse a number of an option that is not in its range, as NaN is in none; one that was not given is fine.

    Args:
        option: Its name.
        value: What was given for it.
        least: The least that it may be.
        most: The most.
        what: What it is.
        above: Whether it must be more than the least.

    Raises:
        ConfigurationError: If it is outside.
    """
    if value is None or (least <= value <= most and not (above and value == least)):
        return
    ends = f"above {least:,} and at most {most:,}" if above else f"from {least:,} to {most:,}"
    raise ConfigurationError(f"{option}: found {clip(value)}, expected {what} {ends}")


def printable_lines(text: str) -> str:
    """The same for several lines, which stay lines."""
    return "\n".join(map(printable, text.split("\n")))


def let_print_anything() -> None:
    """Let a stream that cannot show a character show its code instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


_WRONG: Final = 2
_NARROWEST: Final = 40
_COLORS: Final = {
    "ok": "green", "look": "yellow", "stop": "red", "error": "red", "warning": "yellow", "info": "cyan",
}  # fmt: skip


def terminal_width() -> int | None:
    """Columns of the terminal; None of a file or a pipe."""
    return max(_NARROWEST, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None


def page_width() -> int:
    """Columns of the terminal; of a file or a pipe those of a finding's line, so that none is broken there."""
    return terminal_width() or WIDTH


def print_folded(lines: Iterable[str]) -> None:
    """Print lines, on a terminal those that are longer than it is wide broken between words."""
    for line in lines:
        for part in _folded(printable(line)):
            typer.echo(part)


def _folded(line: str) -> list[str]:
    width = terminal_width()
    return [line] if width is None else wrapped(line, width, " " * (2 + len(line) - len(line.lstrip())))


def print_lines(lines: Iterable[PageLine]) -> None:
    """Print a page, in color where a terminal reads and ``NO_COLOR`` is not set; folded as `print_folded` does it."""
    color = None if not os.environ.get("NO_COLOR") else False
    for line in lines:
        bold, dim = line.style in ("bold", "ok", "look", "stop"), line.style == "dim"
        plain = not (bold or dim or line.style)
        for part in _folded(line.text):
            text = encodable(part, sys.stdout.encoding)
            shown = text if plain else typer.style(text, fg=_COLORS.get(line.style), bold=bold, dim=dim)
            typer.echo(shown, color=color)


def guarded(command: str, action: Callable[[], None]) -> None:
    """Do what a command, such as ``recipes show``, does; where it cannot be done, say why and leave with status 2."""
    let_print_anything()
    try:
        action()
    except KoCPTError as error:
        fail(command, error)


def fail(command: str, error: KoCPTError) -> NoReturn:
    """Say what is wrong, and leave with status 2."""
    complain(command, error)
    raise typer.Exit(_WRONG) from None


def complain(command: str, error: KoCPTError) -> None:
    """Say what is wrong: of a recipe or a baseline a line for every mistake."""
    text = str(error)
    for line in text.splitlines() if isinstance(error, (BaselineError, RecipeError)) else [text]:
        typer.echo(f"ko-cpt {command}: {printable(line)}", err=True)


def print_json(value: Any) -> None:
    """JSON on stdout; ASCII, whatever a file's texts hold, and wherever this is piped to."""
    typer.echo(json.dumps(value, allow_nan=False, indent=2))


@dataclass(frozen=True)
class _Shown:
    """A page whose every text is printable, whatever a title or a set is called."""

    page: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.page, options):
            if segment.control or segment.text.replace("\n", "").isprintable():
                yield segment
            else:
                yield segment._replace(text=printable_lines(segment.text))


def print_page(page: RenderableType, width: int) -> None:
    """Print a page: as wide as the terminal, or ``width`` columns where there is none."""
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
