"""A model's shape, read from its ``config.json``: plain JSON, under any of the names that families have for it.

A base that is a folder is read with the recipe, and what its file says counts: a shape in the recipe is for planning.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ko_cpt_callbacks.errors import near_miss
from ko_cpt_callbacks.recipe.family import kind_of, plain_family
from ko_cpt_callbacks.recipe.installed import causal_families, class_defaults
from ko_cpt_callbacks.recipe.model_schema import Shape
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.run.observation import count_from_one
from ko_cpt_callbacks.yaml.mistake import Key, shown
from ko_cpt_callbacks.yaml.reading import KeyMistake, KeyMistakes, YamlDocument, at, mapping

FILE: Final = "config.json"
MAX_BYTES: Final = 4_194_304
"""The largest that is read; chosen, not measured: real ones have a few thousand bytes, or a long list of labels."""

_TEXT_PARTS: Final = ("text_config", "llm_config", "language_config")
NUMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "vocab_size": ("vocab_size",),
    "num_key_value_heads": ("num_key_value_heads", "num_kv_heads"),
    "head_dim": ("head_dim",),
    "max_position_embeddings": ("max_position_embeddings", "n_positions", "n_ctx"),
}
"""What each number of a shape is called, family by family."""

_NEEDED: Final = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
_TIE: Final = "tie_word_embeddings"
# Where these say nothing of the inner width it is four times the width.
_FOUR_TIMES: Final = ("gpt2", "gptj", "gpt_neo", "gpt_bigcode", "codegen", "bloom", "falcon")


@dataclass(frozen=True, slots=True)
class BaseConfig:
    """What a ``config.json`` says.

    Attributes:
        model_type: Of the whole model: what decides whether it can be loaded.
        shape: Of its text model; None where the file leaves out what is then the class's to say, and that is not known
            here.
        lacking: What it leaves out so, each as all names that were looked for.
        unusual: What makes its numbers others than the family's formula says: ``attention_bias true``.
    """

    model_type: str
    shape: Shape | None
    lacking: tuple[str, ...] = ()
    unusual: tuple[str, ...] = ()


class UnreadableConfigError(ValueError):
    """A ``config.json`` that is not there, is no JSON, or says nothing of a model; the text says what was found."""


def model_folder(model: str, beside: Path) -> Path | None:
    """The folder of ``base.model``, beside the recipe or from where the command is given; None for an id of the hub."""
    for place in (os.path.join(beside, model), model):
        if os.path.isdir(place):  # of a name that no file can have, Path.is_dir raises an error
            return Path(place)
    return None


def read_config(folder: Path) -> BaseConfig:
    """The configuration of a model in a folder.

    Raises:
        UnreadableConfigError: If it cannot be read.
    """
    try:
        with (folder / FILE).open("rb") as stream:
            payload = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableConfigError(f"no {FILE} that can be read ({error.strerror})") from None
    if len(payload) > MAX_BYTES:
        raise UnreadableConfigError(f"a {FILE} of more than {MAX_BYTES:,} bytes")
    try:
        values = json.loads(payload)
    except (ValueError, RecursionError):
        raise UnreadableConfigError(f"a {FILE} that is no JSON") from None
    if not isinstance(values, dict) or not isinstance(values.get("model_type"), str):
        raise UnreadableConfigError(f"a {FILE} without a model_type")
    return config_of(values)


def config_of(values: Mapping[str, Any]) -> BaseConfig:
    """What a configuration says.

    Args:
        values: Of a ``config.json``, or ``to_dict()`` of transformers' class; with a ``model_type``.

    Raises:
        UnreadableConfigError: If it says something that cannot be.
    """
    text: Mapping[str, Any] = next((values[name] for name in _TEXT_PARTS if isinstance(values.get(name), dict)), values)
    family = str(text.get("model_type") or values["model_type"])
    usual = class_defaults(family) or {}
    found = {name: _first(names, text, usual) for name, names in NUMBERS.items()}
    if found["intermediate_size"] is None and plain_family(family) in _FOUR_TIMES:
        found["intermediate_size"] = 4 * found["hidden_size"] if isinstance(found["hidden_size"], int) else None
    found[_TIE] = next((part[_TIE] for part in (values, text, usual) if part.get(_TIE) is not None), None)
    lacking = [" or ".join(NUMBERS[name]) for name in _NEEDED if found[name] is None]
    if found[_TIE] is None:
        lacking.append(_TIE)
    if lacking:
        return BaseConfig(str(values["model_type"]), None, tuple(lacking))
    try:
        shape = Shape(family=family, **{name: value for name, value in found.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise UnreadableConfigError(f"{key} {json.dumps(found.get(key))} in its {FILE}") from None
    beside = () if text is values else ("more than its text model",)
    return BaseConfig(str(values["model_type"]), shape, (), (*_unusual(family, text, usual), *beside))


def _first(names: Sequence[str], text: Mapping[str, Any], usual: Mapping[str, Any]) -> Any:
    """A number under one of its names.

    What stands under the name that its class has holds: GPT-2's file may have another one, which is not read.
    """
    own = [name for name in names if name in usual and name in text]
    given = (text[name] for name in own or names if text.get(name) is not None)
    return next(given, next((usual[name] for name in names if usual.get(name) is not None), None))


def _unusual(family: str, text: Mapping[str, Any], usual: Mapping[str, Any]) -> Iterator[str]:
    kind = kind_of(family)
    for name, wanted in ({} if kind is None else kind.usual).items():
        found = text.get(name, usual.get(name, wanted))
        if found != wanted:
            yield f"{name} {json.dumps(found)}"


def differences(found: Shape, said: Shape) -> Iterator[tuple[str, Any, Any]]:
    """Where a model's shape is not the one that its recipe gives: key, the model's, the recipe's."""
    if plain_family(found.family) != plain_family(said.family):
        yield "family", found.family, said.family
        return
    for name in (*_NEEDED, _TIE):
        if getattr(found, name) != getattr(said, name):
            yield name, getattr(found, name), getattr(said, name)
    if found.key_heads != said.key_heads:
        yield "num_key_value_heads", found.key_heads, said.key_heads
    same = (found.hidden_size, found.num_attention_heads) == (said.hidden_size, said.num_attention_heads)
    if same and found.head_width != said.head_width:
        yield "head_dim", found.head_width, said.head_width
    positions = (found.max_position_embeddings, said.max_position_embeddings)
    if None not in positions and positions[0] != positions[1]:
        yield "max_position_embeddings", *positions


