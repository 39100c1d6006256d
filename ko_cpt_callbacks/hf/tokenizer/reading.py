"""What a reader of vocabularies hands over, the two ways tokenizers write bytes, and vocabularies written in Python.

*Byte-level*: each byte is one printable character, as in GPT-2. *SentencePiece*: a space is ``▁``, and a byte
without a token of its own is ``<0xAB>``. Anything else is refused with a reason: a guess here would be a wrong
bits per byte. Tokenizers written in Python do not say what they do to a text, so they are asked: short texts are
tokenized and what comes back is compared with what went in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ko_cpt_callbacks.errors import KoCPTError

__all__ = [
    "CHARACTERS", "UTF8_BYTES", "Reading", "TokenBytesUnavailable", "add_tokens", "byte_fallback", "byte_level_piece",
    "read_slow",
]  # fmt: skip


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


def _special_ids(tokenizer: Any) -> set[int]:
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


# Each text differs from itself after one thing that normalisers do, and from nothing else.
_QUESTIONS = {
    "canonical composition": "a\u0301\u1112\u1161\u11ab",
    "compatibility characters": "\ufb01\u2460\uff21",
    "white space": "a  b\tc\nd",
    "case": "aBC",
}


def read_slow(tokenizer: Any) -> Reading:
    """Read a tokenizer that has no ``backend_tokenizer``.

    Raises:
        TokenBytesUnavailable: it is neither SentencePiece, byte-level BPE nor plain bytes.
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    if getattr(tokenizer, "sp_model", None) is not None:
        reading = _sentencepiece(tokenizer, vocabulary)
    elif getattr(tokenizer, "byte_decoder", None):
        reading = Reading("byte-level", {index: byte_level_piece(token) for token, index in vocabulary.items()})
    elif any(parent.__name__ == "ByT5Tokenizer" for parent in type(tokenizer).__mro__):
        first = int(tokenizer.offset)
        reading = Reading("bytes", {first + byte: bytes([byte]) for byte in range(256)})
        reading.fallback = set(reading.pieces)
        reading.pieces.update(dict.fromkeys(_special_ids(tokenizer), b""))
    else:
        name = type(tokenizer).__name__
        raise TokenBytesUnavailable(f"the tokenizer class {name} is written in Python and not understood")
    add_tokens(tokenizer, reading, lambda token: str(token.content).encode("utf-8"))
    _ask(tokenizer, reading)
    return reading


def _sentencepiece(tokenizer: Any, vocabulary: dict[str, int]) -> Reading:
    fallback = byte_fallback(vocabulary)
    pieces = {index: token.replace("▁", " ").encode("utf-8") for token, index in vocabulary.items()} | fallback
    if tokenizer.unk_token_id is not None and not {piece[0] for piece in fallback.values()} >= UTF8_BYTES:
        pieces.pop(tokenizer.unk_token_id, None)
    model = tokenizer.sp_model
    everything = list(range(model.get_piece_size()))
    controls = [index for index, control in zip(everything, model.is_control(everything), strict=True) if control]
    special = {vocabulary[piece] for piece in model.id_to_piece(controls) if piece in vocabulary}
    return Reading("sentencepiece", pieces, special=special, fallback=set(fallback))


def add_tokens(tokenizer: Any, reading: Reading, spell: Callable[[Any], bytes]) -> None:
    """Enter special and added tokens. An added token is cut out of the text before the model sees it.

    Args:
        tokenizer: The tokenizer.
        reading: What was read of it; its special ids so far are kept.
        spell: The bytes that an added token stands for.
    """
    special = reading.special | _special_ids(tokenizer)
    stripping = 0
    for index, token in tokenizer.added_tokens_decoder.items():
        if index in special or index in reading.fallback:
            continue
        reading.added.add(index)
        if token.lstrip or token.rstrip:
            stripping += 1
            reading.pieces.pop(index, None)
        else:
            reading.pieces[index] = spell(token)
    # Training scripts often list <0xAB> among the special tokens; they are text all the same. An unknown token
    # that characters do become is no special token either: it stands for text, of unknown length.
    reading.special = (special & reading.pieces.keys()) - reading.fallback
    if stripping:
        reading.notes.append(f"{stripping} added tokens swallow white space: their bytes are unknown")


def _ids(tokenizer: Any, text: str) -> list[int]:
    return [int(index) for index in tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))]


def _ask(tokenizer: Any, reading: Reading) -> None:
    """Find out whether a space is put in front of a text, and what happens to the text itself."""

    def spell(text: str) -> bytes | None:
        pieces = [reading.pieces.get(index) for index in _ids(tokenizer, text)]
        return None if None in pieces else b"".join(piece for piece in pieces if piece is not None)

    bare, spaced = spell("a"), spell(" a")
    if bare is not None and bare.startswith(b" "):
        reading.prefix = "unless-space" if spaced == bare else "always"
        for index in sorted(reading.added & reading.pieces.keys())[:1]:
            after = spell(tokenizer.added_tokens_decoder[index].content + "a") or b""
            if after.endswith(b" a"):
                reading.reopens = set(reading.added)
    prefix = b" " if reading.prefix != "never" else b""
    for change, text in _QUESTIONS.items():
        written = spell(text)
        if written is not None and written != prefix + text.encode("utf-8"):
            reading.changes.append(change)
