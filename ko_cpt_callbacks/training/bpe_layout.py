"""A BPE tokenizer taken apart and put together again with more tokens, through its own JSON.

Two ways of writing text are understood: byte-level (GPT-2, Llama 3, Qwen: every byte is a printable character) and
SentencePiece-like with byte fallback (Llama 2, Gemma, SOLAR: a space is ``▁``).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tokenizers import Tokenizer

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf.decoder_kind import CHARACTERS, TokenBytesUnavailable
from ko_cpt_callbacks.hf.fast_vocabulary import read_fast

Pair = tuple[str, str]
"""A merge: two tokens that become the one they spell."""

# Bytes that never begin a character of UTF-8, as byte-level tokens write them.
_CONTINUATIONS: Final = frozenset(CHARACTERS[byte] for byte in range(0x80, 0xC0))


@dataclass(frozen=True, slots=True, eq=False)
class BpeLayout:
    """What is in a BPE tokenizer.

    Attributes:
        document: The tokenizer's JSON, read.
        byte_level: Whether a token spells bytes; else characters.
        mark: What stands for a space in a token of characters.
        space_in_front: Whether the tokenizer puts a space in front of a text.
        tokens: Id of every token, added ones too.
        joinable: Ids that new tokens can be built from: not special ones, and not ``<0xAB>``, which is a byte by
            itself only.
    """

    document: Mapping[str, Any]
    byte_level: bool
    mark: str
    space_in_front: bool
    tokens: Mapping[str, int]
    joinable: frozenset[int]

    @property
    def size(self) -> int:
        """The first id that is free."""
        return len(self.tokens)

    def spell(self, text: str) -> str:
        """A text in the alphabet of the tokens."""
        if self.byte_level:
            return "".join(CHARACTERS[byte] for byte in text.encode())
        return text.replace(" ", self.mark)

    def begins_inside(self, token: str) -> bool:
        """Whether a token begins in the middle of a character."""
        return self.byte_level and token[0] in _CONTINUATIONS

    def tokenizer(self, tokens: Sequence[str] = (), merges: Iterable[Pair] = ()) -> Tokenizer:
        """The tokenizer with tokens and merges after its own.

        Args:
            tokens: New ones; they get the ids from `size` on, in order.
            merges: New ones; every old merge goes before them.
        """
        model = self.document["model"]
        # Added tokens go into the model too: without them its ids had gaps, which the library fills anew when a
        # token is added later.
        vocabulary = dict(self.tokens)
        vocabulary.update((token, self.size + place) for place, token in enumerate(tokens))
        merged = [*model["merges"], *map(list, merges)]
        document = {**self.document, "model": {**model, "vocab": vocabulary, "merges": merged}}
        return Tokenizer.from_str(json.dumps(document, ensure_ascii=False))


def read_layout(tokenizer: Any) -> BpeLayout:
    """Take a tokenizer apart.

    Args:
        tokenizer: Of transformers, with a backend of the ``tokenizers`` library.

    Raises:
        ConfigurationError: If it is not a BPE of one of the two kinds.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _unusable(tokenizer, "a tokenizer without a backend of the tokenizers library", "load the fast one")
    document = json.loads(backend.to_str())
    model = document["model"]
    if model["type"] != "BPE" or model.get("dropout"):
        kind = f"a {model['type']} model" + (" with dropout" if model.get("dropout") else "")
        raise _unusable(tokenizer, kind, "only BPE without dropout can be extended")
    if any(part["type"] == "ByteLevel" for part in _steps(document["normalizer"])):
        raise _unusable(tokenizer, "a normalizer that writes bytes", "only a ByteLevel pre-tokenizer is understood")
    try:
        reading = read_fast(tokenizer)
    except TokenBytesUnavailable as error:
        raise _unusable(tokenizer, str(error), "only byte-level or ▁ tokens can be extended") from error
    tokens: dict[str, int] = tokenizer.get_vocab()
    if sorted(tokens.values()) != list(range(len(tokens))):
        raise _unusable(tokenizer, "ids with gaps", "fill them before it is extended")
    metaspace = next((part for part in _steps(document["pre_tokenizer"]) if part["type"] == "Metaspace"), None)
    return BpeLayout(
        document=document,
        byte_level=reading.kind == "byte-level",
        mark="▁" if metaspace is None else metaspace["replacement"],
        space_in_front=reading.prefix != "never",
        tokens=tokens,
        joinable=frozenset(reading.pieces.keys() - reading.special - reading.fallback - reading.added),
    )


def with_backend(tokenizer: Any, backend: Tokenizer) -> Any:
    """A copy of a tokenizer of transformers (class, special tokens, chat template) over another backend."""
    made = copy.deepcopy(tokenizer)
    made._tokenizer = backend
    # A SentencePiece file that was loaded knows nothing of new tokens: it must not be saved beside them.
    if getattr(made, "vocab_file", None):
        made.vocab_file = None
    made.init_kwargs.pop("vocab_file", None)
    return made


def _steps(part: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """A normalizer or pre-tokenizer without the sequences that hold its steps."""
    if part is None:
        return []
    inner = part.get("normalizers") or part.get("pretokenizers")
    return [part] if inner is None else [step for child in inner for step in _steps(child)]


def _unusable(tokenizer: Any, found: str, fix: str) -> ConfigurationError:
    return ConfigurationError(f"tokenizer {type(tokenizer).__name__}: found {found}, expected one to extend; {fix}")
