"""What stands once for all stages: ``defaults`` written out in every stage that does not say it itself.

A mistake in a value that stands in one place and counts in several is told once, at that place; one that only some of
the stages have is told of those stages.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from ko_cpt_callbacks.yaml.mistake import Key, Mistake
from ko_cpt_callbacks.yaml.reading import Document, mapping

DEFAULTS: Final = "defaults"
EVERY: Final = "*"
"""In a key of ``--set``: each name that is there."""

_PARTS: Final = ("arguments", "watch")


def with_defaults(document: Document) -> Document:
    """A document whose stages say all that they are.

    Args:
        document: Overrides applied; left as it is. Its ``defaults`` stay.
    """
    stages = document.values.get("stages")
    if not isinstance(stages, dict):
        return document
    lines, origins = dict(document.lines), dict(document.origins)
    written: dict[str, Any] = {}
    for name, stage in stages.items():
        written[name] = dict(stage) if isinstance(stage, dict) else stage
        for part in _PARTS if isinstance(stage, dict) else ():
            given = copy.deepcopy(dict(mapping(document.values, DEFAULTS, part)))
            own = {} if stage.get(part) is None else stage[part]
            if not given or not isinstance(own, dict):
                continue
            written[name][part] = {**given, **own}
            key: Key = ("stages", name, part)
            for item in given.keys() - own.keys():
                origin: Key = (DEFAULTS, part, item)
                origins[*key, item] = origin
                lines |= {(*key, *at[2:]): line for at, line in document.lines.items() if at[:3] == origin}
    values = {**document.values, "stages": written}
    return replace(document, values=values, lines=lines, origins=origins)


def without_defaults(document: Document) -> Document:
    """The document as if every stage had been written out."""
    values = {name: value for name, value in document.values.items() if name != DEFAULTS}
    return replace(document, values=values)


def reported_once(mistakes: Iterable[Mistake], document: Document) -> list[Mistake]:
    """Mistakes of values that stand in one place and count in several, told of that place.

    Args:
        mistakes: All of a document.
        document: What is in several places, in its ``origins``.
    """
    said = list(mistakes)
    words = {(item.key, *_words(item)) for item in said}
    heirs: dict[Key, list[Key]] = {}
    for key, origin in document.origins.items():
        heirs.setdefault(origin, []).append(key)
    kept: list[Mistake] = []
    for item in said:
        depth = next((n for n in range(len(item.key), 0, -1) if item.key[:n] in document.origins), 0)
        if not depth:
            kept.append(item)
            continue
        origin, rest = document.origins[item.key[:depth]], item.key[depth:]
        if ((*origin, *rest), *_words(item)) in words:
            continue  # told there
        everywhere = all(((*key, *rest), *_words(item)) in words for key in heirs[origin])
        kept.append(replace(item, key=(*origin, *rest)) if everywhere and _is_unread(origin) else item)
    # Of a default that comes from an alias there is one place more to go back.
    return kept if kept == said else reported_once(_each_once(kept), document)


def _is_unread(origin: Key) -> bool:
    """Whether what stands there is only looked at where it counts."""
    return origin[0] == DEFAULTS or EVERY in origin


def _words(item: Mistake) -> tuple[str, str, str | None]:
    return item.found, item.expected, item.near


def _each_once(mistakes: Iterable[Mistake]) -> list[Mistake]:
    return list({(item.key, *_words(item)): item for item in reversed(list(mistakes))}.values())[::-1]