_MODEL: Final[Key] = ("base", "model")


def _no_folder(model: Any, beside: Path) -> Iterator[KeyMistake]:
    """A file in place of a model's folder; a name of neither is an id of the hub."""
    for place in (os.path.join(beside, model), model) if isinstance(model, str) and model else ():
        if os.path.isfile(place):
            folder = os.path.dirname(model)
            near = folder if os.path.isfile(os.path.join(os.path.dirname(place), FILE)) else None
            yield _MODEL, f"the file {model}", f"the folder of a model with its {FILE}, or its id on the hub", near
            return


@dataclass(frozen=True, slots=True)
class LocalBase:
    """A recipe's base, as far as it is at hand.

    Attributes:
        folder: Where it is; None where it is no folder, or made on the spot.
        config: What its ``config.json`` says; None where there is none that can be read.
        mistakes: What is wrong with it.
        note: Which numbers of the recipe's own shape are others, and so are not used; empty: none.
    """

    folder: Path | None = None
    config: BaseConfig | None = None
    mistakes: tuple[KeyMistake, ...] = ()
    note: str = ""

    @classmethod
    def of(cls, values: Any, beside: Path) -> LocalBase:
        """The base of a recipe, by its raw values and its folder."""
        model = at(values, *_MODEL)
        folder = model_folder(model, beside) if isinstance(model, str) and model else None
        if folder is None:
            return cls(mistakes=(*_no_folder(model, beside), *_length(values, None)))
        try:
            config = read_config(folder)
        except UnreadableConfigError as error:
            return cls(folder, None, ((_MODEL, f"a folder with {error}", f"one with a model and its {FILE}", None),))
        mistakes = (*_known(config), *_length(values, config.shape))
        return cls(folder, config, mistakes, _unused(values, config))

    def with_shape(self, document: YamlDocument) -> YamlDocument:
        """The document with the shape that the folder's file gives, whatever it says itself."""
        # Of a model without code, what its family has is reported once.
        if self.config is None or self.config.shape is None or any(key == _MODEL for key, *_ in self.mistakes):
            return document
        base = {**document.values["base"], "shape": self.config.shape.model_dump(exclude_none=True)}
        return replace(document, values={**document.values, "base": base})

    def completed(self, page: Page) -> Page:
        """The recipe with that shape."""
        return page if self.config is None or self.config.shape is None else with_shape(page, self.config.shape)


def with_shape(page: Page, shape: Shape) -> Page:
    """A recipe whose base has that shape."""
    return page.model_copy(update={"base": page.base.model_copy(update={"shape": shape})})


def _known(config: BaseConfig) -> KeyMistakes:
    """The installed transformers has the code of the model."""
    known = causal_families()
    if known is not None and config.model_type not in known:
        found = f"model_type {shown(config.model_type)} in its {FILE}"
        expected = "one that the installed transformers makes a causal language model of"
        yield _MODEL, found, expected, near_miss(config.model_type, known)


def _unused(values: Any, config: BaseConfig) -> str:
    """What is reported of a shape that was written for another model: of a copied recipe it need not be deleted."""
    try:
        said = Shape.model_validate(mapping(values, "base", "shape"))
    except ValidationError:  # there is none, or its mistakes are reported elsewhere
        return ""
    other = [] if config.shape is None else differences(config.shape, said)
    others = [f"{name} {found} (not {named})" for name, found, named in other]
    return f"not used: the {FILE} of {at(values, *_MODEL)} says {', '.join(others)}" if others else ""


def _length(values: Any, read: Shape | None) -> KeyMistakes:
    """No row is longer than the model reads."""
    said = count_from_one(at(values, "base", "shape", "max_position_embeddings"))
    most = said if read is None else read.max_position_embeddings
    length = count_from_one(at(values, "data", "sequence_length"))
    if most is not None and length is not None and length > most:
        expected = f"at most the {most:,} tokens that {at(values, *_MODEL)} has positions for"
        yield ("data", "sequence_length"), f"{length:,}", expected, None
