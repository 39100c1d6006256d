"""Text on a terminal: what is printed, and streams that cannot show all of it."""

from __future__ import annotations

import sys

from ko_cpt_callbacks.messages.terminal import printable

__all__ = ["let_print_anything", "printable", "printable_lines"]


def printable_lines(text: str) -> str:
    """The same for several lines, which stay lines."""
    return "\n".join(map(printable, text.split("\n")))


def let_print_anything() -> None:
    """Let a stream that cannot show a character show its code instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
