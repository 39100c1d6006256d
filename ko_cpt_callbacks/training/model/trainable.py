"""What moves in a stage, set on a model: embeddings, head, layers or their adapters; everything else stands still."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf.model.structure import Blocks, adapter_parameters, embedding_parts, text_config
from ko_cpt_callbacks.hf.model.trained_parts import hold_rows, release_rows
from ko_cpt_callbacks.recipe.parameter_count import layer_indices
from ko_cpt_callbacks.recipe.schema import Trains
from ko_cpt_callbacks.training.model.layout import blocks_of


def is_tied(model: Any) -> bool:
    """Whether input embedding and head read one matrix; for a model with adapters the one inside them."""
    one, other = model.get_input_embeddings(), model.get_output_embeddings()
    return one is not None and other is not None and embedding_parts(one).same_as(embedding_parts(other))


def untie(model: Any) -> None:
    """Give the head a matrix of its own, and say so in the configuration, so that it is saved and loaded so.

    Do it before rows or adapters are added.

    Args:
        model: A causal language model of transformers, without adapters.
    """
    if is_tied(model):
        head = model.get_output_embeddings()
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)
    for config in (model.config, text_config(model)):
        if config is not None:
            config.tie_word_embeddings = False
    if getattr(model, "all_tied_weights_keys", None):  # transformers 5: what saving leaves out
        model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)


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
    bias = live_copy(module)._parameters.get("bias")
    for parameter in (weight, bias):
        if parameter is not None:
            parameter.requires_grad_(True)
            if first_row:
                hold_rows(parameter, first_row)


def live_copy(module: nn.Module) -> nn.Module:
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
