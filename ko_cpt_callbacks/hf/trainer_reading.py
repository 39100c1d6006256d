"""What a live Trainer trains, and on which loss: read from its class, its arguments and its model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from torch import nn

from ko_cpt_callbacks.run.kind import TrainerKind, trainer_kind

__all__ = ["TrainerReading", "read_trainer"]

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
    kind = trainer_kind(
        () if trainer is None else _names(trainer),
        _names(args),
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
