"""Where the bits of a text are: by script and by position the losses of its tokens are spread over their bytes.

A token of several scripts (`` 5월``) is shared out by its bytes, one that is a part of a character counts with the
character. By vocabulary a token is whole. So the sums over the parts are the sums over the tokens.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["PARTS", "PartSums", "Sharing", "part_sums"]


class Sharing(StrEnum):
    """What bits are shared out by."""

    SCRIPT = "script"
    POSITION = "position"
    VOCABULARY = "vocabulary"


_NO_TEXT: Final = "no text"
_SCRIPTS: Final = ("hangul", "jamo", "hanja", "latin", "digit", "space", "punctuation", "other", _NO_TEXT)
"""Hangul syllables, letters of Hangul that stand alone, Chinese characters, Latin letters, digits of any script, white
space, punctuation with symbols, anything else; and tokens that stand for no byte, or for bytes that are not known."""

_STARTS: Final = (64, 256, 1024, 4096, 16384)
"""Bytes of the document before a later part of it begins; chosen, not measured. Of bytes and not of tokens, so that
models of different tokenizers have the same parts."""
_POSITIONS: Final = ("0-64", *(f"{first}-{end}" for first, end in pairwise(_STARTS)), f"{_STARTS[-1]}-", _NO_TEXT)
_ROWS: Final = ("old", "new")

PARTS: Final[Mapping[Sharing, tuple[str, ...]]] = {
    Sharing.SCRIPT: _SCRIPTS,
    Sharing.POSITION: _POSITIONS,
    Sharing.VOCABULARY: _ROWS,
}
"""Their names, in order."""

PartSums = Mapping[str, tuple[float, int]]
"""By part: nats, and UTF-8 bytes that were scored."""

_RANGES: Final = {
    "hangul": ((0xAC00, 0xD7A3),),
    "jamo": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xD7B0, 0xD7FF), (0xFFA0, 0xFFDC)),
    "hanja": ((0x2E80, 0x2FDF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
}


def _script_of(character: str) -> int:
    code, category = ord(character), unicodedata.category(character)
    for name, ranges in _RANGES.items():
        if any(first <= code <= last for first, last in ranges):
            return _SCRIPTS.index(name)
    if category == "Nd":
        return _SCRIPTS.index("digit")
    if character.isspace():
        return _SCRIPTS.index("space")
    if category[0] in "PS":
        return _SCRIPTS.index("punctuation")
    if category[0] == "L" and unicodedata.name(character, "").startswith(("LATIN", "FULLWIDTH LATIN")):
        return _SCRIPTS.index("latin")
    return _SCRIPTS.index("other")


def _byte_scripts(text: str) -> NDArray[np.intp]:
    """The script of every UTF-8 byte of a text."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    known, where = np.unique(points, return_inverse=True)
    scripts = np.array([_script_of(chr(point)) for point in known], dtype=np.intp)
    sizes = np.array([len(chr(point).encode()) for point in known], dtype=np.intp)
    return np.repeat(scripts[where], sizes[where])


def part_sums(
    nll: NDArray[np.float64],
    lengths: NDArray[np.int64],
    text: bytes,
    ids: NDArray[np.int64],
    old_rows: int | None = None,
) -> dict[Sharing, PartSums]:
    """Nats and bytes of the tokens of a document by each of `Sharing`.

    Args:
        nll: Loss of each token, NaN where it is not scored.
        lengths: UTF-8 bytes that each stands for; negative where they are not known.
        text: The bytes that the tokens stand for together, not those of another text.
        ids: Token ids.
        old_rows: Rows of the old vocabulary: ids from there on are new. None: nothing is known of an old one.

    Returns:
        The parts that occur, in the order of `PARTS`. Where a token's bytes are not known, or they are not the text,
        everything is ``no text``. Without ``old_rows`` there is no ``vocabulary``.
    """
    scored = ~np.isnan(nll)
    try:
        scripts = _byte_scripts(text.decode())
    except UnicodeDecodeError:
        scripts = np.zeros(0, dtype=np.intp)
    known = not bool((lengths < 0).any()) and int(lengths.sum()) == len(scripts)
    found: dict[Sharing, PartSums] = {}
    positions = np.searchsorted(_STARTS, np.arange(len(scripts)), side="right")
    for by, of_bytes in ((Sharing.SCRIPT, scripts), (Sharing.POSITION, positions)):
        if known:
            found[by] = _spread(PARTS[by], nll, scored, lengths, of_bytes)
        else:
            found[by] = {_NO_TEXT: (float(nll[scored].sum()), 0)}
    if old_rows is not None:
        sizes = np.where(scored, np.maximum(lengths, 0), 0)
        found[Sharing.VOCABULARY] = {
            name: (float(nll[mine].sum()), int(sizes[mine].sum()))
            for name, mine in zip(_ROWS, (scored & (ids < old_rows), scored & (ids >= old_rows)), strict=True)
            if bool(mine.any())
        }
    return found


def _spread(
    names: tuple[str, ...],
    nll: NDArray[np.float64],
    scored: NDArray[np.bool_],
    lengths: NDArray[np.int64],
    parts: NDArray[np.intp],
) -> PartSums:
    """Losses over the parts that the bytes of their tokens are in; the last part is of tokens without a byte."""
    shares = np.repeat(np.where(scored, nll, 0.0) / np.maximum(lengths, 1), lengths)
    nats = np.bincount(parts, weights=shares, minlength=len(names))
    sizes = np.bincount(parts[np.repeat(scored, lengths)], minlength=len(names))
    silent = scored & (lengths == 0)
    nats[-1] += nll[silent].sum()
    used = sizes > 0
    used[-1] |= bool(silent.any())
    return {names[at]: (float(nats[at]), int(sizes[at])) for at in np.flatnonzero(used)}
