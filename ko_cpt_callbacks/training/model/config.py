"""A base's configuration, as transformers reads it: compared with the recipe, or what the recipe leaves to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from transformers import AutoConfig

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.base_config import UnreadableConfigError, config_of, differences, model_folder, with_shape
from ko_cpt_callbacks.recipe.model_schema import Base, Shape
from ko_cpt_callbacks.recipe.parameter_count import ParameterCount, targeted, when_stages_begin
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.recipe.stage_checks import wanted_layer
from ko_cpt_callbacks.training.hub import load_pretrained
from ko_cpt_callbacks.training.model.layout import check_quantizable, empty_model, read_layout
from ko_cpt_callbacks.yaml.mistake import Key, dotted, shown

KEY: Final = "base.model"


def place_of(base: Base, beside: Path) -> tuple[str, dict[str, str]]:
    """Where a base that is loaded is, for ``from_pretrained``: a folder, or an id with what else the hub is asked."""
    assert base.model is not None
    folder = model_folder(base.model, beside)
    if folder is not None:  # as for files, the recipe's folder is where a path begins
        return str(folder), {}
    return base.model, ({} if base.revision is None else {"revision": base.revision})


def read_base(page: Page, beside: Path) -> tuple[Page, Any, ParameterCount]:
    """A recipe that agrees with the configuration of the base that it loads; no weight is read.

    Args:
        page: The recipe.
        beside: Its folder.

    Returns:
        The recipe with its base's shape, that configuration, and what the model is made of when the stages begin.

    Raises:
        ConfigurationError: If the configuration cannot be loaded or used, they differ, or something that the recipe
            trains is not in the model.
    """
    path, more = place_of(page.base, beside)
    config = load_pretrained(AutoConfig, path, KEY, **more)
    page = with_config(page, config)
    count = when_stages_begin(page, read_layout(empty_model(config)))
    _check_targets(page, count)
    if page.base.quantization != "none":
        check_quantizable(count, page.base.quantization)
    return page, config, count


def shape_of(config: Any) -> Shape:
    """The shape that a configuration gives.

    Args:
        config: Of transformers; of a model with a vision tower its text part is looked at.

    Raises:
        ConfigurationError: If it leaves out what a recipe needs to know.
    """
    try:
        found = config_of(config.to_dict())
    except UnreadableConfigError as error:
        raise ConfigurationError(f"{KEY}: found {error}, expected a number that can be") from None
    if found.shape is None:
        raise ConfigurationError(
            f"{KEY}: found no {', no '.join(found.lacking)} in the configuration of a {found.model_type}, expected a "
            "decoder of transformers that has them; base.shape may give them"
        )
    return found.shape


def with_config(page: Page, config: Any) -> Page:
    """A recipe that agrees with its base's configuration, and has its shape where it gives none itself.

    Args:
        page: A recipe whose base is loaded.
        config: Of transformers.

    Raises:
        ConfigurationError: If they differ; all differences together.
    """
    if page.base.shape is None:
        page = with_shape(page, shape_of(config))
    else:
        wrong = [f"{name} {found!r} and not {said!r}" for name, found, said in _different(config, page.base.shape)]
        if wrong:
            raise ConfigurationError(
                f"base.shape: found in the config.json of {page.base.model}: {', '.join(wrong)}; expected what the "
                "recipe says; correct its shape or leave it out, or name another model"
            )
    known = getattr(config.get_text_config(), "max_position_embeddings", None)
    if isinstance(known, int) and page.data.sequence_length > known:
        raise ConfigurationError(
            f"data.sequence_length: found {page.data.sequence_length:,}, expected at most the {known:,} tokens that "
            f"{page.base.model} has positions for"
        )
    return page


def _different(config: Any, said: Shape) -> Iterator[tuple[str, Any, Any]]:
    """What a shape that is given is compared with: what the configuration has of it."""
    try:
        found = shape_of(config)
    except ConfigurationError:  # a family without one of the numbers: the others are compared
        known = {name: getattr(config.get_text_config(), name, None) for name in Shape.model_fields}
        known["family"] = config.get_text_config().model_type
        found = said.model_copy(update={name: value for name, value in known.items() if value is not None})
    yield from differences(found, said)


def _check_targets(page: Page, count: ParameterCount) -> None:
    """Whether every name of LoRA's ``target_modules`` is that of a linear layer of the blocks."""
    paths = [linear.path for linear in count.linears]
    for stage, part in page.stages.items():
        if part.lora is None or isinstance(part.lora, str) or isinstance(part.lora.target_modules, str):
            continue
        for place, name in enumerate(part.lora.target_modules):
            if not targeted(count.linears, [name]):
                key: Key = ("stages", stage, "lora", "target_modules", place)
                raise ConfigurationError(_no_target(key, name, page, paths, count.experts))


def _no_target(key: Key, name: str, page: Page, paths: list[str], experts: tuple[str, ...]) -> str:
    expected, near = wanted_layer(name, f"{page.base.model}'s", paths)
    found = shown(name)
    if any(path == name or path.endswith(f".{name}") for path in experts):
        found = f"{found}, which is one parameter for all experts of a layer: no adapter of a linear layer reaches it"
    hint = "" if near is None else f" Did you mean {near}?"
    return f"{dotted(key)}: found {found}, expected {expected}.{hint}"
