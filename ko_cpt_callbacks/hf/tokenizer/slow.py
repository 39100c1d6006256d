"""Vocabularies of tokenizers written in Python: SentencePiece models, byte-level BPE, and plain bytes (ByT5).

These do not say what they do to a text, so they are asked: short texts are tokenised and what comes back is
compared with what went in.
"""

from __future__ import annotations

from typing import Any

from ko_cpt_callbacks.hf.tokenizer.reading import (
    UTF8_BYTES,
    Reading,
    TokenBytesUnavailable,
    byte_fallback,
    byte_level_piece,
    special_ids,
)

__all__ = ["read_slow"]

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
    else:
        name = type(tokenizer).__name__
        raise TokenBytesUnavailable(f"the tokenizer class {name} is written in Python and not understood")
    _add_tokens(tokenizer, reading)
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


def _add_tokens(tokenizer: Any, reading: Reading) -> None:
    special = reading.special | special_ids(tokenizer)
    stripping = 0
    for index, token in tokenizer.added_tokens_decoder.items():
        if index in special or index in reading.fallback:
            continue
        reading.added.add(index)
        reading.pieces[index] = token.content.encode("utf-8")
        if token.lstrip or token.rstrip:
            stripping += 1
            del reading.pieces[index]
    if stripping:
        reading.notes.append(f"{stripping} added tokens swallow white space: their bytes are unknown")
    if reading.kind == "bytes":
        reading.pieces.update(dict.fromkeys(special, b""))
    reading.special = (special & reading.pieces.keys()) - reading.fallback


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
