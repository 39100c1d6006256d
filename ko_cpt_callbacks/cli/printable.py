"""Text of a path or a file, fit for a terminal."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    r"""The text on one line, without what would move the cursor or colour the terminal.

    >>> printable("a\nb\x1b[31m한")
    'a\\nb\\x1b[31m한'
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
