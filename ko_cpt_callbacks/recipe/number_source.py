"""Where the numbers of a recipe come from: each has a source, or the words "chosen, not measured"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ko_cpt_callbacks.document.mistake import Key, dotted, near_miss
from ko_cpt_callbacks.document.yaml_text import Document
from ko_cpt_callbacks.recipe.raw import Said, mapping

_SOURCE: Final = "source"
_WATCH: Final = "watch"
# Texts with a number in them.
_SAID: Final = ("grace", "min_delta")


def source_mistakes(document: Document, overridden: Sequence[Key]) -> Said:
    """Numbers without a source, and sources without a number.

    Args:
        document: The document.
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
