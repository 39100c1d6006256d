"""Values that do not stand where they count: ``key=value`` texts, and ``defaults`` that each stage inherits.

A mistake in a value that stands in one place and counts in several is reported once, at that place; one that only some
of the stages have is reported for those stages.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.yaml.mistake import Key, Mistake, dotted, holds_parts, known_names, near_miss, one_each, shown
from ko_cpt_callbacks.yaml.reading import YamlDocument, mapping, read_document

DEFAULTS: Final = "defaults"
EVERY: Final = "*"
"""In a key of ``--set``: each name that is there."""

_PARTS: Final = ("arguments", "watch")


def with_defaults(document: YamlDocument) -> YamlDocument:
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


def without_defaults(document: YamlDocument) -> YamlDocument:
    """The document as if every stage had been written out."""
    values = {name: value for name, value in document.values.items() if name != DEFAULTS}
    return replace(document, values=values)


def reported_once(mistakes: Iterable[Mistake], document: YamlDocument) -> list[Mistake]:
    """Mistakes of values that stand in one place and count in several, reported for that place.

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
            continue  # reported there
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


OPTION: Final = "--set"
"""Where such a value is from, in the place of file and line."""

_EXAMPLE: Final = "stages.lora.arguments.max_steps=4"


@dataclass(frozen=True)
class Overrides:
    """What was put into a document.

    Attributes:
        values: The new values by key.
        made: Mappings that the file leaves out, made for a value inside.
        patterns: Keys with a ``*`` that the values were given by, by the keys that they stand for.
        mistakes: Of texts that are no override, or lead nowhere.
    """

    values: dict[Key, Any] = field(default_factory=dict)
    made: list[Key] = field(default_factory=list)
    patterns: dict[Key, Key] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def are_about(self, mistake: Mistake) -> bool:
        """Whether a mistake is one of theirs, and not the file's."""
        return any(mistake.key[: len(known)] == known for known in (*self.values, *self.made, *self.patterns.values()))

    def once(self, mistakes: Sequence[Mistake]) -> list[Mistake]:
        """One mistake a place, the first found, by line; those of overrides say so."""
        # An override that changed nothing says nothing about the value in the file.
        loose = [item for item in mistakes if item.origin is not None and item.key not in self.values]
        rest = [item for item in mistakes if item.origin is None or item.key in self.values]
        return loose + one_each(replace(item, origin=OPTION) if self.are_about(item) else item for item in rest)


def override(document: YamlDocument, texts: Sequence[str]) -> tuple[YamlDocument, Overrides]:
    """A document with other values.

    Args:
        document: A document whose values are a mapping; left as it is.
        texts: ``key=value``: a dotted key such as ``stages.lora.lora.r``, and a value in YAML. A single text is one. A
            ``*`` in the key is every name that is there: ``stages.*.arguments.max_steps``.
    """
    values = copy.deepcopy(document.values)
    done = Overrides()
    for text in (texts,) if isinstance(texts, str) else texts:
        name, sign, value = text.partition("=") if isinstance(text, str) else ("", "", "")
        parts = tuple(name.strip().split("."))
        if not sign or not all(parts):
            done.mistakes.append(Mistake((), None, shown(text), "KEY=VALUE", _EXAMPLE, OPTION))
            continue
        read = read_document(value, "a value")
        done.mistakes.extend(replace(item, key=parts, line=None, origin=OPTION) for item in read.mistakes)
        keys, wrong = _named(values, parts)
        for key in keys:
            if len(keys) > 1 or key != parts:
                done.patterns[key] = parts
            wrong.append(_put(values, key, read.values, done))
        done.mistakes.extend(item for item in wrong if item is not None)
    changed = replace(
        document,
        values=values,
        mistakes=(*document.mistakes, *done.mistakes),
        # What was copied there by an alias is not what stands there now.
        origins={key: origin for key, origin in document.origins.items() if key not in done.values} | done.patterns,
    )
    return changed, done


def _named(values: Any, parts: tuple[str, ...]) -> tuple[list[tuple[str, ...]], list[Mistake | None]]:
    """The keys that a key with ``*`` in it stands for, and what is wrong where it stands for none."""
    if EVERY not in parts:
        return [parts], []
    place = parts.index(EVERY)
    at = values
    for part in parts[:place]:
        at = at.get(part) if isinstance(at, dict) else None
    if not isinstance(at, dict) or not at:
        around = dotted(parts[:place]) or "the recipe"
        known = known_names(Page, ()) or ()
        near = near_miss(parts[0], known) if parts[0] not in known else None
        return [], [Mistake(parts, None, f"nothing that {EVERY} stands for", f"names in {around}", near, OPTION)]
    found: list[tuple[str, ...]] = []
    wrong: list[Mistake | None] = []
    for name in at:
        keys, mistakes = _named(values, (*parts[:place], name, *parts[place + 1 :]))
        found, wrong = found + keys, wrong + mistakes
    return found, wrong


def _put(values: dict[str, Any], parts: tuple[str, ...], value: Any, done: Overrides) -> Mistake | None:
    """Put one value in its place; mappings on the way that the file leaves out are made where the schema has them."""
    at, depth = values, 0
    while depth < len(parts) - 1 and isinstance(at.get(parts[depth]), dict):
        at, depth = at[parts[depth]], depth + 1
    if depth < len(parts) - 1:
        wrong = _barred(at, parts, depth)
        if wrong is not None:
            return wrong
        done.made.append(parts[: depth + 1])
        for part in parts[depth:-1]:
            at[part] = {}
            at = at[part]
    at[parts[-1]] = value
    done.values[parts] = value
    return None


def _barred(at: Mapping[str, Any], parts: tuple[str, ...], depth: int) -> Mistake | None:
    """What stands in the way to a value: something else than a mapping, or a name that the schema does not know."""
    key, inner = parts[: depth + 1], at.get(parts[depth])
    if isinstance(inner, list):
        return Mistake(key, None, shown(inner), f"the whole list: {dotted(key)}=[…, …]", None, OPTION)
    if inner is not None:
        inside = ".".join(parts[depth + 1 :])
        return Mistake(key, None, shown(inner), f"a mapping to set {inside} in", None, OPTION)
    for end in range(depth, len(parts) - 1):
        known = known_names(Page, parts[:end])
        if known is not None and parts[end] not in known:
            near = near_miss(parts[end], known)
            return Mistake(parts[: end + 1], None, "an unknown key", f"one of {', '.join(known)}", near, OPTION)
    if holds_parts(Page, parts[:depth]):
        # A part under a name of the user's own is more than one value.
        near = near_miss(parts[depth], at)
        return Mistake(key, None, "no mapping", f"one of {', '.join(at)}", near, OPTION)
    return None
