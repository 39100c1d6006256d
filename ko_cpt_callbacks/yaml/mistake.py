"""One mistake of a file: where, what was found, what is expected, what was probably meant; pydantic's errors too."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ko_cpt_callbacks.errors import near_miss

if TYPE_CHECKING:
    from ko_cpt_callbacks.yaml.reading import YamlDocument

Key = tuple[str | int, ...]
"""The way to a value: names of mappings, places in lists."""

_SHOWN: Final = 60
_ADDRESS: Final = re.compile(r"://[^\s{}]+")


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at one place.

    Attributes:
        key: The way to the value; empty for the whole file.
        line: The line in the file, from 1; None where there is none.
        found: What stands there.
        expected: What should.
        near: What was probably meant.
        origin: Where the value comes from, when not from the file.
        hides: Whether what is reported of the values below is no news: what is wrong with a value that could not be
            read follows from that. What a value does not agree with says nothing of the values below it.
    """

    key: Key
    line: int | None
    found: str
    expected: str
    near: str | None = None
    origin: str | None = None
    hides: bool = True

    def sentence(self, file: str) -> str:
        """The mistake in one line: ``FILE:LINE: KEY: found …, expected …. Did you mean …?``."""
        place = self.origin or (file if self.line is None else f"{file}:{self.line}")
        key = f" {dotted(self.key)}:" if self.key else ""
        hint = "" if self.near is None else f" Did you mean {self.near}?"
        return f"{place}:{key} found {self.found}, expected {self.expected}.{hint}"


def one_each(mistakes: Iterable[Mistake]) -> list[Mistake]:
    """One mistake a place, the first found, by line; those that are not the file's own come first."""
    kept: dict[Key, Mistake] = {}
    loose = []
    for mistake in mistakes:
        key = mistake.key
        if not key:
            loose.append(mistake)
        # A value that could not be read stands as None: what else is wrong with it is no news.
        elif key not in kept and not any(key[: len(known)] == known and item.hides for known, item in kept.items()):
            kept[key] = mistake
    return loose + sorted(kept.values(), key=lambda item: (item.origin is None, item.line or 0))


def dotted(key: Key) -> str:
    """``stages.lora.watch.targets[0]``."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def shown(value: Any) -> str:
    """A value as an error shows it: its kind where the kind may be the mistake."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {json.dumps(cut(_scheme_only(value)), ensure_ascii=False)}"
    if isinstance(value, dict):
        return f"a mapping ({cut(_scheme_only(', '.join(map(str, value)))) or 'empty'})"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return cut(str(value))


def _scheme_only(text: str) -> str:
    """A text without what follows a scheme: of a webhook (``slack://``, ``https://``) it is a secret."""
    return _ADDRESS.sub("://…", text)


def cut(text: str) -> str:
    """The text, or its beginning where it is long."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


class StrictMapping(BaseModel):
    """A mapping of a file: unknown keys are refused, a text is no number, and nothing changes once read."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )


_KINDS: Final = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_BOUNDS: Final = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}

_PATTERNS: Final = {
    r"^[a-z][a-z0-9_-]{0,63}$": "a name of at most 64 small letters, digits, - and _ that begins with a letter",
    r"^[a-z][a-z0-9_-]*$": "a name of small letters, digits, - and _ that begins with a letter",
    r"^[a-z0-9][a-z0-9._-]{0,63}$": "a name of at most 64 small letters, digits, -, _ and .",
    r"^[a-z]{2,3}$": "a language's code such as ko",
    r"^all-linear$": "a list of names of linear layers, or all-linear",
    r"^(info|warning|error|\$[A-Za-z_][A-Za-z0-9_]*)$": "info, warning, error, or $NAME, a variable with an address",
    r"^[1-9][0-9]{0,3}$": "a whole number of at most four digits in quotation marks",
}

Model = TypeVar("Model", bound=BaseModel)


def shape_mistakes(model: type[Model], document: YamlDocument) -> tuple[Model | None, list[Mistake]]:
    """What a document, a mapping, says in the terms of a schema, or where it has not the schema's shape."""
    try:
        return model.model_validate(document.values), []
    except ValidationError as error:
        return None, [_mistake(model, dict(item), document) for item in error.errors(include_url=False)]


def _mistake(model: type[BaseModel], error: dict[str, Any], document: YamlDocument) -> Mistake:
    kind, found = str(error["type"]), error["input"]
    # A wrong name of a mapping is reported at (…, name, "[key]"), what may be of two kinds at (…, name, "<kind>").
    key: Key = tuple(part for part in error["loc"] if part != "[key]" and not str(part).startswith("<"))
    line = document.line_of(key)
    context = error.get("ctx", {})
    if kind == "extra_forbidden":
        known = known_names(model, key[:-1]) or ()
        near = near_miss(str(key[-1]), known)
        return Mistake(key, line, "an unknown key", f"one of {', '.join(known)}", near)
    if kind == "missing":
        return Mistake(key, line, "nothing", "this key")
    if kind == "literal_error":
        known = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
        return Mistake(key, line, shown(found), " or ".join(known), near_miss(str(found), known))
    if kind == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        return Mistake(key, line, shown(found), _PATTERNS.get(pattern, f"a text of the form {pattern}"))
    if kind == "string_too_short":
        return Mistake(key, line, "an empty text", "a text")
    if kind in ("too_short", "too_long"):
        least = kind == "too_short"
        number = context["min_length" if least else "max_length"]
        return Mistake(key, line, f"{len(found)} entries", f"at {'least' if least else 'most'} {number}")
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return Mistake(key, line, shown(found), f"{words} {_number(context[name])}")
    if kind in _KINDS:
        near = found.strip() if isinstance(found, str) and "number" in _KINDS[kind] and is_number(found) else None
        return Mistake(key, line, shown(found), _KINDS[kind], near)
    return Mistake(key, line, shown(found), str(error["msg"]))


def is_number(text: str) -> bool:
    """Whether a text reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def known_names(model: type[BaseModel], key: Key) -> Sequence[str] | None:
    """The keys that a schema knows at a place; None where it names none, or knows no such place."""
    found = _annotation(model, key)
    return list(found.model_fields) if isinstance(found, type) and issubclass(found, BaseModel) else None


def holds_parts(model: type[BaseModel], key: Key) -> bool:
    """Whether a place holds parts of the schema under names that the document gives: ``stages``."""
    return typing.get_origin(_annotation(model, key)) is dict and known_names(model, (*key, "")) is not None


def _annotation(model: type[BaseModel], key: Key) -> Any:
    """What a schema says of a place; Any where it knows no such place."""
    at: Any = model
    for part in key:
        if isinstance(at, type) and issubclass(at, BaseModel):
            at = at.model_fields[str(part)].annotation if part in at.model_fields else Any
        else:
            at = (typing.get_args(at) or (Any,))[-1]
        while typing.get_origin(at) in (typing.Annotated, typing.Union, types.UnionType):
            at = typing.get_args(at)[0]
    return at


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
