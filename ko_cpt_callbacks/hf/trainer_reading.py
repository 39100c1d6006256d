"""What a live Trainer trains, on which loss and on which rows: read from its class, arguments, model and data.

`attempt-differs` compares it when a run is resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from transformers import TrainingArguments

from ko_cpt_callbacks.hf.audit.data import training_facts
from ko_cpt_callbacks.hf.model.facts import plain, versions
from ko_cpt_callbacks.rules.note.attempt_differs import BEGUN_ANEW, KEPT, SCHEDULE
from ko_cpt_callbacks.run.kind import TrainerKind, kind_of_model, kind_of_trainer

__all__ = ["TrainerReading", "attempt_facts", "continued_parts", "read_trainer"]

_NO_TEXT_LOSS: Final = {
    TrainerKind.PREFERENCE: "scores pairs or single answers, and no forward pass of it is an evaluation of a text",
    TrainerKind.REWARD: "trains a score of answers, which is no likelihood of a text",
    TrainerKind.RL: "trains on answers that the model samples itself, and evaluates no given text",
}

# Losses that a Trainer's `loss_type` names in place of the tokens' cross-entropy (trl: SFTConfig).
_CROSS_ENTROPY: Final = frozenset({"nll", "chunked_nll", "ce", "cross_entropy"})


@dataclass(frozen=True, slots=True)
class TrainerReading:
    """What is trained.

    Args:
        kind: As in `ko_cpt_callbacks.run.kind`.
        name: The Trainer's class; None where the Trainer is not known.
        trained_on: What the training loss is where it is not the cross-entropy of the tokens alone; None where nothing
            says that it is anything else.
        absent: Why no evaluation has an exact loss, whatever its forward passes look like; None where it may have one.
    """

    kind: TrainerKind
    name: str | None = None
    trained_on: str | None = None
    absent: str | None = None

    @property
    def perplexity(self) -> bool:
        """Whether the exponential of the logged training loss is a perplexity."""
        return self.kind.language and self.trained_on is None


def read_trainer(trainer: Any, args: Any, model: nn.Module | None) -> TrainerReading:
    """What a Trainer trains; every rank reads the same.

    Args:
        trainer: The Trainer; None where it is not known.
        args: Its arguments.
        model: Its model; None where it is not known.
    """
    base: Any = _unwrapped(model)
    kind = kind_of_trainer([*(() if trainer is None else _names(trainer)), *_names(args)]) or kind_of_model(
        () if base is None else _names(base),
        encoder_decoder=bool(getattr(getattr(base, "config", None), "is_encoder_decoder", False)),
        has_head=_has_head(base),
    )
    name = None if trainer is None else type(trainer).__name__
    absent = None
    if kind in _NO_TEXT_LOSS:
        absent = f"{name or 'this Trainer'} {_NO_TEXT_LOSS[kind]}"
    return TrainerReading(kind, name, _trained_on(trainer, args), absent)


def _names(value: Any) -> list[str]:
    return [ancestor.__name__ for ancestor in type(value).__mro__]


def _unwrapped(model: Any) -> Any:
    """The model inside adapters and wrappers."""
    for _ in range(8):
        inner = getattr(model, "get_base_model", None)
        inside = inner() if callable(inner) else getattr(model, "module", None) or getattr(model, "_orig_mod", None)
        if inside is None or inside is model:
            return model
        model = inside
    return model


def _has_head(model: Any) -> bool:
    """Whether a layer scores a vocabulary. Models that have none may say so by raising."""
    try:
        return model is not None and model.get_output_embeddings() is not None
    except Exception:  # a model of one's own; nothing is known of it
        return False


def _trained_on(trainer: Any, args: Any) -> str | None:
    loss_type = getattr(args, "loss_type", None)
    others = [one for one in _listed(loss_type) if one not in _CROSS_ENTROPY]
    if others:
        return f"loss_type {', '.join(others)}"
    if getattr(trainer, "compute_loss_func", None) is not None:
        return "compute_loss_func"
    smoothing = getattr(args, "label_smoothing_factor", 0.0)
    return f"label smoothing {smoothing:g}" if isinstance(smoothing, (int, float)) and smoothing > 0 else None


def _listed(value: Any) -> Iterable[str]:
    values = value if isinstance(value, (list, tuple)) else [value]
    return [str(getattr(one, "value", one)) for one in values if one is not None]


# What moves the weights otherwise. How long a run is to be is not among them: a run may be resumed to go on longer; nor
# is the batch per process, which `rows_per_step` has.
_ARGUMENTS: Final = (
    "learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "warmup_ratio",
    "weight_decay",
    "max_grad_norm",
    "optim",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "seed",
    "data_seed",
    "bf16",
    "fp16",
    "label_smoothing_factor",
    "average_tokens_across_devices",
    "neftune_noise_alpha",
    "group_by_length",
    "train_sampling_strategy",
    "ignore_data_skip",
    "packing",
    "max_length",
    "completion_only_loss",
    "assistant_only_loss",
    "loss_type",
)
_VERSIONS: Final = ("transformers", "torch", "peft", "bitsandbytes", "accelerate", "trl")
_MODEL: Final = ("quantization", "trainable_parameters")


def attempt_facts(
    args: TrainingArguments, model: Mapping[str, Any], dataset: Any, processes: int
) -> dict[str, dict[str, Any]]:
    """The groups of the set-up row ``attempt``, JSON-safe.

    Args:
        args: The Trainer's arguments.
        model: `ko_cpt_callbacks.hf.model.facts.model_facts`.
        dataset: The training set; None where it is not known.
        processes: How many train together.
    """
    installed = versions()
    return {
        "data": training_facts(dataset),
        "batch": {"rows_per_step": _rows_per_step(args, processes)},
        "arguments": {name: plain(getattr(args, name)) for name in _ARGUMENTS if hasattr(args, name)},
        "model": {name: model[name] for name in _MODEL if name in model},
        "versions": {name: installed.get(name) for name in _VERSIONS},
    }


def continued_parts(trainer: Any, step: int) -> dict[str, str]:
    """Whether schedule and optimizer go on, as a group of the set-up row; empty where that cannot be seen.

    Without ``scheduler.pt`` or ``optimizer.pt`` in the checkpoint a Trainer begins both anew and says nothing. Its
    schedule has then made no step, although the run has.

    Args:
        trainer: The Trainer; None where it was not found.
        step: The step that training begins at.
    """
    scheduler = getattr(trainer, "lr_scheduler", None)
    scheduler = getattr(scheduler, "scheduler", scheduler)  # accelerate's wrapper
    made = getattr(scheduler, "last_epoch", None)
    # ReduceLROnPlateau counts evaluations.
    if type(made) is not int or isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        return {}
    return {SCHEDULE: BEGUN_ANEW if step > 0 and made == 0 else KEPT}


def _rows_per_step(args: TrainingArguments, processes: int) -> int:
    split = getattr(getattr(args, "accelerator_config", None), "split_batches", False)
    return args.train_batch_size * args.gradient_accumulation_steps * (1 if split else processes)
