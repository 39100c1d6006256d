"""A stage of a recipe put on a model: its adapter, its new rows, and a gradient on what the stage trains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from peft import LoraConfig
from torch import Tensor, nn

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.base_config import with_shape
from ko_cpt_callbacks.recipe.parameter_count import stage_adapter
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.training.model.config import shape_of
from ko_cpt_callbacks.training.model.lora import adapter_config, with_adapter
from ko_cpt_callbacks.training.model.new_rows import RowSettings, add_rows
from ko_cpt_callbacks.training.model.trainable import base_of, is_tied, train_only, untie
from ko_cpt_callbacks.training.tokenizer.extend import ExtensionSettings, extend_tokenizer, old_pieces

_PACKS: Final = "support_avx512bf16_for_cpu"
FIRST_NEW_ROW: Final = "ko_cpt_first_new_row"
"""The key of a model's ``config.json`` that says which row of its embedding is the first new one."""


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
    """The configuration of the adapter that is on a model in a stage; None where there is none.

    Args:
        model: With adapters or without.
        page: The recipe.
        name: Of the stage.
    """
    base = base_of(model)
    adapter = stage_adapter(completed(page, base), name)
    tied = is_tied(base) and not page.base.untie
    return None if adapter is None else adapter_config(adapter, base, tied=tied)


def completed(page: Page, model: Any) -> Page:
    """A recipe with the shape of its model, where it gives none itself."""
    return page if page.base.known_sizes is not None else with_shape(page, shape_of(model.config))


def extend(model: Any, tokenizer: Any, texts: Iterable[str], page: Page) -> Any:
    """Extend a tokenizer as a recipe says, and give the model rows for the new tokens.

    Args:
        model: Without adapters; changed in place. Its configuration gets `FIRST_NEW_ROW`.
        tokenizer: The model's own; left as it is.
        texts: What new tokens are learned from, read once.
        page: The recipe.

    Returns:
        The extended tokenizer; the one given where the recipe keeps it.

    Raises:
        ConfigurationError: If the tokenizer or the model cannot be extended.
    """
    if page.tokenizer is None:
        return tokenizer
    wanted = page.tokenizer.extend
    settings = ExtensionSettings(wanted.tokens, wanted.minimum_count, wanted.hangul_only)
    extension = extend_tokenizer(tokenizer, texts, settings)
    if not extension.size:
        raise ConfigurationError(
            f"tokenizer.extend: found no new token that is written {wanted.minimum_count} times in source "
            f"{wanted.source}, expected some; give more text or a lower minimum_count"
        )
    if page.base.untie:
        untie(model)
    rows = RowSettings(wanted.new_input_rows, wanted.new_output_rows, wanted.pad_to_multiple_of, page.seed)
    add_rows(model, old_pieces(tokenizer, extension.tokenizer), rows)
    setattr(model.config, FIRST_NEW_ROW, extension.first_id)
    return extension.tokenizer


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
