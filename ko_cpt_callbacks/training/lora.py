"""A recipe's adapter: its configuration, put on a model, kept from stage to stage, merged into the weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from peft import LoraConfig, PeftModel, get_peft_model

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf.inspection import quantization
from ko_cpt_callbacks.recipe.adapter import Adapter
from ko_cpt_callbacks.recipe.part import Family
from ko_cpt_callbacks.training.tie import is_tied
from ko_cpt_callbacks.training.trainable import base_of

# What makes two adapters one and the same.
_COMPARED: Final = ("r", "lora_alpha", "lora_dropout", "use_rslora", "layers_to_transform")
_COMPARED_SETS: Final = ("target_modules", "modules_to_save")


def adapter_config(adapter: Adapter, family: Family, *, tied: bool) -> LoraConfig:
    """The configuration of an adapter for all the stages that share it.

    Args:
        adapter: What it must hold.
        family: Of the model: it decides what embedding and head are called.
        tied: Whether they are one matrix.
    """
    one, other = _embeddings(family)
    saved = [one] * (adapter.input or (tied and adapter.output)) + [other] * (adapter.output and not tied)
    settings = adapter.settings
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.r,
        lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]  # a float does as well
        lora_dropout=settings.lora_dropout,
        target_modules=list(settings.target_modules),
        use_rslora=settings.use_rslora,
        layers_to_transform=None if adapter.layers is None else list(adapter.layers),
        modules_to_save=saved or None,
        ensure_weight_tying=tied and bool(saved),
    )


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
    if any("vision" in name for name, _ in model.named_modules()):
        config.exclude_modules = r".*vision.*"  # its attention has the same names
    return get_peft_model(model, config)


def merged(model: PeftModel) -> Any:
    """The model with its adapter in the weights.

    Raises:
        ConfigurationError: If the weights are quantised: to round the sum again would lose part of what was learnt.
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


def _embeddings(family: Family) -> tuple[str, str]:
    """What a family calls its input embedding and its head."""
    if family == "gpt_neox":
        from transformers import GPTNeoXForCausalLM

        # The head's name has changed with transformers 5.
        return "embed_in", str(next(iter(GPTNeoXForCausalLM._tied_weights_keys))).split(".")[-2]
    return "embed_tokens", "lm_head"


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
