"""How many tokens a tokenizer needs for a text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ko_cpt_callbacks.training.encoding import batches, encode_texts


@dataclass(frozen=True, slots=True)
class Fertility:
    """Sums over texts, and what follows from them.

    Attributes:
        tokens: Without begin and end tokens.
        characters: Code points, white space too.
        bytes: In UTF-8.
    """

    tokens: int = 0
    characters: int = 0
    bytes: int = 0

    @property
    def tokens_per_character(self) -> float:
        """Less is better; NaN without text."""
        return self.tokens / self.characters if self.characters else float("nan")

    @property
    def bytes_per_token(self) -> float:
        """More is better: the factor between loss per token and loss per byte; NaN without text."""
        return self.bytes / self.tokens if self.tokens else float("nan")


def measure_fertility(texts: Iterable[str], *tokenizers: Any) -> list[Fertility]:
    """The fertility of several tokenizers on the same texts, read once.

    Args:
        texts: The same for all.
        tokenizers: Such as the base's and the extended one.
    """
    characters = size = 0
    tokens = [0] * len(tokenizers)
    for batch in batches(texts):
        characters += sum(map(len, batch))
        size += sum(len(text.encode()) for text in batch)
        for place, tokenizer in enumerate(tokenizers):
            tokens[place] += sum(map(len, encode_texts(tokenizer, batch)))
    return [Fertility(count, characters, size) for count in tokens]
