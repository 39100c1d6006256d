"""Text of a path or a file, fit for a terminal."""

from __future__ import annotations

import sys

__all__ = ["let_print_anything", "printable"]


def printable(text: str) -> str:
    r"""The text on one line, without what would move the cursor or colour the terminal.

    >>> printable("a\nb\x1b[31m한")
    'a\\nb\\x1b[31m한'
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def let_print_anything() -> None:
    """Let a stream that cannot show a character show its code instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
