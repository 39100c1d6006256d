"""What PEFT put on a model: its active configurations, and the parameters that its layers add."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from torch import nn

from ko_cpt_callbacks.core.stage_facts import LoraFacts

__all__ = ["LORA", "ONLY_ROWS", "active_configs", "adapter_parameters", "kind", "lora_facts"]

LORA: Final = "LORA"
ONLY_ROWS: Final = "TRAINABLE_TOKENS"
"""An adapter that moves rows of the embeddings and nothing else."""


def active_configs(outer: nn.Module, base: nn.Module) -> list[Any]:
    """The configurations of the active adapters: of a PeftModel, or of a model that had them added to itself.

    Args:
        outer: The model with its adapters.
        base: The model that they were put on.
    """
    for holder in (outer, base):
        known = getattr(holder, "peft_config", None)
        if not isinstance(known, dict) or not known:
            continue
        active: Any = getattr(holder, "active_adapters", None) or getattr(holder, "active_adapter", None)
        try:
            names = active() if callable(active) else active
        except ValueError:  # transformers: none was loaded
            continue
        listed = [names] if isinstance(names, str) else list(names or ())
        return [known[name] for name in listed if name in known]
    return []


def kind(config: Any) -> str:
    """PEFT's word for a configuration: ``LORA``."""
    named = getattr(config, "peft_type", None)
    return str(getattr(named, "value", named))


def adapter_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that a PEFT layer adds to the layer it stands around; none for any other module."""
    for path in getattr(module, "adapter_layer_names", ()):
        held: Any = module
        for name in path.split("."):
            held = getattr(held, name, None)
        if isinstance(held, nn.Parameter):
            yield held
        elif isinstance(held, nn.Module):
            yield from held.parameters()


def lora_facts(configs: Iterable[Any]) -> LoraFacts | None:
    """The settings of the first LoRA among configurations; None where there is none."""
    config: Any = next((item for item in configs if kind(item) == LORA), None)
    if config is None:
        return None
    layers, rows = config.layers_to_transform, getattr(config, "trainable_token_indices", None)
    return LoraFacts(
        rank=config.r,
        alpha=config.lora_alpha,
        target_modules=_names(config.target_modules),
        layers_to_transform=None if layers is None else (layers,) if isinstance(layers, int) else tuple(layers),
        modules_to_save=_names(config.modules_to_save),
        token_rows=None if rows is None else _count(rows),
        dora=bool(getattr(config, "use_dora", False)),
        rslora=bool(getattr(config, "use_rslora", False)),
        bias=str(config.bias),
        rank_varies=bool(config.rank_pattern),
    )


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(sorted(str(item) for item in value))


def _count(rows: Any) -> int:
    lists = rows.values() if isinstance(rows, dict) else [rows]
    return len({int(index) for item in lists for index in item})
