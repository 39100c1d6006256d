"""Token id -> UTF-8 bytes, one table per vocabulary, so that the bytes of scored text are counted from ids.

Bits per byte needs the bytes of exactly the text that was scored (The Pile, arXiv 2101.00027, section 3.1), and
an evaluation batch holds ids, no text. Special tokens and pads are no text and count zero. A token may hold part
of a character: the parts add up.

Three spaces need care. A tokenizer that writes a space as part of the word (``▁``) puts one of its own in front
of every text; it is counted out where such a token stands first in a row or follows a special token, because
that is where a text begins. After an added token some tokenizers put one too; it is counted out as well. And a
Metaspace step puts none where the text begins with a space already, so that one real space in that place cannot
be kept apart from its own: it is left uncounted (``note`` says so), two or more are counted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ko_cpt_callbacks.hf.tokenizer.fast import read_fast
from ko_cpt_callbacks.hf.tokenizer.reading import Reading, TokenBytesUnavailable, read_slow

__all__ = ["TokenBytes", "TokenBytesUnavailable", "build_token_bytes", "row_byte_lengths", "row_text"]

_CHECKED_IDS = 256  # chosen, not measured: enough to meet every kind of token, a few milliseconds of decoding
_PROBES = ("가 나다\n  a b", "b,c\n\n가")  # begin with no space; hold single and double ones, and line ends
_UNKNOWN_TEXT = "\N{REPLACEMENT CHARACTER}".encode()

Ids = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TokenBytes:
    """The bytes of every id of a vocabulary; arrays are indexed by id.

    Attributes:
        lengths: bytes per id (int64); 0 for special tokens, -1 where unknown (the unknown token, gaps).
        pieces: the bytes themselves; ``b""`` for special and unknown ids.
        special: ids that are no text.
        dummy_prefix: ids whose first byte is a space the tokenizer put there itself when they stand first in a
            text; None where it puts none.
        kind: ``"byte-level"``, ``"sentencepiece"`` or ``"bytes"``.
        note: what keeps the count from being that of the original text, or None where nothing does.
        tokenizer_hash: first 16 hex digits of a sha256 over (id, bytes, special): names the vocabulary.
        text_opens_after: ids after which a text begins (special tokens, some added tokens).
        lone_space: ids that are one space and nothing else, where such a token is the tokenizer's own only if
            one of ``goes_on`` follows; None where it always is.
        goes_on: ids that continue a text with something other than a space.
    """

    lengths: npt.NDArray[np.int64]
    pieces: list[bytes]
    special: Flags
    dummy_prefix: Flags | None
    kind: str
    note: str | None
    tokenizer_hash: str
    text_opens_after: Flags
    lone_space: Flags | None
    goes_on: Flags


def build_token_bytes(tokenizer: Any) -> TokenBytes:
    """Read a tokenizer's vocabulary, and check a sample of it against the tokenizer's own decoding.

    Args:
        tokenizer: a transformers tokenizer, or a processor that holds one as ``.tokenizer``.

    Raises:
        TokenBytesUnavailable: the bytes cannot be known; ``reason`` says why.
    """
    if tokenizer is None:
        raise TokenBytesUnavailable("the Trainer was given no processing_class")
    if not hasattr(tokenizer, "get_vocab"):
        name = type(tokenizer).__name__
        tokenizer = getattr(tokenizer, "tokenizer", None)
        if not hasattr(tokenizer, "get_vocab"):
            raise TokenBytesUnavailable(f"the processing_class ({name}) is no tokenizer and holds none")
    fast = getattr(tokenizer, "backend_tokenizer", None) is not None
    reading = read_fast(tokenizer) if fast else read_slow(tokenizer)
    table = _pack(reading)
    _check_decoding(tokenizer, table, reading)
    if fast and not reading.changes:
        _check_encoding(tokenizer.backend_tokenizer, table)
    return table


def row_byte_lengths(table: TokenBytes, ids: Ids, first_is_start: bool = True) -> npt.NDArray[np.int64]:
    """Bytes of text each token of one row stands for; 0 for special tokens, -1 where unknown.

    Args:
        table: the bytes of the vocabulary.
        ids: token ids of one row, in order, pads included; ids outside the vocabulary are unknown.
        first_is_start: whether a text begins with the first token; False for a row cut out of a longer text.
    """
    ids = np.asarray(ids, dtype=np.int64)
    inside = (ids >= 0) & (ids < len(table.lengths))
    safe = np.where(inside, ids, 0)
    lengths = np.where(inside, table.lengths[safe], -1)
    if table.dummy_prefix is not None and len(ids):
        lengths -= _dummy_spaces(table, safe, inside, first_is_start)
    return lengths


def row_text(table: TokenBytes, ids: Ids, first_is_start: bool = True) -> bytes:
    """The text of one row as bytes: special tokens and the tokenizer's own spaces left out.

    An unknown id is written as U+FFFD, so that a row with one does not look like the row without it. ``ids`` and
    ``first_is_start`` as in :func:`row_byte_lengths`.
    """
    ids = np.asarray(ids, dtype=np.int64)
    inside = (ids >= 0) & (ids < len(table.lengths))
    safe = np.where(inside, ids, 0)
    parts = [table.pieces[index] for index in safe.tolist()]
    if table.dummy_prefix is not None and len(ids):
        for place in np.flatnonzero(_dummy_spaces(table, safe, inside, first_is_start)).tolist():
            parts[place] = parts[place][1:]
    for place in np.flatnonzero(~inside | (table.lengths[safe] < 0)).tolist():
        parts[place] = _UNKNOWN_TEXT
    return b"".join(parts)


def _dummy_spaces(table: TokenBytes, ids: Ids, inside: Flags, first_is_start: bool) -> Flags:
    """Places in a row whose token begins with a space of the tokenizer's own."""
    assert table.dummy_prefix is not None
    starts = np.empty(len(ids), dtype=np.bool_)
    starts[0] = first_is_start
    starts[1:] = table.text_opens_after[ids[:-1]] & inside[:-1]
    dummy: Flags = starts & table.dummy_prefix[ids] & inside
    if table.lone_space is not None:
        continued = np.zeros(len(ids), dtype=np.bool_)
        continued[:-1] = table.goes_on[ids[1:]] | ~inside[1:]
        dummy &= continued | ~table.lone_space[ids]
    return dummy


