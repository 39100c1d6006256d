"""New tokens and merges on top of a BPE tokenizer's own: characters first, then words, then without the rare ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Final

from tokenizers import Tokenizer, models, trainers

from ko_cpt_callbacks.training.bpe_layout import BpeLayout, Pair

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

    def drop_rare(self) -> Mapping[str, int]:
        """Take away what is too rare, as long as nothing is built from it.

        Returns:
            How often each token is written, with what is left.
        """
        while True:
            model = self.backend().model
            counts: Counter[str] = Counter()
            for word, count in self._words.items():
                for part in model.tokenize(self.layout.spell(word)):
                    counts[part.value] += count
            parts = {part for pair in self.merges for part in pair}
            rare = {token for token in self.tokens if counts[token] < self._min_count and token not in parts}
            if not rare:
                return counts
            self._drop(rare)

    def _drop(self, tokens: Collection[str]) -> None:
        self.tokens = {token: None for token in self.tokens if token not in tokens}
        self.merges = {pair: token for pair, token in self.merges.items() if token not in tokens}

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
