"""Vocabularies of the ``tokenizers`` library, read from what such a tokenizer says of itself.

It says it in four parts: the model (BPE, Unigram), the normaliser, the pre-tokenizer and the decoder. The first
three decide what an id stands for and what the tokenizer adds to a text or takes from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ko_cpt_callbacks.hf.tokenizer.reading import (
    CHARACTERS,
    UTF8_BYTES,
    Reading,
    TokenBytesUnavailable,
    add_tokens,
    byte_fallback,
    byte_level_piece,
)

__all__ = ["read_fast"]

_NO_TOKEN_OF_ITS_OWN = "\U0010fffd"  # a private-use character: no vocabulary has learned it
_DROPS_SPACE = {"BertPreTokenizer", "CharDelimiterSplit", "Whitespace", "WhitespaceSplit"}


def _flatten(part: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    if part is None:
        return []
    if part.get("type") != "Sequence":
        return [part]
    return [leaf for child in part[inner] for leaf in _flatten(child, inner)]


def _parts(backend: Any) -> dict[str, list[Mapping[str, Any]]]:
    """Normaliser, pre-tokenizer and decoder as JSON, through an empty tokenizer.

    A 256k vocabulary with its merges takes a second to write and parse, and none of it is needed here.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    shell = Tokenizer(BPE())
    try:
        shell.normalizer = backend.normalizer
        shell.pre_tokenizer = backend.pre_tokenizer
        shell.decoder = backend.decoder
        layout = json.loads(shell.to_str())
    except Exception as error:  # the library raises the base class for parts written in Python
        raise TokenBytesUnavailable(f"the tokenizer has a part that cannot be read ({error})") from error
    inner = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
    return {name: _flatten(layout[name], key) for name, key in inner.items()}


def _puts_space(normalizer: Mapping[str, Any]) -> bool:
    return normalizer["type"] == "Prepend" and normalizer["prepend"] in ("▁", " ")