def _pack(reading: Reading) -> TokenBytes:
    size = 1 + max((*reading.pieces, *reading.special, *reading.added), default=-1)
    pieces = [b""] * size
    lengths = np.full(size, -1, dtype=np.int64)
    for index, piece in reading.pieces.items():
        pieces[index] = piece
    known = np.fromiter(reading.pieces, dtype=np.int64, count=len(reading.pieces))
    lengths[known] = np.fromiter(map(len, reading.pieces.values()), dtype=np.int64, count=len(known))
    special = np.zeros(size, dtype=np.bool_)
    special[list(reading.special)] = True
    lengths[special] = 0
    for index in reading.special:
        pieces[index] = b""
    added = np.zeros(size, dtype=np.bool_)
    added[list(reading.added)] = True
    opens = special.copy()
    opens[list(reading.reopens)] = True
    spaces = np.zeros(size, dtype=np.int64)  # leading ones: none, one, or more
    if reading.prefix != "never":
        spaces[:] = [piece.startswith(b" ") + piece.startswith(b"  ") for piece in pieces]
    dummy = spaces > 0 if reading.prefix == "always" else spaces == 1
    lone = (spaces == 1) & (lengths == 1) & ~added
    dummy[list(reading.added - reading.swallowing)] = False  # cut out first: a space in it is of the text
    return TokenBytes(
        lengths=lengths,
        pieces=pieces,
        special=special,
        dummy_prefix=None if reading.prefix == "never" else dummy,
        kind=reading.kind,
        note=_note(reading),
        tokenizer_hash=_hash(lengths, pieces, special),
        text_opens_after=opens,
        lone_space=lone if reading.prefix == "unless-space" else None,
        goes_on=~added & ~special & (spaces == 0),
    )


def _note(reading: Reading) -> str | None:
    notes = list(reading.notes)
    if reading.changes:
        names = ", ".join(dict.fromkeys(reading.changes))
        notes.insert(0, f"bytes of the text after the tokenizer's own normalisation ({names})")
    if reading.prefix == "unless-space":
        place = " or after an added token" if reading.reopens else ""
        notes.append(f"a single space at the start of a text{place} is not counted: the tokenizer adds one there")
    return "; ".join(notes) or None


def _hash(lengths: npt.NDArray[np.int64], pieces: list[bytes], special: Flags) -> str:
    # Lengths and bytes in order of the ids say the same as a list of (id, bytes, special), in one pass.
    digest = hashlib.sha256(lengths.astype("<i8").tobytes())
    digest.update(special.tobytes())
    digest.update(b"".join(pieces))
    return digest.hexdigest()[:16]


def _check_decoding(tokenizer: Any, table: TokenBytes, reading: Reading) -> None:
    """Compare ordinary tokens with the tokenizer's decoding, each between two others: decoders strip the ends."""
    left_out = reading.special | reading.added | reading.fallback
    if reading.kind == "bytes":
        left_out = reading.special | reading.added

    def text(index: int) -> str:
        return table.pieces[index].decode("utf-8", "replace")

    ordinary = [index for index in reading.pieces if index not in left_out and table.lengths[index] > 0]
    anchor = next((index for index in ordinary if text(index).isalnum()), None)
    if anchor is None:
        raise TokenBytesUnavailable("the vocabulary has no ordinary token to check the table with")
    step = 1 + len(ordinary) // (4 * _CHECKED_IDS)
    readable = [index for index in ordinary[::step] if "\N{REPLACEMENT CHARACTER}" not in text(index)]
    sample = readable[:: 1 + len(readable) // _CHECKED_IDS]
    head = text(anchor)
    for index in sample:
        decoded = tokenizer.decode([anchor, index, anchor], clean_up_tokenization_spaces=False)
        if decoded != f"{head}{text(index)}{head}":
            token = tokenizer.convert_ids_to_tokens(index)
            found = decoded.removeprefix(head).removesuffix(head)
            expected = text(index)
            raise TokenBytesUnavailable(f"token {index} ({token!r}) decodes to {found!r}, the table has {expected!r}")


def _check_encoding(backend: Any, table: TokenBytes) -> None:
    """Encode two short texts and put them together again from the table."""
    if backend.truncation is not None:  # set by the caller, not ours to change, and it may cut the text
        return
    for probe in _PROBES:
        ids = np.asarray(backend.encode(probe, add_special_tokens=False).ids, dtype=np.int64)
        found = row_text(table, ids)
        if _UNKNOWN_TEXT not in found and found != probe.encode():
            text = found.decode("utf-8", "replace")
            raise TokenBytesUnavailable(f"the tokenizer writes {probe!r} as tokens that stand for {text!r}")
