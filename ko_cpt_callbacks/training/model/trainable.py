"""What moves in a stage, set on a model: embeddings, head, layers or their adapters; everything else stands still."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.constants import EMBEDDING_LAYER_NAMES
from torch import nn

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf.model.facts import quantization
from ko_cpt_callbacks.hf.model.structure import Blocks, adapter_parameters, embedding_parts, text_config
from ko_cpt_callbacks.hf.model.trained_parts import hold_rows, release_rows
from ko_cpt_callbacks.recipe.parameter_count import targeted
from ko_cpt_callbacks.recipe.schema import Adapter, Trains, layer_indices
from ko_cpt_callbacks.recipe.stage_checks import wanted_layer
from ko_cpt_callbacks.training.model.layout import block_path, blocks_of, module_name, read_layout
from ko_cpt_callbacks.yaml.mistake import shown


def is_tied(model: Any) -> bool:
    """Whether input embedding and head read one matrix; for a model with adapters the one inside them."""
    one, other = model.get_input_embeddings(), model.get_output_embeddings()
    return one is not None and other is not None and embedding_parts(one).same_as(embedding_parts(other))


def untie(model: Any) -> bool:
    """Give the head a matrix of its own, and say so in the configuration, so that it is saved and loaded so.

    Do it before rows or adapters are added.

    Args:
        model: A causal language model of transformers, without adapters.

    Returns:
        Whether there was anything to do.
    """
    tied = is_tied(model)
    if tied:
        head = model.get_output_embeddings()
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)
    for config in (model.config, text_config(model)):
        if config is not None:
            config.tie_word_embeddings = False
    if getattr(model, "all_tied_weights_keys", None):  # transformers 5: what saving leaves out
        model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)
    return tied


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
        _live(other).weight = _live(one).weight
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


def train_only(model: Any, trains: Trains, *, through_adapter: bool, first_new_row: int | None = None) -> None:
    """Let those parts of a model move that a stage names, and no others.

    Args:
        model: A causal language model of transformers, with an adapter around it or without.
        trains: The parts.
        through_adapter: Whether layers move through the adapter that is on them, or themselves.
        first_new_row: Where ``new`` rows begin; None where there are none.

    Raises:
        ConfigurationError: If a part is not there or cannot move.
    """
    base = base_of(model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        release_rows(parameter)
    embedding, head = base.get_input_embeddings(), base.get_output_embeddings()
    for side, word, module in (("input", trains.input, embedding), ("output", trains.output, head)):
        if word != "none":
            _move_rows(side, module, first_new_row if word == "new" else 0)
    if trains.layers == "none":
        return
    _move_layers(blocks_of(base), trains, {id(module) for module in (embedding, head)}, through_adapter=through_adapter)


def base_of(model: Any) -> Any:
    """The model that adapters were put on; the model itself where it has none."""
    while hasattr(model, "get_base_model"):
        model = model.get_base_model()
    return model


def _move_rows(side: str, module: nn.Module | None, first_row: int | None) -> None:
    if module is None:
        raise ConfigurationError(f"{side}: found a model without one, expected an embedding and a head")
    if first_row is None:
        raise ConfigurationError(
            f"{side}: found no new rows in this model, expected some; extend it first with Recipe.extend"
        )
    weight = embedding_parts(module).weight
    if weight is None or not weight.is_floating_point():
        raise ConfigurationError(f"{side}: found a matrix that cannot move, expected plain floating-point numbers")
    if first_row >= len(weight):
        raise ConfigurationError(
            f"{side}: found {len(weight)} rows and {first_row} as the first new one, expected more rows"
        )
    bias = _live(module)._parameters.get("bias")
    for parameter in (weight, bias):
        if parameter is not None:
            parameter.requires_grad_(True)
            if first_row:
                hold_rows(parameter, first_row)


def _live(module: nn.Module) -> nn.Module:
    """The copy that an adapter trains in place of a module, where there is one."""
    saved = module._modules.get("modules_to_save")
    return next(iter(saved.values())) if isinstance(saved, nn.ModuleDict) and len(saved) else module


def _move_layers(blocks: Blocks, trains: Trains, rows: set[int], *, through_adapter: bool) -> None:
    count = len(blocks.modules)
    wanted = layer_indices(trains.layers, count)
    if not wanted or wanted[-1] >= count:
        raise ConfigurationError(f"layers: found {count} in the model, expected {trains.layers} to be among them")
    for index in wanted:
        block = blocks.modules[index]
        moving = list(_adapters(block)) if through_adapter else list(block.parameters())
        if not moving:
            raise ConfigurationError(f"layers: found no adapter in layer {index}, expected one; look at target_modules")
        _move(moving, f"layer {index}")
    if trains.layers == "all" and not through_adapter:
        # The last norm, and whatever else the language model has outside its blocks, but no embedding.
        inside = {id(parameter) for block in blocks.modules for parameter in block.parameters()}
        _move([item for item in _outside(blocks.holder, rows) if id(item) not in inside], "the last norm")


def _adapters(block: nn.Module) -> Iterator[nn.Parameter]:
    for module in block.modules():
        yield from adapter_parameters(module)


def _outside(holder: nn.Module, rows: set[int]) -> Iterator[nn.Parameter]:
    """The parameters of a module and those in it, but for the embeddings."""
    yield from (item for item in holder._parameters.values() if item is not None)
    for part in holder.children():
        if id(part) not in rows:
            yield from _outside(part, rows)


def _move(parameters: list[nn.Parameter], where: str) -> None:
    for parameter in parameters:
        if not parameter.is_floating_point():
            raise ConfigurationError(
                f"{where}: found {parameter.dtype} weights, which have no gradient, expected lora in the stage or a "
                "model that is not quantised"
            )
        parameter.requires_grad_(True)