def _changes(normalizers: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the normalisers that can change the bytes of a text."""
    names = []
    for part in normalizers:
        kind = str(part["type"])
        spaces = part.get("pattern") == {"String": " "} and part.get("content") == "▁"
        if kind == "ByteLevel" or (kind == "Replace" and spaces) or _puts_space(part):
            continue
        if kind == "Precompiled" and not part.get("precompiled_charsmap"):
            continue
        names.append(kind)
    return names


def _check_splits(steps: list[Mapping[str, Any]]) -> list[str]:
    """Refuse pre-tokenizers after which the text cannot be put together again; returns what they change."""
    changes = []
    for place, step in enumerate(steps):
        kind = str(step["type"])
        if kind in _DROPS_SPACE or step.get("behavior") == "Removed":
            after = steps[place + 1] if place + 1 < len(steps) else {}
            rejoined = kind == "WhitespaceSplit" and place == 0 and after.get("prepend_scheme") == "always"
            if not rejoined:
                raise TokenBytesUnavailable(f"the tokenizer's {kind} step drops white space or separators")
            changes.append("white space")
        adds = step.get("prepend_scheme") == "always" or (kind == "ByteLevel" and step.get("add_prefix_space"))
        if adds and place > 0 and not changes:
            raise TokenBytesUnavailable(f"the tokenizer's {kind} step puts a space in front of every split")
    return changes


def _unknown_ids(backend: Any, probe: str) -> set[int]:
    """Ids the model writes for ``probe``; refuses a model that writes nothing, or cannot encode it."""
    reason = "the tokenizer has no token for characters it does not know, and drops them"
    try:
        tokens = backend.model.tokenize(probe)
    except Exception as error:  # a Unigram model without unknown token: the library raises the base class
        raise TokenBytesUnavailable(reason) from error
    if not tokens:
        raise TokenBytesUnavailable(reason)
    return {int(token.id) for token in tokens}


def read_fast(tokenizer: Any) -> Reading:
    """Read a tokenizer of the ``tokenizers`` library (``backend_tokenizer``).

    Raises:
        TokenBytesUnavailable: its model or one of its steps is not understood.
    """
    backend = tokenizer.backend_tokenizer
    model = type(backend.model).__name__
    if model not in ("BPE", "Unigram"):
        raise TokenBytesUnavailable(f"the tokenizer's model is {model}, which does not keep white space")
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if getattr(backend.model, name, None):
            raise TokenBytesUnavailable(f"the tokenizer marks words with a {name.replace('_', ' ')}")
    parts = _parts(backend)
    normalizers, steps = parts["normalizer"], parts["pre_tokenizer"]
    changes = _changes(normalizers) + _check_splits(steps)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    byte_steps = [part for part in steps if part["type"] == "ByteLevel"]
    metaspace = next((part for part in steps if part["type"] == "Metaspace"), None)
    bytes_by_normalizer = any(part["type"] == "ByteLevel" for part in normalizers)
    mark = "▁" if metaspace is None else str(metaspace["replacement"])
    spell: Callable[[str], bytes]
    if byte_steps or bytes_by_normalizer:
        reading = _byte_level(backend, vocabulary)
        spell = byte_level_piece if bytes_by_normalizer else _literal
        if any(part.get("add_prefix_space") for part in byte_steps):
            reading.prefix = "unless-space"
    elif metaspace is not None or any(part.get("content") == "▁" for part in normalizers):
        reading = _sentencepiece(backend, vocabulary, mark, tokenizer.unk_token_id)
        spell = partial(_unmark, mark)
        if any(map(_puts_space, normalizers)):
            reading.prefix = "always"
        elif metaspace is not None and metaspace["prepend_scheme"] != "never":
            reading.prefix = "unless-space"
    else:
        raise TokenBytesUnavailable("the tokenizer has neither a ByteLevel nor a Metaspace (▁) step")
    reading.changes = changes
    every_segment = reading.prefix == "unless-space" and (metaspace or {}).get("prepend_scheme") != "first"
    _add_tokens(tokenizer, reading, spell, every_segment)
    return reading


def _byte_level(backend: Any, vocabulary: Mapping[str, int]) -> Reading:
    reading = Reading("byte-level", {index: byte_level_piece(token) for token, index in vocabulary.items()})
    missing = [byte for byte in sorted(UTF8_BYTES) if CHARACTERS[byte] not in vocabulary]
    if missing:
        for index in _unknown_ids(backend, CHARACTERS[missing[0]]):
            del reading.pieces[index]
    return reading


def _literal(text: str) -> bytes:
    return text.encode("utf-8")


def _unmark(mark: str, text: str) -> bytes:
    return text.replace(mark, " ").encode("utf-8")


def _sentencepiece(backend: Any, vocabulary: Mapping[str, int], mark: str, unk: int | None) -> Reading:
    pieces = {index: _unmark(mark, token) for token, index in vocabulary.items()}
    fallback = {} if getattr(backend.model, "byte_fallback", True) is False else byte_fallback(vocabulary)
    pieces.update(fallback)
    unknown = _unknown_ids(backend, _NO_TOKEN_OF_ITS_OWN) - set(fallback)
    if unk is not None and not {piece[0] for piece in fallback.values()} >= UTF8_BYTES:
        unknown.add(unk)  # a character that needs a missing byte becomes the unknown token
    known = {index: piece for index, piece in pieces.items() if index not in unknown}
    return Reading("sentencepiece", known, fallback=set(fallback))


def _add_tokens(tokenizer: Any, reading: Reading, spell: Callable[[str], bytes], every_segment: bool) -> None:
    """Enter special and added tokens.

    An added token stands for its literal text; a normalized one is looked for in the normalized text, so it stands for
    that (with a Prepend step it takes the ``▁`` in front of it along).
    """
    normalizer = tokenizer.backend_tokenizer.normalizer

    def normalized(token: Any) -> bool:
        return token.normalized and normalizer is not None

    add_tokens(
        tokenizer,
        reading,
        lambda token: spell(normalizer.normalize_str(token.content) if normalized(token) else token.content),
    )
    for index in reading.added:
        if reading.prefix == "always" and normalized(tokenizer.added_tokens_decoder[index]):
            reading.swallowing.add(index)
        elif reading.prefix == "always" or every_segment:
            reading.reopens.add(index)  # what follows is normalized by itself and gets its own space
