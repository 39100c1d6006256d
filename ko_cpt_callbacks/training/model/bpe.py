"""New tokens and merges on top of a BPE tokenizer's own: characters first, then words, then without the rare ones.

Two ways of writing text are understood: byte-level (GPT-2, Llama 3, Qwen: every byte is a printable character) and
SentencePiece-like with byte fallback (Llama 2, Gemma, SOLAR: a space is ``▁``).
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from tokenizers import Tokenizer, models, trainers

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf.tokenizer.fast import read_fast
from ko_cpt_callbacks.hf.tokenizer.reading import CHARACTERS, TokenBytesUnavailable

# Jamo, compatibility jamo, extended jamo A, syllables, extended jamo B.
HANGUL: Final = "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7fb"
_LETTERS: Final = r"[^\W\d_]"


def count_words(
    texts: Iterable[str], layout: BpeLayout, normalizer: Any, *, only_hangul: bool, max_words: int
) -> Counter[str]:
    """How often every word was written: a run of letters, with a space where one stands in front.

    Args:
        texts: Read once.
        layout: The tokenizer that the words are for.
        normalizer: That tokenizer's; None where it has none.
        only_hangul: Whether a run ends where Hangul ends.
        max_words: Words to keep; the rarest are forgotten when there are more.
    """
    letters = f"[{HANGUL}]" if only_hangul else _LETTERS
    pattern = re.compile(f"[ {re.escape(layout.mark)}]?{letters}+")
    words: Counter[str] = Counter()
    for text in texts:
        normal = text if normalizer is None else normalizer.normalize_str(text)
        if layout.space_in_front and not normal.startswith((" ", layout.mark)):
            normal = f" {normal}"
        words.update(pattern.findall(normal.replace(layout.mark, " ")))
        if len(words) > max_words:
            words = _without_rarest(words, max_words // 2)
    return words


def _without_rarest(words: Counter[str], size: int) -> Counter[str]:
    """At most ``size`` words: those seen once are left out, then those seen twice, and so on."""
    least = 1
    while len(words) > size:
        words = Counter({word: count for word, count in words.items() if count > least})
        least += 1
    return words


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
    if any(part["type"] == "ByteLevel" for part in steps_of(document["normalizer"])):
        raise _unusable(tokenizer, "a normalizer that writes bytes", "only a ByteLevel pre-tokenizer is understood")
    try:
        reading = read_fast(tokenizer)
    except TokenBytesUnavailable as error:
        raise _unusable(tokenizer, str(error), "only byte-level or ▁ tokens can be extended") from error
    tokens: dict[str, int] = tokenizer.get_vocab()
    if sorted(tokens.values()) != list(range(len(tokens))):
        raise _unusable(tokenizer, "ids with gaps", "fill them before it is extended")
    metaspace = next((part for part in steps_of(document["pre_tokenizer"]) if part["type"] == "Metaspace"), None)
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


def steps_of(part: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """A normalizer or pre-tokenizer without the sequences that hold its steps."""
    if part is None:
        return []
    inner = part.get("normalizers") or part.get("pretokenizers")
    return [part] if inner is None else [step for child in inner for step in steps_of(child)]


def _unusable(tokenizer: Any, found: str, fix: str) -> ConfigurationError:
    return ConfigurationError(f"tokenizer {type(tokenizer).__name__}: found {found}, expected one to extend; {fix}")


# Where characters that stand for tokens begin: private use, so that none is a surrogate; a million ids fit.
_FIRST_CHARACTER: Final = 0xE000
# Merges to learn beyond the wanted ones: those that spell an old token, or a new one in another way, make none.
_SPARE: Final = 64


class Growth:
    """What is new, kept such that no old merge is disturbed: no new merge makes an old token.

    Attributes:
        layout: The base.
        tokens: New ones in order; a dict for its order, its values say nothing.
        merges: New ones in order, each with the token that it makes.

    Args:
        layout: The base.
        words: How often each word was written.
        size: New tokens at most.
        min_count: How often each must be written.
    """

    def __init__(self, layout: BpeLayout, words: Mapping[str, int], size: int, min_count: int) -> None:
        self.layout = layout
        self.tokens: dict[str, None] = {}
        self.merges: dict[Pair, str] = {}
        self._words = words
        self._size = size
        self._min_count = min_count

    def backend(self) -> Tokenizer:
        """The base with what is new."""
        return self.layout.tokenizer(list(self.tokens), self.merges)

    def add_characters(self) -> None:
        """Give every frequent character a token: merges of words then need not go through odd bytes."""
        model = self.layout.tokenizer().model
        counts: Counter[str] = Counter()
        for word, count in self._words.items():
            for character in word.lstrip(" "):
                counts[character] += count
        for character, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
            if count < self._min_count:
                break
            token = self.layout.spell(character)
            if token in self.layout.tokens:
                continue
            # Bytes have to be merged; to a SentencePiece-like model a character with a token is a letter at once.
            chain = _chain([part.value for part in model.tokenize(token)]) if self.layout.byte_level else {}
            new = {token, *chain.values()} - self.tokens.keys()
            if new & self.layout.tokens.keys():
                continue  # an old token spells a part of it, and the base does not use it here
            if len(self.tokens) + len(new) > self._size:
                break
            self.tokens.update(dict.fromkeys(sorted(new, key=len)))
            self.merges.update(chain)

    def add_merges(self) -> None:
        """Go on with BPE from where the merges so far end, up to the size."""
        backend = self.backend()
        names = {index: token for token, index in backend.get_vocab().items()}
        first = self.layout.size
        runs = self._runs(backend.model, {*self.layout.joinable, *range(first, first + len(self.tokens))})
        room = self._size - len(self.tokens)
        reached: set[str] = set()
        for left, right in _learn(runs, room + room // 8 + _SPARE, self._min_count):
            if any(len(part) > 1 and part not in reached for part in (left, right)):
                continue  # a part of it was left out
            pair = (_name(left, names), _name(right, names))
            token = "".join(pair)
            if token in self.layout.tokens or self.layout.begins_inside(token):
                continue  # an old token made in a new way would change old texts; odd bytes may be of any script
            if token not in self.tokens:
                if not room:
                    break
                room -= 1
            self.tokens.setdefault(token)
            self.merges.setdefault(pair, token)
            reached.add(left + right)

    def drop_rare(self) -> None:
        """Take away what is too rare, as long as nothing is built from it."""
        while True:
            model = self.backend().model
            counts: Counter[str] = Counter()
            for word, count in self._words.items():
                for part in model.tokenize(self.layout.spell(word)):
                    counts[part.value] += count
            parts = {part for pair in self.merges for part in pair}
            rare = {token for token in self.tokens if counts[token] < self._min_count and token not in parts}
            if not rare:
                return
            self.tokens = {token: None for token in self.tokens if token not in rare}
            self.merges = {pair: token for pair, token in self.merges.items() if token not in rare}

    def _runs(self, model: Any, joinable: Collection[int]) -> Counter[str]:
        """Tokens that stand together in a word, two or more, each written as one character."""
        runs: Counter[str] = Counter()
        for word, count in self._words.items():
            for run in _split(model.tokenize(self.layout.spell(word)), joinable):
                runs[run] += count
        return runs


def _chain(pieces: list[str]) -> dict[Pair, str]:
    """Merges that join pieces from left to right, each with the token it makes."""
    joined = list(accumulate(pieces))
    return {pair: "".join(pair) for pair in zip(joined, pieces[1:], strict=False)}


def _split(pieces: Iterable[Any], joinable: Collection[int]) -> Iterator[str]:
    run = ""
    for piece in pieces:
        if piece.id in joinable:
            run += chr(_FIRST_CHARACTER + piece.id)
            continue
        if len(run) > 1:
            yield run
        run = ""
    if len(run) > 1:
        yield run


def _learn(runs: Mapping[str, int], size: int, min_count: int) -> list[list[str]]:
    """Merges of the characters of runs, the most frequent first."""
    tokenizer = Tokenizer(models.BPE())
    alphabet = {character for run in runs for character in run}
    trainer = trainers.BpeTrainer(vocab_size=len(alphabet) + size, min_frequency=min_count, show_progress=False)
    # The trainer counts for itself, so every run is given as often as it was seen.
    tokenizer.train_from_iterator((run for run, count in runs.items() for _ in range(count)), trainer)
    merges: list[list[str]] = json.loads(tokenizer.to_str())["model"]["merges"]
    return merges


def _name(characters: str, names: Mapping[int, str]) -> str:
    return "".join(names[ord(character) - _FIRST_CHARACTER] for character in characters)
