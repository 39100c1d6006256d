"""Which documents repeat themselves, for many documents at once.

After the repetition rules of MassiveText (Gopher, https://arxiv.org/abs/2112.11446, table A1): of all characters,
the share inside the most frequent n-gram, for small n, and the share inside n-grams that come more than once, for
larger n; characters where such n-grams overlap count once. White space counts on neither side.

Two things the paper leaves open are decided here. An n-gram that comes once is never "the most frequent": otherwise
every text of two words would be all repetition. And every place of an n-gram that comes twice is counted, the first
one too, which is what the words say; ``datatrove`` counts from the second place on, and drops less.

An n-gram that comes twice begins with one of n-1 that does, and ends with one. So only the places where both come
twice are looked at for n: few in prose, where one n-gram after the other was sorted before (12 times the time).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from ko_cpt_callbacks.errors import ConfigurationError

Unit = Literal["word", "character"]
Numbers = npt.NDArray[np.int64]

# Units numbered at once: pairs of numbers below it fit into 64 bits. Chosen, not measured: some 200 kB of text.
_UNITS: Final = 50_000


def _gopher_top() -> dict[int, float]:
    return {2: 0.20, 3: 0.18, 4: 0.16}


def _gopher_duplicate() -> dict[int, float]:
    return {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


@dataclass(frozen=True, slots=True)
class RepeatedNgrams:
    """Drops documents in which too much is repeated.

    Attributes:
        unit: What an n-gram is made of: a ``word`` (what white space separates; in Korean an eojeol, with its
            particles) or a ``character``.
        top: For each n, the largest share of characters inside the most frequent n-gram. By default Gopher's.
        duplicate: For each n, the largest share of characters inside n-grams that come more than once. By default
            Gopher's. They are meant for words: with characters, give larger n and shares of your own.
    """

    unit: Unit = "word"
    top: Mapping[int, float] = field(default_factory=_gopher_top)
    duplicate: Mapping[int, float] = field(default_factory=_gopher_duplicate)

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise ConfigurationError(f"repeated-ngrams: found the unit {self.unit!r}, expected word or character")
        for size, share in (*self.top.items(), *self.duplicate.items()):
            if size < 1 or not 0 <= share <= 1:
                raise ConfigurationError(
                    f"repeated-ngrams: found {share} for n = {size}, expected n of 1 or more and a share from 0 to 1"
                )

    @property
    def name(self) -> str:
        """In reports."""
        return "repeated-ngrams"

    def settings(self) -> dict[str, Any]:
        """What the judgement depends on."""
        return {"unit": self.unit, "top": sorted(self.top.items()), "duplicate": sorted(self.duplicate.items())}

    def judge(self, texts: Sequence[str]) -> list[str | None]:
        """For every text, why it is dropped."""
        reasons: list[str | None] = []
        batch: list[Sequence[str]] = []
        units = 0
        for text in texts:
            parts: Sequence[str] = text.split()
            if self.unit == "character":
                parts = "".join(parts)
            if batch and units + len(parts) > _UNITS:
                reasons += self._reasons(batch)
                batch, units = [], 0
            batch.append(parts)
            units += len(parts)
        return reasons + self._reasons(batch)

    def _reasons(self, documents: Sequence[Sequence[str]]) -> list[str | None]:
        reasons: list[str | None] = [None] * len(documents)
        text = _Text(documents)
        for size in range(1, max((*self.top, *self.duplicate), default=0) + 1):
            text.keep_repeated(size)
            if not len(text.places):
                break
            inside = text.inside(text.places, size)
            limit = self.top.get(size)
            if limit is not None:
                # Those of the most frequent n-gram are among those of all that are repeated.
                for document in np.flatnonzero(inside > limit * text.characters):
                    share = text.top_share(int(document), size)
                    if reasons[document] is None and share > limit:
                        reasons[document] = f"{share:.1%} in one {size}-gram"
            limit = self.duplicate.get(size)
            if limit is not None:
                for document in np.flatnonzero(inside > 0):
                    share = float(inside[document] / text.characters[document])
                    if reasons[document] is None and share > limit:
                        reasons[document] = f"{share:.1%} in repeated {size}-grams"
        return reasons


class _Text:
    """The units of some documents in one row, and where n-grams begin that come more than once in their document.

    Attributes:
        characters: Of each document.
        places: Where such n-grams begin, in order.
    """

    def __init__(self, documents: Sequence[Sequence[str]]) -> None:
        counter = count()
        numbers = []
        for parts in documents:
            # Numbered anew in every document, and on from the one before: no unit is shared by two documents.
            known: defaultdict[str, int] = defaultdict(counter.__next__)
            numbers.append(map(known.__getitem__, parts))
        sizes = np.fromiter(map(len, documents), dtype=np.int64, count=len(documents))
        total = int(sizes.sum())
        self._numbers = np.fromiter(chain.from_iterable(numbers), dtype=np.int64, count=total)
        lengths = np.fromiter(map(len, chain.from_iterable(documents)), dtype=np.int64, count=total)
        self._ends = np.concatenate(([0], np.cumsum(lengths)))
        self._document = np.repeat(np.arange(len(documents)), sizes)
        bounds = np.concatenate(([0], np.cumsum(sizes)))
        self.characters: Numbers = np.diff(self._ends[bounds])
        self.places: Numbers = np.arange(total)
        self._count = len(documents)

    def keep_repeated(self, size: int) -> None:
        """Go on from the places of (n-1)-grams to those of n-grams."""
        if size > 1:
            behind = np.searchsorted(self.places, self.places + 1)
            behind[behind == len(self.places)] = 0
            both = self.places[behind] == self.places + 1
            both[both] = self._document[self.places[both]] == self._document[self.places[both] + 1]
            # In the order of their units: two numbers, each below the count of the places.
            pairs = self._numbers[both] * (len(self._numbers) + 1) + self._numbers[behind[both]]
            self.places = self.places[both]
            self._numbers = np.unique(pairs, return_inverse=True)[1].reshape(-1)
        if len(self.places):
            repeated = np.bincount(self._numbers)[self._numbers] > 1
            self.places = self.places[repeated]
            self._numbers = np.unique(self._numbers[repeated], return_inverse=True)[1].reshape(-1)

    def inside(self, places: Numbers, size: int) -> Numbers:
        """Characters of each document inside the n-grams that begin at some places."""
        ends = np.minimum(places + size, np.append(places[1:], len(self._ends)))
        found = self._ends[ends] - self._ends[places]
        return np.bincount(self._document[places], found, self._count).astype(np.int64)

    def top_share(self, document: int, size: int) -> float:
        """The share inside the most frequent n-gram; of equally frequent ones, the one with the largest share."""
        own = self._document[self.places] == document
        places, numbers = self.places[own], self._numbers[own]
        _, first, counts = np.unique(numbers, return_index=True, return_counts=True)
        most = np.flatnonzero(counts == counts.max())
        begins = places[first[most]]
        chosen = most[np.argmax(self._ends[begins + size] - self._ends[begins])]
        inside = self.inside(places[numbers == numbers[first[chosen]]], size)[document]
        return float(inside / self.characters[document])
