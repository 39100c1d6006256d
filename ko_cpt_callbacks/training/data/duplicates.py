"""Which documents were there before, whole or nearly: a sketch of each, and an index of those that were kept.

A document is the set of the n-grams of its characters, white space aside. Two of them are near duplicates where the
sets of 5-grams have enough in common (Jaccard), which a sample of their hashes estimates: the hashes below a bound,
the same bound for both. Who could be one is found by longer n-grams: 10 letters in a row are seldom written twice, so
a document is looked up by the lowest hashes of its 10-grams, and whoever owns two of them is compared.

Own code, of numpy: the hashes of ``rensa`` change with its versions (0.5 refuses the indexes of 0.4), and with them
would the rows of a corpus, and its index is held in memory; ``datatrove`` takes three passes over the whole corpus
before the first row.
"""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["held-out", "exact", "near"]
Hashes = npt.NDArray[np.uint64]

THRESHOLD: Final = 0.3
"""Share of common 5-grams from which on two documents are near duplicates. Of a text with a tenth of its characters
changed about 0.37 is common (measured by ``make bench-data``, with the false removals on prose beside it)."""
_SHORT, _LONG = 5, 10  # letters of an n-gram
_LEAST: Final = 100
"""Characters of the shortest document that can be a near duplicate; chosen, not measured: shorter ones are formulas."""
_SAMPLE: Final = 128  # hashes of a sketch: a standard error of 0.04 of the share
_KEYS: Final = 24  # hashes that a document is looked up by
_VOTES: Final = 2  # of them, that a document must own to be compared
_COMPARED: Final = 4  # documents at most
_TAG_BITS: Final = 34
_FULL: Final = 0.7  # of the table, before it is made larger
_MOVED: Final = 1 << 20  # entries at once, then
_START: Final = 1 << 16  # its entries at first


@dataclass(frozen=True, slots=True, eq=False)
class Sketches:
    """Of some documents.

    Attributes:
        exact: A hash of all of it.
        keys: A row each: what it is looked up by; 0 where there is none.
        sizes: N-grams, of which the sample is.
        sample: The hashes of all samples, one document after the other.
        ends: Where each one's sample ends in it.
    """

    exact: Hashes
    keys: Hashes
    sizes: npt.NDArray[np.int64]
    sample: npt.NDArray[np.uint32]
    ends: npt.NDArray[np.int64]


def sketch(texts: Sequence[str]) -> Sketches:
    """The sketches of some texts."""
    digests = b"".join(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts
    )
    bare = ["".join(text.split()) for text in texts]
    lengths = np.fromiter(map(len, bare), dtype=np.int64, count=len(bare))
    codes = np.frombuffer("".join(bare).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    document = np.repeat(np.arange(len(bare)), lengths)
    behind = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(codes))  # letters from there to the end
    near = (lengths >= _LEAST)[document]

    short = codes.copy()
    for step in range(1, _SHORT):
        short[:-step] = short[:-step] * np.uint64(0x9E3779B97F4A7C15) + codes[step:]
    short = _mixed(short)
    long = short.copy()
    long[: -_SHORT or None] = _mixed(short[:-_SHORT] * np.uint64(0xD6E8FEB86659FD93) + short[_SHORT:])

    sizes = np.maximum(lengths - _SHORT + 1, 1)
    chosen = near & (behind >= _SHORT) & ((short >> np.uint64(32)) < _bounds(sizes, _SAMPLE)[document])
    owner, sample = _distinct(document[chosen], short[chosen] >> np.uint64(32))
    ends = np.searchsorted(owner, np.arange(len(bare)), "right")

    # Twice as many as are wanted, so that seldom one is missing.
    chosen = near & (behind >= _LONG) & ((long >> np.uint64(32)) < _bounds(sizes, 2 * _KEYS)[document])
    owner, lowest = _distinct(document[chosen], long[chosen])
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner, "left")
    keys = np.zeros((len(bare), _KEYS), dtype=np.uint64)
    first = rank < _KEYS
    keys[owner[first], rank[first]] = lowest[first]
    return Sketches(np.frombuffer(digests, dtype=np.uint64), keys, sizes, sample.astype(np.uint32), ends)


