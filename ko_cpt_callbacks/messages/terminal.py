"""Text fit for a terminal: what may be printed, how wide it is, and how it becomes shorter."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

__all__ = ["CUT", "columns", "encodable", "printable", "shortened", "shortened_list", "sparkline", "wrapped"]

CUT: Final = "…"
"""Stands where text is left out."""

_BARS: Final = "▁▂▃▄▅▆▇█"
_NO_NUMBER: Final = "×"
# What stands for a sign where the stream has no such character.
_PLAIN: Final = {
    "→": "->", "±": "+-", "·": "-", CUT: "...", _NO_NUMBER: "x", "σ": "sigma", "–": "-", "≤": "<=",
    **dict(zip(_BARS, "_.,-~=*#", strict=True)),
}  # fmt: skip
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


def shortened_list(names: Sequence[str], room: int, between: str = ", ") -> str:
    """As many of the names as fit into ``room`` columns, with a mark where some are left out.

    >>> shortened_list(["embed_tokens", "lm_head", "norm"], 24), shortened_list(["model.embed_tokens"], 12)
    ('embed_tokens, lm_head, …', 'model.embed…')
    """
    for count in range(len(names), 0, -1):
        text = between.join([*names[:count], *([CUT] if count < len(names) else [])])
        if columns(text) <= room:
            return text
    return shortened(names[0], room) if names else ""


def wrapped(text: str, width: int, hanging: str = "  ") -> list[str]:
    """The text on lines of at most ``width`` columns, broken between words; a longer word stands on a line of its own.

    Args:
        text: One line. It keeps its first blanks: in a table they are empty cells.
        width: Columns.
        hanging: What the second line and those after it begin with.

    >>> wrapped("loss 2.913 → 3.306", 12), wrapped("손실이 한 번에 올랐습니다", 14)
    (['loss 2.913 →', '  3.306'], ['손실이 한 번에', '  올랐습니다'])
    """
    bare = text.lstrip(" ")
    first, *words = bare.split(" ")
    lines = [" " * (len(text) - len(bare)) + first]
    for word in words:
        longer = f"{lines[-1]} {word}"
        if columns(longer) > width:
            lines.append(hanging + word)
        else:
            lines[-1] = longer
    return lines


def sparkline(values: Sequence[float | None], width: int) -> str:
    """A curve in at most ``width`` characters, each as high as the highest of its values, so that a spike stays.

    Args:
        values: None, or no finite number: what was logged is no number.
        width: Characters, 1 or more.

    >>> sparkline([3.0, 2.0, 1.5, 1.25, 1.0], 5), sparkline([1.0, None, 1.0], 3)
    ('█▅▃▂▁', '▁×▁')
    """
    finite = [value for value in values if value is not None and math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    count = min(width, len(values))
    shown = ""
    for at in range(count):
        part = values[at * len(values) // count : (at + 1) * len(values) // count]
        numbers = [value for value in part if value is not None and math.isfinite(value)]
        if len(numbers) < len(part):
            shown += _NO_NUMBER
        else:
            share = (max(numbers) / 2 - low / 2) / (high / 2 - low / 2) if high / 2 > low / 2 else 0.0
            shown += _BARS[round(share * (len(_BARS) - 1))]
    return shown


def encodable(text: str, encoding: str | None) -> str:
    r"""The text as a stream of this encoding can show it: known signs in ASCII, other characters by their code.

    >>> encodable("loss 3.078 ± 0.041 → 손", "ascii")
    'loss 3.078 +- 0.041 -> \\uc190'
    """
    encoding = encoding or "utf-8"
    shown = ""
    for char in text:
        try:
            char.encode(encoding)
            shown += char
        except UnicodeEncodeError:
            shown += _PLAIN.get(char, char)
    return shown.encode(encoding, "backslashreplace").decode(encoding)
