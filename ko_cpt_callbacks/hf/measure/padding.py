"""Pad tokens among the labels, seen in a batch as it goes into the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE

# Labels of one token in a row that hardly any text has at its end. Chosen, not measured.
_EQUAL_RUN: Final = 8


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
        ends: Pad tokens that stand behind a labelled token, are text, and have no label: where the end token serves
            as pad, a text's end that is not trained on.
        end_labels: Labels that are the pad token.
        equal_ends: Rows that begin or end with eight or more labels of one token, the same in all these rows.
        equal_tokens: Those labels.
    """

    masked_labels: int
    pad_run_rows: int
    rows: int
    tokens: int
    unlabelled: int = 0
    ends: int = 0
    end_labels: int = 0
    equal_ends: int = 0
    equal_tokens: int = 0

    @property
    def suspicious(self) -> bool:
        """Whether pads may be in the loss."""
        return self.masked_labels > 0 or self.pad_run_rows > 0 or self.equal_ends > 0


def count_padding(kwargs: Mapping[str, Any], pad_id: int | None) -> Tensor | None:
    """Counts of one batch, on its device, in the order of `PaddingCounts`.

    Args:
        kwargs: Keyword arguments of the forward call.
        pad_id: The pad token; None where there is none.

    Returns:
        An int64 tensor of shape (9,); None where the batch has no labels of shape (rows, length).
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
    unlabelled = _unlabelled(kwargs, labelled, pad_id).sum()
    ends = _unlabelled_ends(kwargs, labelled, pad_id).sum()
    end_labels = torch.zeros_like(masked) if pad_id is None else (labels == pad_id).sum()
    return torch.stack([masked, runs, rows, labelled.sum(), unlabelled, ends, end_labels, *_equal_ends(labels)])


def _unlabelled_ends(kwargs: Mapping[str, Any], labelled: Tensor, pad_id: int | None) -> Tensor:
    """Pad tokens without a label right behind a labelled token, where they are text.

    The mask says what is text; a masked one, or one that another unmasked pad follows, may be a pad. Without a mask a
    pad token is text where another token follows, as in a packed row.
    """
    ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
    none = torch.zeros_like(labelled)
    if pad_id is None or not isinstance(ids, Tensor) or ids.shape != labelled.shape:
        return none
    pads = ids.to(labelled.device) == pad_id
    behind = torch.cat([none[:, :1], labelled[:, :-1]], dim=1)
    if isinstance(mask, Tensor) and mask.shape == labelled.shape:
        text = mask.to(labelled.device) != 0
        more = torch.cat([(pads & text)[:, 1:], none[:, :1]], dim=1)
    else:
        text, more = ~none, torch.cat([pads[:, 1:], ~none[:, :1]], dim=1)
    return pads & text & ~more & behind & ~labelled


def _equal_ends(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Rows with a run of one token at an end, and the labels of these runs, by the token that most rows end with.

    Rows filled up with a token that neither a tokenizer nor a mask tells of look like that, and hardly any text does.
    """
    best = torch.zeros((2,), dtype=torch.int64, device=labels.device)
    for side in (labels.flip(1), labels):
        token = side[:, 0].mode().values
        runs = ((side == token) & (token != IGNORE)).cumprod(1).sum(1)
        runs = runs * (runs >= _EQUAL_RUN)
        best = torch.maximum(best, torch.stack([(runs > 0).sum(), runs.sum()]))
    return best[0], best[1]


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
