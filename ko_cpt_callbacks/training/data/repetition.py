"""Which documents repeat themselves, for many documents at once.

After the repetition rules of MassiveText (Gopher, https://arxiv.org/abs/2112.11446, table A1): of all characters,
the share inside the most frequent n-gram, for small n, and the share inside n-grams that come more than once, for
larger n; characters where such n-grams overlap count once. White space counts on neither side.

Two things the paper leaves open are decided here. An n-gram that comes once is never "the most frequent": otherwise
every text of two words would be all repetition. And every place of an n-gram that comes twice is counted, the first
one too, which is what the words say; ``datatrove`` counts from the second place on, and drops less.

An n-gram that comes twice begins with one of n-1 that does, and ends with one. So only the places where both come
twice are looked at for n: few in prose. Units are distinguished by hashes of 64 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ko_cpt_callbacks.training.data.sketch import (
    FACTOR,
    TOGETHER,
    Hashes,
    Numbers,
    characters,
    few,
    is_white,
    mixed,
)

Unit = Literal["word", "character"]
# Of the table in which most n-grams are alone. Chosen, not measured: four times the words of a batch.
_SLOT_BITS: Final = 16
# Powers of a number, and of that by which it is 1.
_POWERS: Final = np.cumprod(np.full(TOGETHER, FACTOR), dtype=np.uint64)
_BACK: Final = np.cumprod(np.full(TOGETHER, pow(int(FACTOR), -1, 1 << 64)), dtype=np.uint64)


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

    name = "repeated-ngrams"
    unit: Unit = "word"
    top: Mapping[int, float] = field(default_factory=lambda: {2: 0.20, 3: 0.18, 4: 0.16})
    duplicate: Mapping[int, float] = field(
        default_factory=lambda: {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
    )

    def settings(self) -> dict[str, Any]:
        """What the judgement depends on."""
        return {"unit": self.unit, "top": sorted(self.top.items()), "duplicate": sorted(self.duplicate.items())}

    def judge(self, texts: Sequence[str]) -> list[str | None]:
        """For every text, why it is dropped."""
        return [reason for batch in few(texts) for reason in self._reasons(batch)]

    def _reasons(self, documents: Sequence[str]) -> list[str | None]:
        reasons: list[str | None] = [None] * len(documents)
        sizes = {*self.top, *self.duplicate}
        if not sizes:
            return reasons
        text = _Text(documents, self.unit, min(sizes))
        least = min((*self.top.values(), *self.duplicate.values()))
        for size in range(min(sizes), max(sizes) + 1):
            text.keep_repeated(size)
            inside = text.inside(size)
            # Of larger n no more is repeated: a document that is below all limits stays below them.
            text.leave(inside / np.maximum(text.characters, 1) <= least)
            if not len(text.places):
                break
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

    Args:
        documents: Their texts.
        unit: What an n-gram is made of.
        least: Units of the shortest n-gram that is asked for.

    Attributes:
        characters: Of each document.
        places: Where such n-grams begin, in order.
    """

    def __init__(self, documents: Sequence[str], unit: Unit, least: int) -> None:
        self._count = len(documents)
        codes = characters(documents)
        black = ~is_white(codes)
        begins = black.copy()
        bounds = np.cumsum([0, *map(len, documents)])
        if unit == "word":
            begins[1:] &= ~black[:-1]
            first = bounds[:-1][np.diff(bounds) > 0]
            begins[first] = black[first]
        starts = np.flatnonzero(begins)
        counts = np.diff(np.searchsorted(starts, bounds))
        self._document = np.repeat(np.arange(self._count), counts)
        hashes = _hashes((codes + np.uint32(1)) * black, starts)  # also a NUL is a character
        stops = np.flatnonzero(black & np.append(begins[1:] | ~black[1:], True)[: len(black)])
        self._ends = np.concatenate(([0], np.cumsum(stops + 1 - starts)))
        self.characters: Numbers = np.diff(self._ends[np.concatenate(([0], np.cumsum(counts)))])
        # No unit of a document is one of another.
        hashes = mixed(hashes + self._document.astype(np.uint64))
        self._numbers: npt.NDArray[Any] = hashes
        self.places: Numbers = np.arange(len(starts))
        for step in range(1, least):
            self.places = self.places[: len(starts) - step]
            self._numbers = mixed(self._numbers[: len(self.places)] * FACTOR + hashes[step:])
        whole = self._document[self.places] == self._document[len(starts) - len(self.places) :]
        # Most n-grams come once, and are alone in a table too: what is left is few.
        slots = (self._numbers >> np.uint64(64 - _SLOT_BITS)).astype(np.int64)
        chosen = whole & (np.bincount(slots[whole], minlength=1 << _SLOT_BITS)[slots] > 1)
        self._numbers, self.places = self._numbers[chosen], self.places[chosen]
        self._least = least

    def keep_repeated(self, size: int) -> None:
        """Go on from the places of (n-1)-grams to those of n-grams."""
        if size > self._least:
            behind = np.searchsorted(self.places, self.places + 1)
            behind[behind == len(self.places)] = 0
            both = self.places[behind] == self.places + 1
            both[both] = self._document[self.places[both]] == self._document[self.places[both] + 1]
            above = int(self._numbers.max(initial=0)) + 1
            self._numbers = self._numbers[both] * above + self._numbers[behind[both]]
            self.places = self.places[both]
        numbers, counts = np.unique(self._numbers, return_inverse=True, return_counts=True)[1:]
        repeated = counts[numbers] > 1
        self.places = self.places[repeated]
        self._numbers = (np.cumsum(counts > 1) - 1)[numbers[repeated]]

    def inside(self, size: int) -> Numbers:
        """Characters of each document inside the n-grams that come more than once."""
        ends = np.minimum(self.places + size, np.append(self.places[1:], len(self._ends)))
        found = self._ends[ends] - self._ends[self.places]
        return np.bincount(self._document[self.places], found, self._count).astype(np.int64)

    def leave(self, documents: npt.NDArray[np.bool_]) -> None:
        """Look no more at some documents."""
        others = ~documents[self._document[self.places]]
        self.places, self._numbers = self.places[others], self._numbers[others]

    def top_share(self, document: int, size: int) -> float:
        """The share inside the most frequent n-gram; of equally frequent ones, the one with the largest share."""
        own = self._document[self.places] == document
        order = np.argsort(self._numbers[own], kind="stable")
        places, numbers = self.places[own][order], self._numbers[own][order]
        behind = np.append(np.where(numbers[1:] == numbers[:-1], places[1:], len(self._ends)), len(self._ends))
        found = self._ends[np.minimum(places + size, behind)] - self._ends[places]
        _, numbers, counts = np.unique(numbers, return_inverse=True, return_counts=True)
        return float(np.bincount(numbers, found)[counts == counts.max()].max() / self.characters[document])


def _hashes(codes: npt.NDArray[np.uint32], starts: Numbers) -> Hashes:
    """A number for each unit, which another one has by chance only: one of 2⁶⁴.

    Args:
        codes: Of characters, from 1; 0 for white space.
        starts: Where units begin.
    """
    if not len(starts):
        return np.empty(0, dtype=np.uint64)
    # The sum of all characters up to a unit's end, without those before it, and as if it stood in front.
    values = codes * _powers(_POWERS, len(codes))
    sums = np.cumsum(values)
    own = sums[np.append(starts[1:], len(codes)) - 1] - sums[starts] + values[starts]
    return mixed(own * _powers(_BACK, len(codes))[starts])


def _powers(known: Hashes, count: int) -> Hashes:
    """As many as are wanted; only of one long document these are not known."""
    return known[:count] if count <= len(known) else np.cumprod(np.full(count, known[0]))
