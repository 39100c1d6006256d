"""Rows that only fill the last distributed batch: how many of a batch count."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler

from ko_cpt_callbacks.hf.measure import measurement
from ko_cpt_callbacks.hf.measure.measurement import IndistinctRowsError, rows_kept

PLAIN = [{"input_ids": [3, 4, 5]}] * 7
PACKED = [{"seq_lengths": lengths} for lengths in ([3, 4], [5], [6], [1, 1, 2], [2, 2, 3])]


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what accelerate says of the batch at hand."""

    def say(remainder: int, end_of_dataloader: bool = True) -> None:
        state = SimpleNamespace(remainder=remainder, end_of_dataloader=end_of_dataloader)
        monkeypatch.setattr(measurement, "GradientState", lambda: state)

    return say


def _kept(lengths: list[int] | None = None, **changes: Any) -> int | None:
    """Two processes, batch size 2; ``lengths``: of the documents of a padding-free batch."""
    starts, lines = None, 2
    if lengths is not None:
        lines = 1
        starts = torch.cat([torch.arange(length) == 0 for length in lengths])[None]
    call = {"lines": lines, "starts": starts, "rank": 0, "processes": 2, "loader": _loader(PLAIN), "step": 1, **changes}
    return rows_kept(**call)


def _loader(rows: list[Any], **more: Any) -> Any:
    return SimpleNamespace(dataset=rows, total_batch_size=4, **more)


def test_all_rows_count_before_the_last_batch_and_in_a_full_one(end: Any) -> None:
    """And always on one process."""
    end(3, end_of_dataloader=False)
    assert _kept() is None
    end(0)
    assert _kept() is None
    end(3)
    assert _kept(processes=1) is None


def test_the_real_rows_are_the_first_ones_in_rank_order(end: Any) -> None:
    """Three real rows of four: rank 0 has two, rank 1 has one; with one, rank 1 has none."""
    end(3)
    assert [_kept(rank=rank) for rank in (0, 1)] == [2, 1]
    end(1)
    assert [_kept(rank=rank) for rank in (0, 1)] == [1, 0]


def test_a_flattened_batch_with_a_document_a_row(end: Any) -> None:
    """Documents are rows where the data set says nothing else and their number is that of the rows."""
    end(3)
    assert _kept([5, 7], rank=1, lines=1) == 1


def test_packed_documents_are_found_in_the_data_set(end: Any) -> None:
    """Five packed rows, batches of two on two ranks: rank 0's last batch has row 4 and, as filling, row 0."""
    end(1)
    assert _kept([2, 2, 3, 3, 4], loader=_loader(PACKED), step=2, lines=1) == 3
    assert _kept([5, 6], loader=_loader(PACKED), step=2, rank=1, lines=1) == 0


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"lengths": [2, 2, 3, 4, 3]}, "cannot be told apart"),
        ({"lengths": [2, 2, 3], "loader": _loader(PLAIN)}, "cannot be told apart"),
        ({"lines": None}, "a loss per batch"),
    ],
)
def test_what_cannot_be_told_apart_is_said(end: Any, case: dict[str, Any], reason: str) -> None:
    """Another order than the data set's, documents without a word on their rows, a loss without rows."""
    end(1)
    with pytest.raises(IndistinctRowsError, match=reason):
        _kept(**{"loader": _loader(PACKED), "step": 2, **case})


def test_packed_lines_that_are_rows(end: Any) -> None:
    """As many lines as rows a rank: lines are kept or left out whole, whatever they hold; so is a single one."""
    starts = torch.tensor([[True, False, True], [True, True, False]])
    end(3)
    assert [_kept(starts=starts, rank=rank) for rank in (0, 1)] == [2, 1]
    single = SimpleNamespace(dataset=PLAIN, total_batch_size=2)
    end(1)
    assert [_kept([1, 2], loader=single, rank=rank) for rank in (0, 1)] == [None, 0]


def test_lines_that_are_no_rows_are_refused(end: Any) -> None:
    """A collator that packed four rows of a rank into two lines: which of them are repeats is not known."""
    end(3)
    with pytest.raises(IndistinctRowsError, match="4 rows came as 2 lines"):
        _kept(loader=SimpleNamespace(dataset=PLAIN, total_batch_size=8))


def test_batches_that_are_not_made_even(end: Any) -> None:
    """``even_batches=False`` repeats nothing, so every row of the last batch is real."""
    end(1)
    assert _kept(rank=1, loader=_loader(PLAIN, batch_sampler=SimpleNamespace(even_batches=False))) is None


class _Bins(BatchSampler):
    """Batches of unequal length, as many as asked for."""

    def __init__(self, count: int, batch_size: int | None) -> None:
        self.count, self.batch_size = count, batch_size  # type: ignore[assignment]

    def __iter__(self) -> Any:
        yield from ([0] * (1 + index) for index in range(self.count))

    def __len__(self) -> int:
        return self.count


def test_batches_of_a_sampler_of_the_users_own(end: Any) -> None:
    """accelerate's remainder counts on equal batches: with others rows are kept where none can be a repeat."""
    for remainder in (0, 1):
        end(remainder)
        whole = SimpleNamespace(batch_sampler=_Bins(4, None), even_batches=True)
        assert _kept(loader=_loader(PLAIN, batch_sampler=whole)) is None
        for bins in (_Bins(3, None), _Bins(4, 2)):
            filled = SimpleNamespace(batch_sampler=bins, even_batches=True)
            with pytest.raises(IndistinctRowsError, match="_Bins"):
                _kept(loader=_loader(PLAIN, batch_sampler=filled))
    plain = BatchSampler(range(7), 2, drop_last=False)
    assert _kept(loader=_loader(PLAIN, batch_sampler=SimpleNamespace(batch_sampler=plain, even_batches=True))) == 1


def test_without_a_known_length_only_dropping_the_last_batch_helps(end: Any) -> None:
    """A negative remainder: no length, or nothing to fill because the last batch is dropped."""
    end(-1)
    with pytest.raises(IndistinctRowsError, match="no length"):
        _kept()
    assert _kept(loader=_loader(PLAIN, batch_sampler=SimpleNamespace(drop_last=True))) is None
