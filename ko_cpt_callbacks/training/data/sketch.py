"""The characters of many texts in one row, as numbers; and a sketch of each document, by which duplicates are found.

A document is the set of the n-grams of its characters, white space aside. Two of them are near duplicates where the
sets of 5-grams have enough in common (Jaccard), which a sample of their hashes estimates: the hashes below a bound,
the same bound for both. Who could be one is found by longer n-grams: 10 letters in a row are seldom written twice, so
the keys of a document are the lowest hashes of its 10-grams.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ko_cpt_callbacks.training.data.encode import cut

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]

BLANKS: Final = [code for code in range(0x3001) if chr(code).isspace()]
"""All white space; behind U+3000 there is none."""
FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits look drawn by lot: 2**64 by the golden ratio
_WHITE: Final = np.zeros(0x110000, dtype=np.bool_)
_WHITE[BLANKS] = True
TOGETHER: Final = 50_000
"""Characters looked at at once: their numbers stay in the cache of a core. Chosen after times of 10,000 to 500,000."""


def characters(texts: Sequence[str]) -> npt.NDArray[np.uint32]:
    """The characters of some texts, one after the other."""
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def is_white(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Which characters are white space."""
    return _WHITE[codes]


def mixed(values: Hashes) -> Hashes:
    """Numbers of which each bit depends on all bits of those given, one to one."""
    values = (values ^ (values >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return values ^ (values >> np.uint64(29))


def few(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in lists that are looked at at once; one alone may be of any length."""
    return cut(texts, len, TOGETHER)


def spans(begins: Numbers, lengths: Numbers) -> Numbers:
    """The places of some stretches, one stretch after the other."""
    stops = np.cumsum(lengths)
    places: Numbers = np.arange(lengths.sum()) + np.repeat(begins - stops + lengths, lengths)
    return places


_SHORT, _LONG = 5, 10  # letters of an n-gram
_LEAST: Final = 100
"""Characters of the shortest document that can be a near duplicate; chosen, not measured: shorter ones are formulas."""
_SAMPLE: Final = 128  # hashes of a sketch: a standard error of 0.04 of the share
_KEYS: Final = 24  # hashes that a document is looked up by


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
    sizes: Numbers
    sample: npt.NDArray[np.uint32]
    ends: Numbers


def sketch(texts: Sequence[str]) -> Sketches:
    """The sketches of some texts."""
    digests = b"".join(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts
    )
    columns = zip(*map(_sketched, few(texts) if texts else [[]]), strict=True)
    keys, sizes, sample, counts = map(np.concatenate, columns)
    return Sketches(np.frombuffer(digests, dtype=np.uint64), keys, sizes, sample, np.cumsum(counts))


def _sketched(texts: Sequence[str]) -> tuple[Hashes, Numbers, npt.NDArray[np.uint32], Numbers]:
    """Keys, n-grams, sample and the sizes of samples."""
    codes = characters(texts)
    black = np.flatnonzero(~is_white(codes))
    bounds = np.searchsorted(black, np.cumsum([0, *map(len, texts)]))
    letters = codes[black].astype(np.uint64)
    short = letters[: 1 - _SHORT].copy()
    for step in range(1, _SHORT):
        short *= FACTOR
        short += letters[step : len(letters) - _SHORT + 1 + step]
    short = mixed(short)
    long = mixed(short[:-_SHORT] * np.uint64(0xD6E8FEB86659FD93) + short[_SHORT:])

    sizes = np.maximum(np.diff(bounds) - _SHORT + 1, 1)
    owner, chosen = _lowest(short, bounds, _SHORT, sample_bounds(sizes))
    sample = np.sort((owner.astype(np.uint64) << np.uint64(32)) | (chosen >> np.uint64(32)))
    sample = sample[np.append(True, sample[1:] != sample[:-1])[: len(sample)]]
    counts = np.bincount((sample >> np.uint64(32)).astype(np.int64), minlength=len(texts))

    # Twice as many as are wanted, so that seldom one is missing.
    row, lowest = _lowest(long, bounds, _LONG, _bounds(sizes, 2 * _KEYS))
    order = np.lexsort((lowest, row))
    row, lowest = row[order], lowest[order]
    first = np.append(True, (row[1:] != row[:-1]) | (lowest[1:] != lowest[:-1]))[: len(row)]
    row, lowest = row[first], lowest[first]
    rank = np.arange(len(row)) - np.searchsorted(row, row, "left")
    keys = np.zeros((len(texts), _KEYS), dtype=np.uint64)
    keys[row[rank < _KEYS], rank[rank < _KEYS]] = lowest[rank < _KEYS]
    return keys, sizes, sample.astype(np.uint32), counts


def _lowest(hashes: Hashes, bounds: Numbers, size: int, limits: Hashes) -> tuple[Numbers, Hashes]:
    """The hashes of n-grams whose upper half is below a limit, and whose they are; none of short documents.

    Args:
        hashes: Of all n-grams of all documents, also of those that go over from one into the next.
        bounds: Where documents begin and end.
        size: Letters of an n-gram.
        limits: Of each document.
    """
    lengths = np.diff(bounds)
    limit = np.repeat(np.where(lengths < _LEAST, np.uint64(0), limits), lengths)
    limit[(bounds[1:][lengths >= _LEAST, None] - np.arange(1, size)).ravel()] = 0
    chosen = np.flatnonzero((hashes >> np.uint64(32)) < limit[: len(hashes)])
    return np.searchsorted(bounds, chosen, "right") - 1, hashes[chosen]


def sample_bounds(sizes: Numbers) -> Hashes:
    """Below which the hashes of a sample are, by the n-grams of a document."""
    return _bounds(sizes, _SAMPLE)


def _bounds(sizes: Numbers, wanted: int) -> Hashes:
    """Below which so many 32-bit hashes of a text are expected; all of a short one."""
    return np.minimum(2.0**32, 2.0**32 * wanted / sizes).astype(np.uint64)
