"""A batch: what is filled in is no target; what stands in a row is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tiny import llama
from torch import nn

from ko_cpt_callbacks.training.trainer import Batcher


def tokens(pad: int | None = 2, end: int | None = 1) -> Any:
    """A tokenizer, as far as batches ask it."""
    return SimpleNamespace(pad_token_id=pad, eos_token_id=end)


def test_padding_alone_is_no_target() -> None:
    """Shorter rows are filled up, unattended and ignored; an end token is a target also where it is the pad token."""
    rows = [{"input_ids": [5, 6, 7, 1]}, {"input_ids": [8, 1]}]
    for pad in (2, 1):
        batch = Batcher(tokens(pad), llama(32))(rows)
        assert batch["input_ids"].tolist() == [[5, 6, 7, 1], [8, 1, pad, pad]]
        assert batch["labels"].tolist() == [[5, 6, 7, 1], [8, 1, -100, -100]]
        assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
        assert "token_type_ids" not in batch
    assert Batcher(tokens(None), llama(32))(rows)["input_ids"][1].tolist() == [8, 1, 1, 1]
    assert Batcher(tokens(None, None), llama(32))(rows)["input_ids"][1].tolist() == [8, 1, 0, 0]


def test_labels_of_a_row_are_kept() -> None:
    """A row that brings labels is trained on those."""
    batch = Batcher(tokens(), llama(32))([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [5, 1]}])
    assert batch["labels"].tolist() == [[-100, 6, 7], [5, 1, -100]]


def test_a_model_that_asks_for_types_gets_them() -> None:
    """A model with pictures among its tokens is told that there are none."""

    class Seeing(nn.Module):
        def forward(self, input_ids: Any, token_type_ids: Any = None) -> None: ...

    batch = Batcher(tokens(), Seeing())([{"input_ids": [5, 6]}])
    assert batch["token_type_ids"].tolist() == [[0, 0]]
