"""Kinds of Trainer, model and data loading beyond the plain table: what each is, and what is right for it.

A kind that *must* be measured is right where the published loss is that of the rows, to 1e-5. One that *may* be absent
is right where it is exact, or where there is no exact loss and the reason says what the kind does. The reference is
computed here in float64, one row at a time and without labels in the call, from the rows that the kind was given: what
the Trainer does with its labels, its batches and its loss cannot reach it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import exactness_models as models
import exactness_trainers as trainers
import torch
import torch.nn.functional as F
from exactness_trainers import Rows
from transformers import TrainerCallback


@dataclass(frozen=True)
class Kind:
    """One kind.

    Attributes:
        reason: What the reason of an absent loss must match; None where the loss must be measured.
        settings: Training arguments.
        model: Makes the model; None: a small Llama.
        trainer: Makes the Trainer from (model, training arguments, rows, callback); None: a plain one.
        compared: Whether there is a loss of rows to compare with.
        watched: Whether the reference watches the Trainer's own forward passes: for quantized models, whose numbers
            depend on the batch.
    """

    reason: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: Callable[[Path], Any] | None = None
    trainer: Callable[[Any, dict[str, Any], Rows, Any], Any] | None = None
    compared: bool = True
    watched: bool = False

    def wrong_reason(self, reason: str | None) -> str | None:
        """What is wrong where there is no exact loss; None where the reason is this kind's own."""
        if self.reason is None:
            return f"found no exact loss ({reason}), expected one"
        if not reason:
            return "found neither an exact loss nor a reason"
        if re.search(self.reason, reason, re.IGNORECASE) is None:
            return f"found the reason {reason!r}, expected one that says {self.reason}"
        return None


class RowReference(TrainerCallback):
    """Loss of all rows, one at a time, after every evaluation.

    Args:
        model: The Trainer's model, not wrapped.
        rows: Token ids of every document, with ``labels`` where they are others.

    Attributes:
        losses: Nats per target token, one for each evaluation.
        tokens: Target tokens.
    """

    def __init__(self, model: Any, rows: Rows) -> None:
        self.losses: list[float] = []
        self.tokens = 0
        self._model, self._rows = model, rows

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An evaluation is over."""
        training, total, self.tokens = self._model.training, 0.0, 0
        self._model.eval()
        with torch.no_grad():
            for row in self._rows:
                ids = torch.tensor([list(row["input_ids"])])
                labels = torch.tensor([list(row.get("labels", row["input_ids"]))])
                logits = _logits(self._model, ids)
                # Virtual tokens stand in front; with them the first token of the row is predicted too.
                labels = F.pad(labels, (logits.shape[1] - ids.shape[1], 0), value=-100)[:, 1:]
                found = torch.log_softmax(logits[:, :-1], -1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
                total -= float(found[labels != -100].sum())
                self.tokens += int((labels != -100).sum())
        self._model.train(training)
        self.losses.append(total / self.tokens)


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """In float64; of a model that keeps them to itself from its body and head."""
    output = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    logits = output.get("logits")
    if logits is None:
        logits = model.lm_head(model.model(input_ids=ids).last_hidden_state)
    found: torch.Tensor = logits.double()
    return found


_PAIRS = r"pair|preference|chosen"
_DPO = trainers.preference("trl.trainer.dpo", "DPO")

KINDS: dict[str, Kind] = {
    "popped labels": Kind(trainer=trainers.popped_labels),
    "compute_loss_func": Kind(trainer=trainers.loss_function),
    "label smoothing": Kind(settings={"label_smoothing_factor": 0.1}),
    "mixture of experts": Kind(model=lambda _: models.mixtral()),
    "sft nll": Kind(trainer=trainers.sft()),
    "sft dft": Kind(trainer=trainers.sft(loss_type="dft")),
    "packed lines": Kind(trainer=trainers.packed_lines),
    "dora": Kind(model=models.adapter(use_dora=True)),
    "rslora": Kind(model=models.adapter(use_rslora=True)),
    "prompt tuning": Kind(model=models.prompt("PromptTuningConfig")),
    "prefix tuning": Kind(model=models.prompt("PrefixTuningConfig")),
    "4-bit": Kind(model=models.four_bit, watched=True),
    "accumulation 8": Kind(settings={"gradient_accumulation_steps": 8}),
    "split_batches": Kind(settings={"accelerator_config": {"split_batches": True}}),
    "dispatch_batches": Kind(settings={"accelerator_config": {"dispatch_batches": True}}),
    "even_batches=False": Kind(settings={"accelerator_config": {"even_batches": False}}),
    "batch_eval_metrics": Kind(settings={"batch_eval_metrics": True}, trainer=trainers.batch_metrics),
    "streaming": Kind(trainer=trainers.streaming),
    "fsdp2 by hand": Kind(model=models.sharded, trainer=trainers.by_hand),
    "dpo": Kind(_PAIRS, model=models.saved, trainer=_DPO, compared=False),
    "dpo lora": Kind(_PAIRS, model=models.adapter(), trainer=_DPO, compared=False),
    "orpo": Kind(_PAIRS, trainer=trainers.preference("trl.experimental.orpo.orpo", "ORPO"), compared=False),
    "cpo": Kind(_PAIRS, trainer=trainers.preference("trl.experimental.cpo.cpo", "CPO"), compared=False),
    "kto": Kind(_PAIRS, model=models.saved, trainer=trainers.preference("trl.trainer.kto", "KTO"), compared=False),
    "reward": Kind(
        r"reward|pair|preference|chosen",
        model=models.reward_model,
        trainer=trainers.preference("trl.trainer.reward", "Reward"),
        compared=False,
    ),
    "grpo": Kind(r"reinforcement|sampl|reward|generat", trainer=trainers.reinforcement, compared=False),
    "quiet mixture of experts": Kind(r"auxiliary|router|mixture|experts", model=lambda _: models.quiet_mixtral()),
    "head ignores the count": Kind(r"num_items_in_batch|count", model=lambda _: models.quiet_llama(models.own_mean)),
    "chunked loss": Kind(
        r"logits|log-probabilit|whole batches|loss per batch",
        model=lambda _: models.quiet_llama(models.own_loss),
    ),
}


def build(name: str, arguments: dict[str, Any], rows: Rows, folder: Path, callback: Any) -> Any:
    """The Trainer of a kind; the same on every rank.

    Args:
        name: The kind.
        arguments: Training arguments.
        rows: The rows of both data sets, token ids.
        folder: Where this rank saved its models (``exactness_models.save``).
        callback: Ours.
    """
    kind = KINDS[name]
    make = kind.trainer or trainers.plain
    model = models.llama() if kind.model is None else kind.model(folder)
    return make(model, {**arguments, **kind.settings}, rows, callback)
