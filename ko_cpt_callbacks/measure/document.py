"""What one document came to under a model, as a line of a file; all of them together as the sums of an evaluation.

Where the bits of a text are: by script and by position the losses of its tokens are spread over their bytes.

A token of several scripts (`` 5월``) is shared out by its bytes, one that is a part of a character counts with the
character. By vocabulary a token is whole. So the sums over the parts are the sums over the tokens.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from ko_cpt_callbacks.hf.measure.evidence import LossEvidence
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE
from ko_cpt_callbacks.hf.measure.row_reader import BatchRecord, TokenTable
from ko_cpt_callbacks.hf.tokenizer.token_bytes import row_byte_lengths, row_text
from ko_cpt_callbacks.metrics.row_sums import HASH_WORDS, RowSums
from ko_cpt_callbacks.training.data.encode import Document

__all__ = ["CAUSAL", "PARTS", "DocumentReader", "DocumentSums", "PartSums", "SplitBy", "part_sums", "row_sums"]

class SplitBy(StrEnum):
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

PARTS: Final[Mapping[SplitBy, tuple[str, ...]]] = {
    SplitBy.SCRIPT: _SCRIPTS,
    SplitBy.POSITION: _POSITIONS,
    SplitBy.VOCABULARY: _ROWS,
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
) -> dict[SplitBy, PartSums]:
    """Nats and bytes of the tokens of a document by each of `SplitBy`.

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
    found: dict[SplitBy, PartSums] = {}
    positions = np.searchsorted(_STARTS, np.arange(len(scripts)), side="right")
    for by, of_bytes in ((SplitBy.SCRIPT, scripts), (SplitBy.POSITION, positions)):
        if known:
            found[by] = _spread(PARTS[by], nll, scored, lengths, of_bytes)
        else:
            found[by] = {_NO_TEXT: (float(nll[scored].sum()), 0)}
    if old_rows is not None:
        sizes = np.where(scored, np.maximum(lengths, 0), 0)
        found[SplitBy.VOCABULARY] = {
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


CAUSAL: Final = "causal"
"""How the logits of a measured model and its labels belong together."""


@dataclass(frozen=True, slots=True)
class DocumentSums:
    """One document under one model.

    Attributes:
        set: Its set's name.
        id: Its own.
        nll: Summed loss of its scored tokens, nats.
        tokens: Those tokens.
        bytes: UTF-8 bytes that they stand for; -1 where they are not known.
        hash: Of its text, as an evaluation's row has it; hexadecimal digits.
        flags: Of its row (`metrics.row_sums`).
        text_bytes: UTF-8 bytes of the document as it was given.
        characters: Its characters.
        parts: Nats and bytes by script, position and vocabulary.
    """

    set: str
    id: str
    nll: float
    tokens: int
    bytes: int
    hash: str
    flags: int
    text_bytes: int
    characters: int
    parts: Mapping[SplitBy, PartSums]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, line: dict[str, Any]) -> DocumentSums:
        """The inverse of `as_dict`; numbers that JSON has no word for come as their text.

        Raises:
            ValueError, TypeError, KeyError: If the line is another's.
        """
        parts = {
            SplitBy(by): {str(name): (float(nats), int(size)) for name, (nats, size) in sums.items()}
            for by, sums in line["parts"].items()
        }
        return cls(**{**line, "nll": float(line["nll"]), "parts": parts})


class DocumentReader:
    """Sums up documents as the callback sums up the rows of an evaluation.

    Args:
        table: Bytes of the token ids.
        prefix: The token in front of a text; None where the tokenizer has none.
        old_rows: Rows of the old vocabulary; None where it is not known.
    """

    def __init__(self, table: TokenTable, prefix: int | None, old_rows: int | None = None) -> None:
        self._table, self._reader = table.table, table.reader()
        self._front = [] if prefix is None else [prefix]
        self._old_rows = old_rows

    def read(self, set: str, document: Document, ids: Sequence[int], nll: NDArray[np.float64]) -> DocumentSums:
        """The sums of a document.

        Args:
            set: Its set's name.
            document: What it says.
            ids: Its token ids, without the one in front.
            nll: Their losses, NaN where one is not scored.
        """
        whole = torch.tensor([[*self._front, *ids]], dtype=torch.long)
        losses = torch.from_numpy(np.concatenate([np.full(len(self._front), np.nan), nll]))[None]
        labels, losses = whole.masked_fill(losses.isnan(), IGNORE), losses.masked_fill(losses.isnan(), 0.0)
        evidence = LossEvidence("logits", nll=losses, labels=labels)
        rows = self._reader.read(BatchRecord(evidence, whole, None, None, 0), None)
        return DocumentSums(  # of no row, or of one
            set=set,
            id=document.id,
            nll=float(rows.nll.sum()),
            tokens=int(rows.tokens.sum()),
            bytes=int(rows.bytes.sum()),
            hash=rows.hash.astype("<u8").tobytes().hex(),
            flags=int(rows.flags.sum()),
            text_bytes=document.size,
            characters=len(document.text),
            parts=self._parts(whole.numpy()[0], nll) if len(rows) else {},
        )

    def _parts(self, whole: NDArray[Any], nll: NDArray[np.float64]) -> dict[SplitBy, PartSums]:
        ids = whole[len(self._front) :]
        if self._table is None:
            return part_sums(nll, np.full(len(nll), -1), b"", ids, self._old_rows)
        lengths = row_byte_lengths(self._table, whole)[len(self._front) :]
        return part_sums(nll, lengths, row_text(self._table, whole), ids, self._old_rows)


def row_sums(documents: Sequence[DocumentSums]) -> RowSums:
    """Documents as the rows of an evaluation, in their order; those without a token are none."""
    kept = [item for item in documents if item.hash]
    return RowSums(
        nll=np.array([item.nll for item in kept], dtype=np.float64),
        tokens=np.array([item.tokens for item in kept], dtype=np.int64),
        bytes=np.array([item.bytes for item in kept], dtype=np.int64),
        hash=np.frombuffer(b"".join(bytes.fromhex(item.hash) for item in kept), dtype="<u8").reshape(-1, HASH_WORDS),
        order=np.array([(0, 0, at) for at in range(len(kept))], dtype=np.int64).reshape(-1, 3),
        flags=np.array([item.flags for item in kept], dtype=np.uint8),
    )
