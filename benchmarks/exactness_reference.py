"""The loss of an evaluation in float64, from the Trainer's own forward passes. Imports nothing of the package.

A hook on the model sees every labelled forward pass in evaluation mode. Where the output holds logits, the sums come
from them; where it does not (TRL 1.16's fused head), from the backbone's last hidden states and the weight of the
output embedding that is in force (the trained copy under ``modules_to_save``). Nothing is known here of samplers,
remainders or batch sizes: a row is named by its token ids, and of a row that was seen twice the first sight counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import TrainerCallback

# [number of the forward pass, rank, position in the batch, name of the row, summed loss in nats, target tokens]
Sight = list[Any]


def row_name(ids: Iterable[int]) -> str:
    """A name for a row of token ids; rows of one data set are distinct."""
    return hashlib.sha256(",".join(str(int(token)) for token in ids).encode()).hexdigest()[:16]


class Reference(TrainerCallback):
    """Watches one model and keeps what every evaluation of its Trainer saw.

    Args:
        model: The Trainer's model.
        rank: Index of this process.

    Attributes:
        evaluations: One list of sights per evaluation, in the order in which the evaluations ended.
    """

    def __init__(self, model: nn.Module, rank: int) -> None:
        self.evaluations: list[list[Sight]] = []
        self._rank = rank
        self._passes = 0
        self._sights: list[Sight] = []
        self._hidden: Tensor | None = None
        base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
        self._base = base
        self._base.model.register_forward_hook(self._keep_hidden)
        model.register_forward_hook(self._see, with_kwargs=True)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An evaluation is over."""
        self.evaluations.append(self._sights)
        self._sights, self._passes = [], 0

    def _keep_hidden(self, module: nn.Module, args: Any, output: Any) -> None:
        if not module.training:
            kind = output[0].device.type
            low = torch.is_autocast_enabled(kind)
            self._hidden = output[0].detach().to(torch.get_autocast_dtype(kind) if low else output[0].dtype)

    def _see(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        if module.training or kwargs.get("labels") is None:
            return
        logits, labels = output.get("logits"), kwargs["labels"]
        scores = self._scores() if logits is None else logits.detach().double()
        # The scores at position i - 1 are for the label at i; nothing stands before the first.
        taken = labels[:, 1:].clamp(min=0).unsqueeze(-1)
        losses = -torch.log_softmax(scores[:, :-1], dim=-1).gather(-1, taken).squeeze(-1)
        losses = torch.where(labels[:, 1:] == -100, 0.0, losses)
        for position, (line, start, end) in enumerate(_spans(kwargs)):
            targets = labels[line, max(start, 1) : end] != -100
            total = losses[line, max(start, 1) - 1 : end - 1].sum()
            name = row_name(kwargs["input_ids"][line, start:end].tolist())
            self._sights.append([self._passes, self._rank, position, name, float(total), int(targets.sum())])
        self._passes += 1

    def _scores(self) -> Tensor:
        assert self._hidden is not None
        head = self._base.lm_head
        trained = getattr(head, "modules_to_save", None)
        if trained is not None:
            head = trained[head.active_adapter if isinstance(head.active_adapter, str) else head.active_adapter[0]]
        weight = head.weight.detach().to(self._hidden.dtype)
        native = F.linear(self._hidden, weight)
        if native.dtype != torch.float32:
            return native.double()  # the model's own rounding is part of its forward pass
        return F.linear(self._hidden.double(), weight.double())


def _spans(kwargs: Mapping[str, Any]) -> list[tuple[int, int, int]]:
    """Line, start and end of every row of a batch, padding left out; of a flattened batch: of every document."""
    mask, positions, ids = kwargs.get("attention_mask"), kwargs.get("position_ids"), kwargs["input_ids"]
    if mask is None and positions is not None:
        starts = [at for at, position in enumerate(positions[0].tolist()) if position == 0]
        return [(0, start, end) for start, end in zip(starts, [*starts[1:], ids.shape[1]], strict=True)]
    lengths = [ids.shape[1]] * len(ids) if mask is None else mask.sum(1).tolist()
    return [(line, 0, int(length)) for line, length in enumerate(lengths)]


def merge(sights: Iterable[Sight], names: Sequence[str]) -> tuple[float, int]:
    """Mean loss (nats per token) and target tokens over all ranks, every row once.

    Args:
        sights: What all ranks saw in one evaluation.
        names: Names of the data set's rows.

    Raises:
        ValueError: If two rows of the data set are alike, or what was seen is not the data set.
    """
    first: dict[str, Sight] = {}
    for sight in sorted(sights, key=lambda entry: entry[:3]):
        first.setdefault(sight[3], sight)
    if len(set(names)) != len(names):
        raise ValueError("the data set holds a row twice, so a repeat cannot be told from it")
    if set(first) != set(names):
        raise ValueError(f"{len(set(first) ^ set(names))} rows are in the data set or in the batches but not in both")
    tokens = sum(sight[5] for sight in first.values())
    return sum(sight[4] for sight in first.values()) / tokens, tokens
