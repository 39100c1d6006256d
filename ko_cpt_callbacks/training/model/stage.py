"""A stage of a recipe put on a model: its adapter, on the layers that are named and nowhere else, and its gradients."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.constants import EMBEDDING_LAYER_NAMES
from torch import Tensor, nn

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf.model.facts import quantization
from ko_cpt_callbacks.recipe.base_config import with_shape
from ko_cpt_callbacks.recipe.parameter_count import Adapter, is_named, stage_adapter, targeted
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.recipe.stage_checks import wanted_layer
from ko_cpt_callbacks.training.model.config import shape_of
from ko_cpt_callbacks.training.model.layout import block_path, blocks_of, module_name, read_layout
from ko_cpt_callbacks.training.model.trainable import base_of, is_tied, live_copy, train_only, untie
from ko_cpt_callbacks.training.model.vocabulary import FIRST_NEW_ROW
from ko_cpt_callbacks.yaml.mistake import shown

_PACKS: Final = "support_avx512bf16_for_cpu"
# What makes two adapters one and the same.
_COMPARED: Final = ("r", "lora_alpha", "lora_dropout", "use_rslora", "layers_to_transform")
_COMPARED_SETS: Final = ("target_modules", "modules_to_save")


def prepare_stage(model: Any, page: Page, name: str) -> Any:
    """The model with the stage's adapter, and with a gradient on what the stage trains.

    Args:
        model: As it was loaded, or as the stage before left it.
        page: The recipe.
        name: Of the stage.

    Returns:
        The model to train: another object where an adapter comes or goes.

    Raises:
        ConfigurationError: If the recipe cannot be used on the model.
    """
    stage = page.stages[name]
    _keep_trainable(model)
    if page.base.untie and base_of(model) is model:
        untie(model)
    page = completed(page, base_of(model))
    tied = is_tied(base_of(model))
    if tied and stage.trains.input != stage.trains.output:
        raise ConfigurationError(
            f"stage {name}: found a model whose input embedding and head are one matrix, expected two, to train "
            f"input {stage.trains.input} and output {stage.trains.output}; set base.untie: true"
        )
    model = with_adapter(model, stage_config(model, page, name))
    first = getattr(base_of(model).config, FIRST_NEW_ROW, None)
    train_only(model, stage.trains, through_adapter=stage.lora is not None, first_new_row=first)
    _open_inputs(base_of(model).get_input_embeddings(), wanted=stage.checkpointing)
    return model


def stage_config(model: Any, page: Page, name: str) -> LoraConfig | None:
    """The configuration of the adapter that is on a model, which may have some, in a stage; None for no adapter."""
    base = base_of(model)
    adapter = stage_adapter(completed(page, base), name)
    tied = is_tied(base) and not page.base.untie
    return None if adapter is None else adapter_config(adapter, base, tied=tied)


def completed(page: Page, model: Any) -> Page:
    """A recipe with the shape of its model, where it gives none itself."""
    return page if page.base.known_sizes is not None else with_shape(page, shape_of(model.config))


def _keep_trainable(model: nn.Module) -> None:
    """Keep bitsandbytes from packing 4-bit layers for inference, at the first evaluation on some CPUs.

    A packed layer has no gradient of its own to give, and is never unpacked: training goes on with wrong ones (0.50.2;
    measured on a CPU with avx512_bf16: a cosine of 0.23 to the right gradient).
    """
    for module in model.modules():
        if hasattr(module, _PACKS):
            setattr(module, _PACKS, False)


class _OpenInput:
    """A forward hook that gives what an embedding returns a gradient."""

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        output.requires_grad_(True)


def _open_inputs(embedding: nn.Module, *, wanted: bool) -> None:
    """With checkpointed blocks: a frozen embedding would give the first of them nothing to send a gradient to.

    Transformers 5 does it itself, 4.57 only for adapters that it has made.
    """
    for key in [key for key, hook in embedding._forward_hooks.items() if isinstance(hook, _OpenInput)]:
        del embedding._forward_hooks[key]
    if wanted:
        embedding.register_forward_hook(_OpenInput())


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
        missing = [name for name in names if not any(is_named(linear.path, (name,)) for linear in linears)]
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
    if hasattr(base, "peft_config"):  # peft before 0.21
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