def _mixed(values: Hashes) -> Hashes:
    values = (values ^ (values >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return values ^ (values >> np.uint64(29))


def _bounds(sizes: npt.NDArray[np.int64], wanted: int) -> Hashes:
    """Below which so many 32-bit hashes of a text are expected; all of a short one."""
    return np.minimum(2.0**32, 2.0**32 * wanted / sizes).astype(np.uint64)


def _distinct(owner: npt.NDArray[np.int64], values: Hashes) -> tuple[npt.NDArray[np.int64], Hashes]:
    """Each value once for its document, in order."""
    order = np.lexsort((values, owner))
    owner, values = owner[order], values[order]
    new = np.ones(len(owner), dtype=np.bool_)
    new[1:] = (owner[1:] != owner[:-1]) | (values[1:] != values[:-1])
    return owner[new], values[new]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """What a document is a duplicate of.

    Attributes:
        kind: ``held-out`` where the other one is, whole or nearly; otherwise how much is the same.
        other: Its number, in the order in which documents were kept.
        share: Of the 5-grams of both that both have, estimated; 1 where all is the same.
    """

    kind: Kind
    other: int
    share: float


class DuplicateIndex:
    """The documents that were kept.

    Memory is 24 bytes a document. On disk are its sketch (512 bytes) and its keys (some 400), in files without a name
    that end with the process.

    Args:
        near: Whether near duplicates are looked for too.
        folder: Where the files are.
    """

    def __init__(self, *, near: bool, folder: Path) -> None:
        self._near = near
        self._table = _Table(folder)
        self._exact = array("Q")
        self._sizes = array("L")
        self._ends = array("Q", [0])
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - as long as the index
        self._held_out = 0

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def hold_out(self, found: Sketches) -> None:
        """Know documents that must not be trained on; before all others."""
        self.add(found, all_of_them=True)  # who is near to one need not be near to its duplicate
        self._held_out = len(self._exact)

    def add(self, found: Sketches, *, all_of_them: bool = False) -> list[Duplicate | None]:
        """For each of some documents what it is a duplicate of; the others are kept.

        Args:
            found: Theirs.
            all_of_them: Whether duplicates are kept too.
        """
        keys = np.concatenate((found.exact[:, None] | np.uint64(1), found.keys), axis=1)
        if not self._near:
            keys = keys[:, :1]
        owners = self._table.find(keys.ravel()).reshape(keys.shape).tolist()
        new: dict[int, int] = {}
        judged: list[Duplicate | None] = []
        begin = 0
        self._file.seek(0, 2)
        for place, row in enumerate(keys.tolist()):
            end = int(found.ends[place])
            sample, size = found.sample[begin:end], int(found.sizes[place])
            begin = end
            known = [owner or new.get(key, 0) for owner, key in zip(owners[place], row, strict=True)]
            exact = int(found.exact[place])
            duplicate = None if all_of_them else self._duplicate(known, exact, sample, size)
            judged.append(duplicate)
            if duplicate is not None:
                continue
            self._exact.append(exact)
            self._sizes.append(size)
            self._ends.append(self._ends[-1] + (sample.nbytes if self._near else 0))
            if self._near:
                self._file.write(sample.tobytes())
            number = len(self._exact)
            new.update((key, number) for key, owner in zip(row, known, strict=True) if key and not owner)
        self._table.put(np.fromiter(new, np.uint64, len(new)), np.fromiter(new.values(), np.uint64, len(new)))
        return judged

    def _duplicate(
        self, known: Sequence[int], exact: int, sample: npt.NDArray[np.uint32], size: int
    ) -> Duplicate | None:
        if known[0] and self._exact[known[0] - 1] == exact:
            return self._found("exact", known[0] - 1, 1.0)
        votes = Counter(filter(None, known[1:]))
        for owner, count in votes.most_common(_COMPARED):
            if count < _VOTES:
                break
            share = self._share(owner - 1, sample, size)
            if share >= THRESHOLD:
                return self._found("near", owner - 1, share)
        return None

    def _found(self, kind: Kind, other: int, share: float) -> Duplicate:
        return Duplicate("held-out" if other < self._held_out else kind, other, share)

    def _share(self, other: int, sample: npt.NDArray[np.uint32], size: int) -> float:
        begin, end = self._ends[other], self._ends[other + 1]
        self._file.seek(begin)
        theirs = np.frombuffer(self._file.read(end - begin), dtype=np.uint32)
        self._file.seek(0, 2)
        bound = int(_bounds(np.array([max(size, self._sizes[other])]), _SAMPLE)[0])
        one, two = set(sample[sample < bound].tolist()), set(theirs[theirs < bound].tolist())
        both = len(one & two)
        return both / max(1, len(one) + len(two) - both)


class _Table:
    """Numbers by 34 bits of a hash: an open table of 8 bytes an entry in a mapped file, for many hashes at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._slots = self._empty(_START)
        self._count = 0

    def _empty(self, size: int) -> Hashes:
        with tempfile.TemporaryFile(dir=self._folder) as file:  # it is there as long as it is mapped
            return np.memmap(file, np.uint64, "w+", shape=(size,))

    def _homes(self, tags: Hashes) -> Any:
        bits = int(self._slots.size).bit_length() - 1
        return ((tags * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits)).astype(np.int64)

    def find(self, hashes: Hashes) -> Hashes:
        """The number of each; 0 where there is none."""
        tags = hashes >> np.uint64(64 - _TAG_BITS)
        places = self._homes(tags)
        found = np.zeros(len(tags), dtype=np.uint64)
        left = np.flatnonzero(hashes)
        while len(left):
            slots = self._slots[places[left]]
            same = (slots >> np.uint64(64 - _TAG_BITS) == tags[left]) & (slots != 0)
            found[left[same]] = slots[same] & np.uint64((1 << (64 - _TAG_BITS)) - 1)
            left = left[~same & (slots != 0)]
            places[left] = (places[left] + 1) % self._slots.size
        return found

    def put(self, hashes: Hashes, numbers: Hashes) -> None:
        """Add some that are not there."""
        self._count += len(hashes)
        if self._count > _FULL * self._slots.size:
            old, size = self._slots, self._slots.size
            while self._count > _FULL * size:
                size *= 2
            self._slots = self._empty(size)
            for begin in range(0, old.size, _MOVED):
                part = old[begin : begin + _MOVED]
                self._fill(part[part != 0])
        self._fill(((hashes >> np.uint64(64 - _TAG_BITS)) << np.uint64(64 - _TAG_BITS)) | numbers)

    def _fill(self, entries: Hashes) -> None:
        places = self._homes(entries >> np.uint64(64 - _TAG_BITS))
        left = np.arange(len(entries))
        while len(left):
            wanted = places[left]
            # The first of those that want a free place takes it, the others go on.
            order = np.unique(wanted, return_index=True)[1]
            order = order[self._slots[wanted[order]] == 0]
            self._slots[wanted[order]] = entries[left[order]]
            left = np.delete(left, order)
            places[left] = (places[left] + 1) % self._slots.size
