"""Documents become rows of one length, in a fixed order and proportion, and no token is lost unsaid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest

from ko_cpt_callbacks.training.data.packing import PackReport, mix_streams, pack_rows

pytestmark = pytest.mark.both_versions

DOCUMENTS = [[1, 2, 3, 0], [4, 0], [5, 6, 7, 8, 9, 10, 11, 0], [12, 0]]
STREAM = [token for document in DOCUMENTS for token in document]


@pytest.mark.parametrize("tail", ["drop", "keep"])
@pytest.mark.parametrize("length", [2, 3, 5, 8, 15, 16, 17, 100])
def test_rows_are_the_documents_one_after_the_other(length: int, tail: Literal["drop", "keep"]) -> None:
    """Whole rows and what is left over are all the tokens, in order; what is dropped is counted."""
    report = PackReport()
    rows = [row.tolist() for row in pack_rows(iter(DOCUMENTS), length, tail, report)]
    left = len(STREAM) % length
    assert all(len(row) == length for row in rows[:-1])
    if tail == "keep" and left > 1:
        assert (len(rows[-1]), report.dropped_tokens) == (left, 0)
    else:
        assert report.dropped_tokens == left
    assert [token for row in rows for token in row] == STREAM[: len(STREAM) - report.dropped_tokens]


def test_rows_come_as_soon_as_they_are_full() -> None:
    """Of an endless stream too: memory is that of a row and a document."""
    taken = 0

    def endless() -> Iterator[list[int]]:
        nonlocal taken
        while True:
            taken += 1
            yield [taken, 0]

    rows = pack_rows(endless(), 10, "drop", PackReport())
    assert next(rows).tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]
    assert taken == 5
    next(rows)
    assert taken == 10


def streams(**sizes: list[int]) -> dict[str, Iterator[int]]:
    """Streams of items that are their own size."""
    return {name: iter(items) for name, items in sizes.items()}


def test_shares_hold_at_every_moment() -> None:
    """54 to 48, items of any size: no stream is ever further off its share than its largest item."""
    shares = {"en": 54.0, "ko": 48.0}
    mixed = mix_streams(streams(en=[7, 1, 30] * 400, ko=[5, 11] * 800), shares, lambda size: size)
    taken = {"en": 0, "ko": 0}
    count = 0
    for name, size in mixed:
        taken[name] += size
        count += 1
        assert abs(taken["en"] / 54 - taken["ko"] / 48) <= 30 / 48
    assert count > 1000


def test_the_mixture_ends_with_the_stream_whose_turn_it_is() -> None:
    """That one is taken whole; of the other as much as fits."""
    mixed = list(mix_streams(streams(a=[1] * 10, b=[1] * 1000), {"a": 1, "b": 3}, lambda size: size))
    names = [name for name, _ in mixed]
    assert names.count("a") == 10
    assert names.count("b") == 30
    assert names[:5] == ["a", "b", "b", "b", "a"]


def test_without_shares_one_after_the_other() -> None:
    """Every stream whole."""
    mixed = mix_streams(streams(a=[1, 2], b=[], c=[3]), None, lambda size: size)
    assert list(mixed) == [("a", 1), ("a", 2), ("c", 3)]
