"""Pad tokens among the labels, seen in a batch as it goes into the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ko_cpt_callbacks.hf.evidence import IGNORE


@dataclass(frozen=True, slots=True)
class PaddingCounts:
    """What a first batch showed, over all ranks.

    Attributes:
        masked_labels: Labelled positions whose attention mask is 0.
        pad_run_rows: Rows that begin or end with two or more labelled pad tokens. One alone may be the end of a
            text where the end-of-text token serves as pad.
        rows: Rows of the batch.
        tokens: Labelled positions.
        unlabelled: Positions of text without a label, the first of a text left out: nothing predicts it.
    """

    masked_labels: int
    pad_run_rows: int
    rows: int
    tokens: int
    unlabelled: int = 0

    @property
    def suspicious(self) -> bool:
        """Whether pads are in the loss."""
        return self.masked_labels > 0 or self.pad_run_rows > 0


def count_padding(kwargs: Mapping[str, Any], pad_id: int | None) -> Tensor | None:
    """Counts of one batch, on its device: masked labels, pad runs, rows, labelled positions, text without a label.

    Args:
        kwargs: Keyword arguments of the forward call.
        pad_id: The pad token; None where there is none.

    Returns:
        An int64 tensor of shape (5,); None where the batch has no labels of shape (rows, length).
    """
    labels, mask = kwargs.get("labels"), kwargs.get("attention_mask")
    if not isinstance(labels, Tensor) or labels.dim() != 2 or labels.shape[1] < 2:
        return None
    labelled = labels != IGNORE
    masked = torch.zeros((), dtype=torch.int64, device=labels.device)
    if isinstance(mask, Tensor) and mask.shape == labels.shape:
        masked = (labelled & (mask.to(labels.device) == 0)).sum()
    runs = torch.zeros_like(masked)
    if pad_id is not None:
        pads = labels == pad_id
        runs = ((pads[:, 0] & pads[:, 1]) | (pads[:, -1] & pads[:, -2])).sum()
    rows = torch.full_like(masked, labels.shape[0])
    return torch.stack([masked, runs, rows, labelled.sum(), _unlabelled(kwargs, labelled, pad_id).sum()])


def _unlabelled(kwargs: Mapping[str, Any], labelled: Tensor, pad_id: int | None) -> Tensor:
    """Which positions hold text and have no label. Without token ids every position counts as text: silence is safe."""
    ids, mask, places = (kwargs.get(name) for name in ("input_ids", "attention_mask", "position_ids"))
    text = torch.ones_like(labelled)
    if pad_id is not None and isinstance(ids, Tensor) and ids.shape == labelled.shape:
        text = ids.to(labelled.device) != pad_id
    if isinstance(mask, Tensor) and mask.shape == labelled.shape:
        text = text & (mask.to(labelled.device) != 0)
    first = text & (text.cumsum(1) == 1)
    if isinstance(places, Tensor) and places.shape == labelled.shape:  # several texts in a row
        first = first | (places.to(labelled.device) == 0)
    return text & ~first & ~labelled


def add_padding(parts: list[list[int] | None]) -> PaddingCounts | None:
    """The counts of all ranks together; None where no rank counted."""
    known = [part for part in parts if part is not None]
    return PaddingCounts(*(sum(column) for column in zip(*known, strict=True))) if known else None
