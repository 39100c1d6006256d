"""How a command tells what it cannot do: on stderr, a line for every mistake, behind the command's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NoReturn

import typer

from ko_cpt_callbacks.cli.printable import let_print_anything
from ko_cpt_callbacks.errors import KoCPTError
from ko_cpt_callbacks.messages.terminal import printable

__all__ = ["complain", "fail", "guarded", "print_json"]

_WRONG: Final = 2


def guarded(command: str, action: Callable[[], None]) -> None:
    """Do something; where it cannot be done, say why and leave with status 2.

    Args:
        command: As it was called, without ``ko-cpt``: ``recipes show``.
        action: What to do.
    """
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
    """Say what is wrong."""
    for line in str(error).splitlines():
        typer.echo(f"ko-cpt {command}: {printable(line)}", err=True)


def print_json(value: Any) -> None:
    """JSON on stdout; ASCII, whatever a file's texts hold, and wherever this is piped to."""
    typer.echo(json.dumps(value, allow_nan=False, indent=2))
