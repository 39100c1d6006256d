"""Rows to a batch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ko_cpt_callbacks.training.data.packing import IGNORED
from ko_cpt_callbacks.training.data.rows import COLUMN, LABELS


class Batcher:
    """Fills rows up to the longest; what it fills in is no target and is not attended to.

    transformers' own collator takes every token that is the pad token for padding: with a pad token that is the end
    token too, as many models have it, no document would end.

    Args:
        tokenizer: Its pad token is filled in, or its end token.
        model: Some want to be told which tokens are of a picture: none.
    """

    def __init__(self, tokenizer: Any, model: nn.Module) -> None:
        given = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        self._pad = next(index for index in given if index is not None)
        inner: Any = model
        while hasattr(inner, "get_base_model"):
            inner = inner.get_base_model()
        self._types = "token_type_ids" in inspect.signature(inner.forward).parameters

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Row by row ``input_ids`` and, where they differ, ``labels``."""
        length = max(len(row[COLUMN]) for row in rows)
        ids = torch.full((len(rows), length), self._pad, dtype=torch.long)
        labels = torch.full_like(ids, IGNORED)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            size = len(row[COLUMN])
            ids[place, :size] = torch.tensor(row[COLUMN])
            labels[place, :size] = torch.tensor(row.get(LABELS, row[COLUMN]))
            mask[place, :size] = 1
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        return {**batch, "token_type_ids": torch.zeros_like(ids)} if self._types else batch
