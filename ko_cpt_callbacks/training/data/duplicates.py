"""Which documents were there before, whole or nearly: an index of those that were kept, by their sketches.

A document is looked up by its keys, and one that owns two of them is compared.

Own code, of numpy: the hashes of ``rensa`` change with its versions (0.5 refuses the indexes of 0.4), and with them
would the rows of a corpus, and its index is held in memory; ``datatrove`` takes three passes over the whole corpus
before the first row.
"""

from __future__ import annotations

import mmap
import tempfile
from array import array
from pathlib import Path
from typing import IO, Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ko_cpt_callbacks.training.data.sketch import FACTOR, Hashes, Numbers, Sketches, sample_bounds, spans

Kind = Literal["held-out", "exact", "near"]

THRESHOLD: Final = 0.3
"""Share of common 5-grams from which on two documents are near duplicates. Of a text with a tenth of its characters
changed about 0.37 is common (measured by ``make bench-data``, with the false removals on prose beside it)."""
_VOTES: Final = 2  # of them, that a document must own to be compared
_COMPARED: Final = 4  # documents at most
_PAIRS: Final = 1024  # compared at once; chosen, not measured
_TAG_BITS: Final = 34
_FULL: Final = 0.7  # of the table, before it is made larger
_MOVED: Final = 1 << 20  # entries at once, then
_START: Final = 1 << 16  # its entries at first


class Duplicate(NamedTuple):
    """What a document is a duplicate of.

    Attributes:
        kind: ``held-out`` where the other one is, whole or nearly; otherwise how much is the same.
        share: Of the 5-grams of both that both have, estimated; 1 where all is the same.
    """

    kind: Kind
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
        self._sizes = array("q")
        self._ends = array("q", [0])
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
        """For each of some documents what it is a duplicate of; the others are kept, or all of them."""
        keys = np.concatenate((found.exact[:, None] | np.uint64(1), found.keys), axis=1)
        if not self._near:
            keys = keys[:, :1]
        start = len(self._exact)
        owners = _Owners(keys, self._table.find(keys.ravel()).reshape(keys.shape).astype(np.int64), start)
        judged: list[Duplicate | None] = [None] * len(keys)
        kept = np.ones(len(keys), dtype=np.bool_)
        before = np.full(keys.shape, -1)
        # A document is compared with those before it that are kept: at first as if all were, and anew where that was
        # wrong. Each round one document more has its last judgement, at least.
        while not all_of_them:
            known = owners.known(kept)
            changed = np.flatnonzero((known != before).any(axis=1))
            if not len(changed):
                break
            for place, duplicate in zip(changed.tolist(), self._judged(found, changed, known[changed]), strict=True):
                judged[place] = duplicate
                kept[place] = duplicate is None
            before = known
        numbers = start + np.cumsum(kept)
        self._table.put(*owners.new(kept, numbers))
        self._keep(found, kept)
        return judged

    def _keep(self, found: Sketches, kept: npt.NDArray[np.bool_]) -> None:
        counts = np.diff(found.ends, prepend=0)
        self._exact.frombytes(found.exact[kept].tobytes())
        self._sizes.frombytes(found.sizes[kept].tobytes())
        if self._near:
            self._ends.frombytes((self._ends[-1] + counts[kept].cumsum()).tobytes())
            self._file.seek(0, 2)
            self._file.write(found.sample[np.repeat(kept, counts)].tobytes())
            self._file.flush()

    def _judged(self, found: Sketches, places: Numbers, known: Numbers) -> list[Duplicate | None]:
        """What some documents are duplicates of.

        Args:
            found: Of all that are added.
            places: Which of them are judged.
            known: The numbers, from 1, of those that own their keys; all that are added have the next ones.
        """
        judged: list[Duplicate | None] = [None] * len(places)
        rows, others = _compared(known[:, 1:])
        for begin in range(0, len(rows), _PAIRS):
            row, other = rows[begin : begin + _PAIRS], others[begin : begin + _PAIRS] - 1
            share = self._shares(found, places[row], other)
            for place in np.flatnonzero(share >= THRESHOLD).tolist():
                if judged[row[place]] is None:
                    judged[row[place]] = self._duplicate("near", other[place], float(share[place]))
        other = known[:, 0] - 1
        exact = (other >= 0) & (_values(self._exact, found.exact, other) == found.exact[places])
        for place in np.flatnonzero(exact).tolist():
            judged[place] = self._duplicate("exact", other[place], 1.0)
        return judged

    def _duplicate(self, kind: Kind, other: int, share: float) -> Duplicate:
        return Duplicate("held-out" if other < self._held_out else kind, share)

    def _shares(self, found: Sketches, places: Numbers, others: Numbers) -> npt.NDArray[np.float64]:
        """How much of both is common, of pairs of documents."""
        ends = np.concatenate(([0], found.ends))
        own = found.sample[spans(ends[places], ends[places + 1] - ends[places])]
        theirs = self._samples(found, ends, others)
        bounds = sample_bounds(np.maximum(found.sizes[places], _values(self._sizes, found.sizes, others)))
        sides = []
        for values, counts in ((own, ends[places + 1] - ends[places]), theirs):
            pair = np.repeat(np.arange(len(places)), counts)
            sides.append(((pair << 32) | values)[values < bounds[pair]])
        either = np.sort(np.concatenate(sides), kind="stable")  # which merges two sides that are in order each
        both, *sizes = (
            np.bincount(side >> 32, minlength=len(places)) for side in (either[1:][either[1:] == either[:-1]], *sides)
        )
        shares: npt.NDArray[np.float64] = both / np.maximum(1, sum(sizes) - both)
        return shares

    def _samples(self, found: Sketches, ends: Numbers, others: Numbers) -> tuple[npt.NDArray[np.uint32], Numbers]:
        """The samples of documents that were kept before or are added, one after the other, and their sizes."""
        start = len(self._exact)
        former = np.frombuffer(self._ends, dtype=np.int64)
        old = others < start
        sides = [(self._stored(), former, others[old]), (found.sample, ends, others[~old] - start)]
        counts = np.empty(len(others), dtype=np.int64)
        for (_, known, numbers), chosen in zip(sides, (old, ~old), strict=True):
            counts[chosen] = known[numbers + 1] - known[numbers]
        values = np.empty(counts.sum(), dtype=np.uint32)
        own = np.repeat(old, counts)
        for (samples, known, numbers), chosen in zip(sides, (own, ~own), strict=True):
            values[chosen] = samples[spans(known[numbers], known[numbers + 1] - known[numbers])]
        return values, counts

    def _stored(self) -> npt.NDArray[np.uint32]:
        """The samples of those that were kept, mapped: pages that were looked at go when nothing refers to them."""
        if not self._ends[-1]:
            return np.empty(0, dtype=np.uint32)
        size = self._ends[-1] * 4
        return np.frombuffer(mmap.mmap(self._file.fileno(), size, prot=mmap.PROT_READ), dtype=np.uint32)


