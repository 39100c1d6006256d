"""A base that is a folder: its ``config.json`` is read with the recipe, and must agree with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ko_cpt_callbacks.recipe.base_config import (
    FILE,
    BaseConfig,
    UnreadableConfigError,
    differences,
    model_folder,
    read_config,
)
from ko_cpt_callbacks.recipe.installed import causal_families
from ko_cpt_callbacks.recipe.model_schema import Shape
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.yaml.mistake import Key, near_miss, shown
from ko_cpt_callbacks.yaml.reading import Document, Said, Told, at, mapping, whole

_MODEL: Key = ("base", "model")


@dataclass(frozen=True, slots=True)
class LocalBase:
    """A recipe's base, as far as it is at hand.

    Attributes:
        folder: Where it is; None where it is no folder, or made on the spot.
        config: What its ``config.json`` says; None where there is none that can be read.
        mistakes: What is wrong with it.
    """

    folder: Path | None = None
    config: BaseConfig | None = None
    mistakes: tuple[Told, ...] = ()

    @classmethod
    def of(cls, values: Any, beside: Path) -> LocalBase:
        """The base of a recipe.

        Args:
            values: The recipe's raw values.
            beside: Its folder.
        """
        model = at(values, *_MODEL)
        folder = model_folder(model, beside) if isinstance(model, str) and model else None
        if folder is None:
            return cls(mistakes=tuple(_length(values, None)))
        try:
            config = read_config(folder)
        except UnreadableConfigError as error:
            return cls(folder, None, ((_MODEL, f"a folder with {error}", f"one with a model and its {FILE}", None),))
        return cls(folder, config, (*_known(config), *_agrees(values, config), *_length(values, config.shape)))

    def told(self, document: Document) -> Document:
        """The document with the shape that the folder's file gives, where it gives none itself."""
        shape = self._missing(document.values)
        # Of a model without code, what its family has is told once.
        if shape is None or any(key == _MODEL for key, *_ in self.mistakes):
            return document
        base = {**document.values["base"], "shape": shape.model_dump(exclude_none=True)}
        return replace(document, values={**document.values, "base": base})

    def completed(self, page: Page) -> Page:
        """The recipe with that shape."""
        if self.config is None or self.config.shape is None or page.base.known_sizes is not None:
            return page
        return with_shape(page, self.config.shape)

    def _missing(self, values: Any) -> Shape | None:
        base = mapping(values, "base")
        there = base.get("shape") is not None or base.get("build") is not None
        return None if self.config is None or there else self.config.shape


def with_shape(page: Page, shape: Shape) -> Page:
    """A recipe whose base has that shape."""
    return page.model_copy(update={"base": page.base.model_copy(update={"shape": shape})})


def _known(config: BaseConfig) -> Said:
    """The installed transformers has the code of the model."""
    known = causal_families()
    if known is not None and config.model_type not in known:
        found = f"model_type {shown(config.model_type)} in its {FILE}"
        expected = "one that the installed transformers makes a causal language model of"
        yield _MODEL, found, expected, near_miss(config.model_type, known)


def _agrees(values: Any, config: BaseConfig) -> Said:
    """What the recipe says of the shape is what the file says."""
    said = _said_shape(values)
    if said is None or config.shape is None:
        return
    for name, found, told in differences(config.shape, said):
        expected = f"{shown(found)}, as in the {FILE} of {at(values, *_MODEL)}; or no shape: it is read from there"
        yield ("base", "shape", name), shown(told), expected, None


def _length(values: Any, read: Shape | None) -> Said:
    """No row is longer than the model reads."""
    said = whole(at(values, "base", "shape", "max_position_embeddings"))
    most = said if read is None else read.max_position_embeddings
    length = whole(at(values, "data", "sequence_length"))
    if most is not None and length is not None and length > most:
        expected = f"at most the {most:,} tokens that {at(values, *_MODEL)} has positions for"
        yield ("data", "sequence_length"), f"{length:,}", expected, None


def _said_shape(values: Any) -> Shape | None:
    given: Mapping[str, Any] = mapping(values, "base", "shape")
    try:
        return Shape.model_validate(given) if given else None
    except ValidationError:  # told elsewhere
        return None
