"""The adapter of a stage, put on a model or merged into it: on the layers that are named and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.constants import EMBEDDING_LAYER_NAMES
from torch import nn

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf.model.facts import quantization
from ko_cpt_callbacks.recipe.parameter_count import Adapter, targeted
from ko_cpt_callbacks.recipe.stage_checks import wanted_layer
from ko_cpt_callbacks.training.model.layout import block_path, blocks_of, module_name, read_layout
from ko_cpt_callbacks.training.model.trainable import base_of, is_tied, live_copy
from ko_cpt_callbacks.yaml.mistake import shown

# What makes two adapters one and the same.
_COMPARED: Final = ("r", "lora_alpha", "lora_dropout", "use_rslora", "layers_to_transform")
_COMPARED_SETS: Final = ("target_modules", "modules_to_save")


def adapter_config(adapter: Adapter, model: nn.Module, *, tied: bool) -> LoraConfig:
    """The configuration of an adapter for all the stages that share it.

    Args:
        adapter: What it must hold.
        model: The model that it is for, without adapters: it decides what its linear layers, embedding and head are
            called.
        tied: Whether embedding and head are one matrix.

    Raises:
        ConfigurationError: If a layer that is named is not in the model.
    """
    blocks, settings = blocks_of(model), adapter.settings
    path = block_path(model, blocks)
    linears = read_layout(model).linears
    names = list(dict.fromkeys(linear.name for linear in linears))
    if not isinstance(settings.target_modules, str):
        names = list(settings.target_modules)
        missing = [name for name in names if not any(linear.is_named((name,)) for linear in linears)]
        if missing:
            expected, near = wanted_layer(missing[0], "the model's", [linear.path for linear in linears])
            hint = "" if near is None else f" Did you mean {near}?"
            raise ConfigurationError(f"target_modules: found {shown(missing[0])}, expected {expected}.{hint}")
    one, other = (_short_name(model, side) for side in ("input", "output"))
    # PEFT ties the copies of matrices that it knows by name; others are tied in `with_adapter`.
    known = one in EMBEDDING_LAYER_NAMES
    saved = [one] * (adapter.input or (tied and adapter.output))
    saved += [other] * (adapter.output and not (tied and known))
    layers = None if adapter.layers is None else list(adapter.layers)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.r,
        lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]  # a float does as well
        lora_dropout=settings.lora_dropout,
        target_modules=names,
        exclude_modules=_others(model, path, names),
        use_rslora=settings.use_rslora,
        layers_to_transform=layers,
        layers_pattern=None if layers is None else path.rpartition(".")[2],
        modules_to_save=saved or None,
        ensure_weight_tying=tied and known and bool(saved),
    )


def _short_name(model: nn.Module, side: str) -> str:
    """The last word of the name of embedding or head; all of it where another module ends in that word too."""
    module = getattr(model, f"get_{side}_embeddings")()
    name = module_name(model, module)
    word = name.rpartition(".")[2]
    alike = [other for other, _ in model.named_modules() if other == word or other.endswith(f".{word}")]
    return word if alike == [name] else name


def _others(model: nn.Module, path: str, names: Iterable[str]) -> str | None:
    """What PEFT must leave alone: layers of these names outside of the blocks, such as a vision tower's; None: none."""
    outside = (name for name, _ in model.named_modules() if not name.startswith(f"{path}."))
    ends = tuple(f".{name}" for name in names)
    return rf"(?!{re.escape(path)}\.).*" if any(f".{name}".endswith(ends) for name in outside) else None


def with_adapter(model: Any, config: LoraConfig | None) -> Any:
    """The model with that adapter and no other: the one it has, goes on, or is merged and gives way to a new one.

    Args:
        model: With an adapter or without.
        config: What is wanted; None for no adapter.

    Raises:
        ConfigurationError: If an adapter would have to be merged into quantised weights.
    """
    if isinstance(model, PeftModel):
        if config is not None and _same(_config_of(model), config):
            return model
        model = merged(model)
    if config is None:
        return model
    wanted, tied = _wanted(model, config), is_tied(model)
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise ConfigurationError(
            f"lora: found layers that peft puts no adapter on ({' '.join(str(error).split())[:240]}), expected "
            "others in target_modules"
        ) from error
    if tied and not is_tied(base_of(adapted)):
        one, other = (getattr(base_of(adapted), f"get_{side}_embeddings")() for side in ("input", "output"))
        live_copy(other).weight = live_copy(one).weight
    found = {name for name, part in base_of(adapted).named_modules() if isinstance(part, LoraLayer)}
    if found != wanted:
        odd = sorted(found ^ wanted)
        raise ConfigurationError(
            f"lora: found adapters that peft put elsewhere than on the layers that are named ({', '.join(odd[:4])}"
            f"{'' if len(odd) <= 4 else f' and {len(odd) - 4} more'}), expected them there alone; of a model with "
            "experts peft takes some names for theirs: list target_modules without those"
        )
    return adapted


def _wanted(model: nn.Module, config: LoraConfig) -> set[str]:
    """The linear layers of the blocks that a configuration is to adapt, by name."""
    blocks = blocks_of(model)
    path, names = block_path(model, blocks), config.target_modules
    assert not isinstance(names, str) and names is not None
    layers = config.layers_to_transform
    return {
        f"{path}.{index}.{linear.path}"
        for index, part in enumerate(read_layout(model).blocks)
        for linear in targeted(part.linears, names)
        if not isinstance(layers, list) or index in layers
    }


def merged(model: PeftModel) -> Any:
    """The model with its adapter in the weights.

    Raises:
        ConfigurationError: If the weights are quantised: to round the sum again would lose part of what was learned.
    """
    kind = quantization(base_of(model))
    if kind != "none":
        raise ConfigurationError(
            f"adapter: found other settings in this stage than those on the model, whose weights are in {kind}, "
            "expected the same: one adapter for the whole run"
        )
    base: Any = model.merge_and_unload()
    if hasattr(base, "peft_config"):
        del base.peft_config
    if getattr(base.config, "tie_word_embeddings", False) and not is_tied(base):
        base.tie_weights()
    return base


def _config_of(model: PeftModel) -> LoraConfig:
    config = model.peft_config[model.active_adapter]
    assert isinstance(config, LoraConfig)
    return config


def _same(one: LoraConfig, other: LoraConfig) -> bool:
    if any(getattr(one, name) != getattr(other, name) for name in _COMPARED):
        return False
    return all(_last_words(getattr(one, name)) == _last_words(getattr(other, name)) for name in _COMPARED_SETS)


def _last_words(names: Iterable[str] | None) -> set[str]:
    """PEFT adds whole paths to names where it ties two modules."""
    return {name.rpartition(".")[2] for name in names or ()}