def _values(former: array[int], latter: npt.NDArray[Any], numbers: Numbers) -> npt.NDArray[Any]:
    """Of some documents by their numbers what is known of those that are kept, and behind them of others."""
    found = np.zeros(len(numbers), latter.dtype)
    old = numbers < len(former)
    found[old] = np.frombuffer(former, latter.dtype)[numbers[old]] if len(former) else 0
    found[~old] = latter[numbers[~old] - len(former)]
    return found


def _compared(known: Numbers) -> tuple[Numbers, Numbers]:
    """Rows, and whom each is compared with: who owns most of its keys first.

    Args:
        known: A row each: who owns its keys; 0 where no one does.
    """
    row, column = np.nonzero(known)
    owner = known[row, column]
    order = np.lexsort((owner, row))
    row, owner = row[order], owner[order]
    begin = np.flatnonzero(np.append(True, (row[1:] != row[:-1]) | (owner[1:] != owner[:-1]))[: len(row)])
    votes = np.diff(begin, append=len(row))
    begin, votes = begin[votes >= _VOTES], votes[votes >= _VOTES]
    row, owner = row[begin], owner[begin]
    best = np.lexsort((order[begin], -votes, row))
    row, owner = row[best], owner[best]
    first = np.arange(len(row)) - np.searchsorted(row, row) < _COMPARED
    return row[first], owner[first]


class _Owners:
    """Who owns the keys of documents that are added: one that was kept, or the first of them that is kept.

    Args:
        keys: A row each; 0 where there is none.
        owners: The numbers, from 1, of those that were kept; 0 where there is none.
        start: How many were kept.
    """

    def __init__(self, keys: Hashes, owners: Numbers, start: int) -> None:
        self._owners = owners
        self._start = start
        row, column = np.nonzero((owners == 0) & (keys != 0))
        order = np.argsort(keys[row, column], kind="stable")
        self._row, self._column = row[order], column[order]
        self._keys = keys[self._row, self._column]
        self._key = np.cumsum(np.append(False, self._keys[1:] != self._keys[:-1])[: len(order)])

    def _first(self, kept: npt.NDArray[np.bool_]) -> Numbers:
        """Where each key stands first in a document that is kept."""
        place = np.flatnonzero(kept[self._row])
        key = self._key[place]
        first: Numbers = place[np.append(True, key[1:] != key[:-1])[: len(key)]]
        return first

    def known(self, kept: npt.NDArray[np.bool_]) -> Numbers:
        """The owners of all keys of each document, by which documents are kept."""
        first = self._first(kept)
        row = np.full(len(self._key), len(kept))
        row[self._key[first]] = self._row[first]
        owner = row[self._key]
        known: Numbers = self._owners.copy()
        known[self._row, self._column] = np.where(owner < self._row, self._start + 1 + owner, 0)
        return known

    def new(self, kept: npt.NDArray[np.bool_], numbers: Numbers) -> tuple[Hashes, Hashes]:
        """Keys that have an owner now, and its number, by which documents are kept and their numbers."""
        first = self._first(kept)
        return self._keys[first], numbers[self._row[first]].astype(np.uint64)


class _Table:
    """Numbers by 34 bits of a hash: an open table of 8 bytes an entry in a mapped file, for many hashes at once.

    Its pages count as memory of the process; they stay in the file, and the system takes them back where it needs room.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._make(_START)

    def _make(self, size: int) -> None:
        with tempfile.TemporaryFile(dir=self._folder) as file:  # it is there as long as it is mapped
            file.truncate(size * 8)
            self._map = mmap.mmap(file.fileno(), size * 8)
        self._slots: Hashes = np.frombuffer(self._map, dtype=np.uint64)

    def _homes(self, tags: Hashes) -> Any:
        bits = int(self._slots.size).bit_length() - 1
        return ((tags * FACTOR) >> np.uint64(64 - bits)).astype(np.int64)

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
            former, old = self._map, self._slots
            size = old.size
            while self._count > _FULL * size:
                size *= 2
            self._make(size)
            for begin in range(0, old.size, _MOVED):
                part = old[begin : begin + _MOVED]
                self._fill(part[part != 0])
                if hasattr(mmap, "MADV_DONTNEED"):
                    former.madvise(mmap.MADV_DONTNEED)  # what was moved is not wanted in memory twice
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
