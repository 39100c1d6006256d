"""Where the bits of a text are: the losses of its tokens, spread over the bytes that they stand for, by script.

A token of several scripts (`` 5월``) is shared out by its bytes, one that is a part of a character counts with the
character. So the sums over the scripts are the sums over the tokens.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["SCRIPTS", "ScriptSums", "script_sums"]

SCRIPTS: Final = ("hangul", "jamo", "hanja", "latin", "digit", "space", "punctuation", "other", "no text")
"""Hangul syllables, letters of Hangul that stand alone, Chinese characters, Latin letters, digits of any script, white
space, punctuation with symbols, anything else; and tokens that stand for no byte, or for bytes that are not known."""

ScriptSums = Mapping[str, tuple[float, int]]
"""By script: nats, and UTF-8 bytes that were scored."""

_RANGES: Final = {
    "hangul": ((0xAC00, 0xD7A3),),
    "jamo": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xD7B0, 0xD7FF), (0xFFA0, 0xFFDC)),
    "hanja": ((0x2E80, 0x2FDF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
}
_NO_TEXT: Final = SCRIPTS.index("no text")


def _script_of(character: str) -> int:
    code, category = ord(character), unicodedata.category(character)
    for name, ranges in _RANGES.items():
        if any(first <= code <= last for first, last in ranges):
            return SCRIPTS.index(name)
    if category == "Nd":
        return SCRIPTS.index("digit")
    if character.isspace():
        return SCRIPTS.index("space")
    if category[0] in "PS":
        return SCRIPTS.index("punctuation")
    if category[0] == "L" and unicodedata.name(character, "").startswith(("LATIN", "FULLWIDTH LATIN")):
        return SCRIPTS.index("latin")
    return SCRIPTS.index("other")


def _byte_scripts(text: str) -> NDArray[np.intp]:
    """The script of every UTF-8 byte of a text."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    known, where = np.unique(points, return_inverse=True)
    scripts = np.array([_script_of(chr(point)) for point in known], dtype=np.intp)
    sizes = np.array([len(chr(point).encode()) for point in known], dtype=np.intp)
    return np.repeat(scripts[where], sizes[where])


def script_sums(nll: NDArray[np.float64], lengths: NDArray[np.int64], text: bytes) -> ScriptSums:
    """Nats and bytes of the tokens of a document by script.

    Args:
        nll: Loss of each token, NaN where it is not scored.
        lengths: UTF-8 bytes that each stands for; negative where they are not known.
        text: The bytes that the tokens stand for together, not those of another text.

    Returns:
        The scripts that occur, in the order of `SCRIPTS`. Where a token's bytes are not known, or they are not the
        text, everything is ``no text``.
    """
    scored = ~np.isnan(nll)
    try:
        scripts = _byte_scripts(text.decode())
    except UnicodeDecodeError:
        scripts = np.zeros(0, dtype=np.intp)
    if bool((lengths < 0).any()) or int(lengths.sum()) != len(scripts):
        return {SCRIPTS[_NO_TEXT]: (float(nll[scored].sum()), 0)}
    counted = np.repeat(scored, lengths)
    shares = np.repeat(np.where(scored, nll, 0.0) / np.maximum(lengths, 1), lengths)
    nats = np.bincount(scripts, weights=shares, minlength=len(SCRIPTS))
    sizes = np.bincount(scripts[counted], minlength=len(SCRIPTS))
    silent = scored & (lengths == 0)
    nats[_NO_TEXT] += nll[silent].sum()
    used = (sizes > 0) | ((np.arange(len(SCRIPTS)) == _NO_TEXT) & bool(silent.any()))
    return {SCRIPTS[at]: (float(nats[at]), int(sizes[at])) for at in np.flatnonzero(used)}
