"""Text of a path, a file or a recipe, fit for a terminal. The one way for every line that is printed."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    r"""The text on one line, without what would move the cursor, color the terminal or turn the reading around.

    >>> printable("a\nb\x1b[31m한")
    'a\\nb\\x1b[31m한'
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
