"""What the exact loss must be: the negative log-likelihoods of all target tokens, summed in float64."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import torch


def loss_of(model: Any, rows: Iterable[Mapping[str, Any]]) -> tuple[float, int]:
    """Loss in nats per token and target tokens of rows that are scored one by one.

    A packed row (``position_ids`` that begin again) is scored document by document.
    """
    total, tokens = 0.0, 0
    model.eval()
    for row in rows:
        positions = list(row.get("position_ids") or range(len(row["input_ids"])))
        starts = [place for place, position in enumerate(positions) if position == 0] + [len(positions)]
        for begin, end in pairwise(starts):
            ids = torch.tensor([list(row["input_ids"])[begin:end]])
            labels = torch.tensor(list(row["labels"])[begin:end])
            if len(labels) < 2:
                continue
            with torch.no_grad():
                logits = model(input_ids=ids).logits[0, :-1].double()
            kept = labels[1:] != -100
            total += torch.nn.functional.cross_entropy(logits[kept], labels[1:][kept], reduction="sum").item()
            tokens += int(kept.sum())
    return total / tokens, tokens
