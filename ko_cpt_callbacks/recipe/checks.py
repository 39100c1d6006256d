"""What the parts of a recipe must agree on: names, what can be trained, numbers and where they come from.

Asked of the raw values, so that these mistakes are told together with those of shape; a value of the wrong shape
is skipped here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ko_cpt_callbacks.recipe.argument_words import word_mistakes
from ko_cpt_callbacks.recipe.arguments import argument_mistakes
from ko_cpt_callbacks.recipe.bundle import bundled_texts
from ko_cpt_callbacks.recipe.stage_checks import model_mistakes, stage_mistakes
from ko_cpt_callbacks.recipe.text_files import NAMES, may_hold_text
from ko_cpt_callbacks.recipe.watch_checks import watch_mistakes
from ko_cpt_callbacks.yaml.mistake import Key, Mistake, dotted, near_miss, shown
from ko_cpt_callbacks.yaml.reading import Document, Said, Told, at, entries, mapping
from ko_cpt_callbacks.yaml.shape import line_of

_SOURCE: Final = "source"
_WATCH: Final = "watch"
# Texts with a number in them.
_SAID: Final = ("grace", "min_delta")


def source_mistakes(document: Document, overridden: Sequence[Key]) -> Said:
    """Numbers without a source, and sources without a number.

    Args:
        document: The document, without its defaults written out.
        overridden: Keys whose values are not the file's; their numbers need no source.
    """
    values = document.values
    given = mapping(values, _SOURCE)
    content = {name: value for name, value in values.items() if name != _SOURCE}
    for key in _numbers(content, ()):
        changed = any(key[: len(other)] == other for other in overridden)
        if not changed and not any(_covers(entry, dotted(key)) for entry in given):
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
        if (len(key) > 1 and key[-2] == "targets") or (key[-2:-1] == (_WATCH,) and key[-1] in _SAID):
            yield key
    elif isinstance(values, (int, float)) and not isinstance(values, bool):
        yield key


def _covers(entry: str, number: str) -> bool:
    return number == entry or number.startswith((f"{entry}.", f"{entry}["))


_WAYS: Final = ("bundled", "files", "hub")
_HUB_ONLY: Final = ("revision", "config", "split")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def data_mistakes(values: Any) -> Said:
    """Where the texts contradict each other or the task."""
    yield from _names(values)
    for name, source in mapping(values, "data", "sources").items():
        if isinstance(source, Mapping):
            key: Key = ("data", "sources", name)
            yield from _origin(key, source)
            yield from _band(key, source)
    yield from _task(values)


def _names(values: Any) -> Said:
    """Every source that is used is given."""
    known = list(mapping(values, "data", "sources"))
    used: list[tuple[Key, Any]] = [(("data", "mix", name), name) for name in mapping(values, "data", "mix")]
    for way in (("base", "build", "tokenizer", "sources"), ("base", "build", "pretraining", "sources")):
        used.extend(((*way, number), name) for number, name in enumerate(entries(values, *way)))
    used.append((("tokenizer", "extend", "source"), at(values, "tokenizer", "extend", "source")))
    for name, part in mapping(values, "eval").items():
        used.append((("eval", name, "source"), at(part, "source")))
    for key, name in used:
        if known and isinstance(name, str) and name not in known:
            yield key, shown(name), f"one of data.sources ({', '.join(known)})", near_miss(name, known)


def _origin(key: Key, source: Mapping[str, Any]) -> Said:
    """A source comes from one place, and what is said of it belongs to that place."""
    given = [way for way in _WAYS if source.get(way) is not None]
    if len(given) != 1:
        yield key, " and ".join(given) or "none of bundled, files and hub", "one of bundled, files and hub", None
        return
    known = bundled_texts() if entries(source, "bundled") else ()
    for number, file in enumerate(entries(source, "bundled")):
        if isinstance(file, str) and file not in known:
            yield (*key, "bundled", number), shown(file), f"one of {', '.join(known)}", near_miss(file, known)
    named: list[tuple[Key, Any]] = [((*key, "files", n), file) for n, file in enumerate(entries(source, "files"))]
    for place, file in [*named, ((*key, "files"), source.get("files"))]:
        if isinstance(file, str) and not may_hold_text(file):
            yield place, shown(file), f"a name that ends in {NAMES}, or a folder", None
    if given == ["hub"]:
        revision = source.get("revision")
        if revision is None or (isinstance(revision, str) and not _COMMIT.fullmatch(revision)):
            yield (*key, "revision"), shown(revision), "the commit of the data set, 40 hex digits", None
        return
    for name in _HUB_ONLY:
        if source.get(name) is not None:
            yield (*key, name), f"a {name} of {given[0]}", f"no {name}: only what is on the hub has one", None


def _band(key: Key, source: Mapping[str, Any]) -> Said:
    """A perplexity band has an inside."""
    low, high = (at(source, "filters", "perplexity", name) for name in ("low", "high"))
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low >= high:
        yield (*key, "filters", "perplexity", "low"), shown(low), f"less than high {shown(high)}", None


def _task(values: Any) -> Said:
    """Prompts are there for instruction tuning, and for nothing else."""
    sources, mixed = mapping(values, "data", "sources"), mapping(values, "data", "mix")
    tuning = values.get("task") == "sft"
    for name, source in sources.items():
        key, prompt = ("data", "sources", name), at(source, "prompt")
        if not tuning and prompt is not None:
            yield (*key, "prompt"), "a prompt", "none, or task: sft", None
        elif tuning and name in mixed and entries(source, "bundled"):
            yield (*key, "bundled"), "texts without prompts", "files or hub, with prompt, for task: sft", None
        elif tuning and name in mixed and isinstance(source, Mapping) and prompt is None:
            yield (*key, "prompt"), "nothing", "the field of the prompt, for task: sft", None
    if tuning and at(values, "data", "packing") is True:
        yield ("data", "packing"), "true", "false for task: sft: an answer sees its own prompt alone", None


def agreement_mistakes(
    document: Document, sourced: Iterable[Told] = (), of_base: Iterable[Told] = ()
) -> list[Mistake]:
    """Where parts of the document contradict each other.

    Args:
        document: The document, overrides and defaults applied.
        sourced: What `source_mistakes` found, where a recipe has to say where its numbers are from.
        of_base: What is wrong with a base that is a folder.
    """
    values = document.values
    found: list[Told] = [
        *data_mistakes(values),
        *of_base,
        *model_mistakes(values),
        *stage_mistakes(values),
        *watch_mistakes(values),
        *argument_mistakes(values),
        *word_mistakes(values),
        *sourced,
    ]
    return [
        Mistake(key, line_of(document, key), what, expected, near, hides=False) for key, what, expected, near in found
    ]
