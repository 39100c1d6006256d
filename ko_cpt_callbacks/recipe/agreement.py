"""What the parts of a recipe must agree on: names that are used and given, numbers and where they come from.

Asked of the raw values, so that these mistakes are told together with those of shape; a value of the wrong shape
is skipped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ko_cpt_callbacks.core.message import CODES
from ko_cpt_callbacks.core.target import parse_target
from ko_cpt_callbacks.document.mistake import Key, Mistake, dotted, near_miss, shown
from ko_cpt_callbacks.document.shape import is_number, line_of
from ko_cpt_callbacks.document.yaml_text import Document
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.bundle import bundled_texts

_SOURCE = "source"


def agreement_mistakes(document: Document, overridden: Iterable[Key] = ()) -> list[Mistake]:
    """Where parts of the document contradict each other.

    Args:
        document: The document, overrides applied.
        overridden: Keys whose values are not the file's; their numbers need no source.
    """
    values = document.values
    found: list[tuple[Key, str, str, str | None]] = [
        *_names(values),
        *_texts(values),
        *_heads(values),
        *_watch(values),
        *_arguments(values),
        *_sources(document, tuple(overridden)),
    ]
    return [Mistake(key, line_of(document, key), what, expected, near) for key, what, expected, near in found]


Said = Iterator[tuple[Key, str, str, str | None]]


def _at(values: Any, *key: str | int) -> Any:
    for part in key:
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _mapping(values: Any, *key: str) -> Mapping[str, Any]:
    found = _at(values, *key)
    return found if isinstance(found, Mapping) else {}


def _list(values: Any, *key: str) -> Sequence[Any]:
    found = _at(values, *key)
    return found if isinstance(found, list) else []


def _names(values: Any) -> Said:
    """Every source that is used is given."""
    known = list(_mapping(values, "data", "sources"))
    used: list[tuple[Key, Any]] = [(("data", "mix", name), name) for name in _mapping(values, "data", "mix")]
    for way in (("base", "build", "sources"), ("base", "build", "tokenizer", "sources")):
        used.extend(((*way, number), name) for number, name in enumerate(_list(values, *way)))
    for name, part in _mapping(values, "eval").items():
        used.append((("eval", name, _SOURCE), _at(part, _SOURCE)))
    for key, name in used:
        if known and isinstance(name, str) and name not in known:
            yield key, shown(name), f"one of data.sources ({', '.join(known)})", near_miss(name, known)


def _texts(values: Any) -> Said:
    """Every bundled text exists."""
    known = bundled_texts()
    for name, part in _mapping(values, "data", "sources").items():
        for number, file in enumerate(_list(part, "bundled")):
            if isinstance(file, str) and file not in known:
                key = ("data", "sources", name, "bundled", number)
                yield key, shown(file), f"one of {', '.join(known)}", near_miss(file, known)


def _heads(values: Any) -> Said:
    """The width can be divided among the attention heads."""
    build = _mapping(values, "base", "build")
    width, heads = build.get("hidden_size"), build.get("num_attention_heads")
    if isinstance(width, int) and isinstance(heads, int) and heads > 0 and width % heads:
        yield ("base", "build", "num_attention_heads"), str(heads), f"a divisor of hidden_size {width}", None


def _watch(values: Any) -> Said:
    """Every target can be read and its set is evaluated; every code exists."""
    prefixes = [f"eval_{name}" for name in _mapping(values, "eval")]
    for stage, part in _mapping(values, "stages").items():
        key = ("stages", stage, "watch")
        for number, text in enumerate(_list(part, "watch", "targets")):
            if not isinstance(text, str):
                continue
            try:
                target = parse_target(text)
            except ConfigurationError as error:
                yield (*key, "targets", number), f"{shown(text)} ({error})", "a target", None
                continue
            if target.split not in prefixes:
                expected = f"a set of eval ({', '.join(prefixes)})"
                yield (*key, "targets", number), f"the set {target.split}", expected, near_miss(target.split, prefixes)
        for number, code in enumerate(_list(part, "watch", "stop_on")):
            if isinstance(code, str) and code not in CODES:
                yield (*key, "stop_on", number), shown(code), "a finding's code", near_miss(code, CODES)


def _arguments(values: Any) -> Said:
    """No number is written as a text; what else they may be only the installed transformers knows."""
    ways = [("base", "build", "arguments"), *(("stages", name, "arguments") for name in _mapping(values, "stages"))]
    for way in ways:
        for name, value in _mapping(values, *way).items():
            if isinstance(value, str) and is_number(value):
                yield (*way, name), shown(value), "a number, without quotation marks", value.strip()


def _sources(document: Document, overridden: tuple[Key, ...]) -> Said:
    """Every number has a source, and every source a number."""
    values = document.values
    given = _mapping(values, _SOURCE)
    content = {name: value for name, value in values.items() if name != _SOURCE}
    for key in _numbers(content, ()):
        if key not in overridden and not any(_covers(entry, dotted(key)) for entry in given):
            expected = f'"{dotted(key)}", or what it begins with, under {_SOURCE}: where it is from, or '
            yield key, "a number without a source", f'{expected}"chosen, not measured"', None
    # Of all keys, not of numbers only: a number that could not be read is a mistake of its own.
    known = [dotted(key) for key in document.lines if key and key[0] != _SOURCE]
    for entry in given:
        if entry not in known:
            found = "a source of a key that is not there"
            yield (_SOURCE, entry), found, "the key of a number", near_miss(entry, known)


def _numbers(values: Any, key: Key) -> Iterator[Key]:
    """The keys of numbers; a target is one too."""
    if isinstance(values, Mapping):
        for name, item in values.items():
            yield from _numbers(item, (*key, name))
    elif isinstance(values, list):
        for number, item in enumerate(values):
            yield from _numbers(item, (*key, number))
    elif isinstance(values, str):
        if len(key) > 1 and key[-2] == "targets":
            yield key
    elif isinstance(values, (int, float)) and not isinstance(values, bool):
        yield key


def _covers(entry: str, number: str) -> bool:
    return number == entry or number.startswith((f"{entry}.", f"{entry}["))
