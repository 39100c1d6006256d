"""What a reader of vocabularies hands over, and the two ways tokenizers write bytes.

*Byte-level*: each byte is one printable character, as in GPT-2. *SentencePiece*: a space is ``▁``, and a byte
without a token of its own is ``<0xAB>``. Anything else is refused with a reason: a guess here would be a wrong
bits per byte.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal

from ko_cpt_callbacks.errors import KoCPTError

__all__ = [
    "CHARACTERS", "UTF8_BYTES", "PieceStore", "Reading", "TokenBytesUnavailable", "byte_fallback",
    "byte_level_piece", "special_ids",
]  # fmt: skip


class PieceStore:
    """Byte strings by index, kept end to end.

    Args:
        pieces: The strings, in order.

    >>> store = PieceStore([b"a", b"", b"bc"])
    >>> store[0], store[1], store[2], len(store)
    (b'a', b'', b'bc', 3)
    """

    __slots__ = ("_bounds", "joined")

    def __init__(self, pieces: Iterable[bytes]) -> None:
        kept = list(pieces)
        self.joined = b"".join(kept)
        self._bounds = array("q", accumulate(map(len, kept), initial=0))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, index: int) -> bytes:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.joined[self._bounds[index] : self._bounds[index + 1]]


# Bytes that occur in UTF-8: C0, C1 and F5..FF never do, so no tokenizer needs a token for them.
UTF8_BYTES = frozenset(range(256)) - {0xC0, 0xC1} - set(range(0xF5, 0x100))
_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenBytesUnavailable(KoCPTError):
    """The bytes of a vocabulary cannot be known; ``reason`` is a plain sentence without a final stop."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Reading:
    """What was read from one tokenizer, before it is packed into arrays.

    ``pieces``: id -> bytes, ids that stand for no known bytes left out. ``special``: ids that are no text.
    ``added``: ids of added tokens that are text. ``swallowing``: those of them that take the tokenizer's own space
    along. ``fallback``: ids that are one raw byte. ``prefix``: whether the
    tokenizer puts a space of its own in front of a text: never, in front of every text, or in front of those
    that do not begin with one. ``reopens``: ids of text after which it does so again. ``changes``: what the
    tokenizer does to the text before it is cut into tokens. ``notes``: other limits, one phrase each.
    """

    kind: str
    pieces: dict[int, bytes]
    special: set[int] = field(default_factory=set)
    added: set[int] = field(default_factory=set)
    swallowing: set[int] = field(default_factory=set)
    fallback: set[int] = field(default_factory=set)
    prefix: Literal["never", "always", "unless-space"] = "never"
    reopens: set[int] = field(default_factory=set)
    changes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _byte_level_alphabet() -> dict[int, int]:
    """Character -> byte of byte-level BPE: printable Latin-1 stands for itself, the rest is shifted past 255."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = [byte for byte in range(256) if byte not in set(printable)]
    table = {byte: byte for byte in printable}
    table.update({256 + place: byte for place, byte in enumerate(shifted)})
    table.update(dict.fromkeys(shifted, 0xFFFF))  # outside the alphabet: makes the Latin-1 encoder refuse
    return table


_ALPHABET = _byte_level_alphabet()
CHARACTERS = {byte: chr(character) for character, byte in _ALPHABET.items()}


def byte_level_piece(token: str) -> bytes:
    """Bytes of a byte-level token; one with a character outside the alphabet is its own UTF-8."""
    try:
        return token.translate(_ALPHABET).encode("latin-1")
    except UnicodeEncodeError:
        return token.encode("utf-8")


def special_ids(tokenizer: Any) -> set[int]:
    """Ids that are no text: the named special tokens, those flagged special, and what else the tokenizer lists.

    transformers 5 lists text among the special tokens when it reads a SentencePiece model with symbols of its
    own (Gemma's runs of spaces): an added token that is flagged as text and has no special role is text.
    """
    roles = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
    named: list[int | None] = [getattr(tokenizer, f"{role}_token_id", None) for role in roles]
    added = tokenizer.added_tokens_decoder
    special = {int(index) for index, token in added.items() if token.special}
    listed = {int(index) for index in tokenizer.all_special_ids}
    return {int(index) for index in named if index is not None} | special | (listed - set(added))


def byte_fallback(vocabulary: Mapping[str, int]) -> dict[int, bytes]:
    """Ids of the ``<0xAB>`` tokens of a vocabulary, with their byte."""
    found = ((_FALLBACK.fullmatch(token), index) for token, index in vocabulary.items() if token.startswith("<0x"))
    return {index: bytes([int(match[1], 16)]) for match, index in found if match}
