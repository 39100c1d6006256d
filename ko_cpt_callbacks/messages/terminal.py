"""Text fit for a terminal: what may be printed, how wide it is, and how it becomes shorter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["CUT", "columns", "printable", "shortened", "shortened_list"]

CUT: Final = "…"
"""Stands where text is left out."""

_OPEN_NUMBER: Final = re.compile(r"[+-]?\d[\d.,]*$")


def printable(text: str) -> str:
    r"""The text on one line, without what would move the cursor, color the terminal or turn the reading around.

    >>> printable("a\nb\x1b[31m한")
    'a\\nb\\x1b[31m한'
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def columns(text: str) -> int:
    """How many terminal columns the text fills: a Hangul syllable fills two.

    >>> columns("loss"), columns("손실"), columns("→ 2.9 σ")
    (4, 4, 7)
    """
    from rich.cells import cell_len  # not at the top: looking a baseline up shows nothing

    return cell_len(text)


def shortened(text: str, room: int) -> str:
    """The text in at most ``room`` columns, with a mark where it ends early. A number is left out, never cut.

    Args:
        text: One line.
        room: Columns, 1 or more.

    >>> shortened("eval_legal_texts", 11), shortened("found 1234 rows", 9), shortened("한국어 문서", 7)
    ('eval_legal…', 'found…', '한국어…')
    """
    if columns(text) <= room:
        return text
    end = 0
    filled = columns(CUT)
    while end < len(text) and filled + columns(text[end]) <= room:
        filled += columns(text[end])
        end += 1
    kept = text[:end]
    if text[end].isdigit() or (text[end] in ".," and text[end + 1 : end + 2].isdigit()):
        kept = _OPEN_NUMBER.sub("", kept)
    return kept.rstrip(" ,.(_-") + CUT


def shortened_list(names: Sequence[str], room: int) -> str:
    """As many of the names as fit into ``room`` columns, with a mark where some are left out.

    >>> shortened_list(["embed_tokens", "lm_head", "norm"], 24), shortened_list(["model.embed_tokens"], 12)
    ('embed_tokens, lm_head, …', 'model.embed…')
    """
    for count in range(len(names), 0, -1):
        text = ", ".join([*names[:count], *([CUT] if count < len(names) else [])])
        if columns(text) <= room:
            return text
    return shortened(names[0], room) if names else ""
