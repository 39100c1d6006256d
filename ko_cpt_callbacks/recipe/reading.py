"""A recipe's file to a recipe, or every mistake in it at once. Nothing is loaded, and torch is not needed.

Some values do not stand where they count: ``key=value`` texts, and ``defaults`` that each stage inherits. A mistake in
a value that stands in one place and counts in several is reported once, at that place; one that only some of the stages
have is reported for those stages.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks.errors import RecipeError, near_miss
from ko_cpt_callbacks.recipe.base_config import LocalBase
from ko_cpt_callbacks.recipe.bundle import NAME, WHAT, is_bundled, recipe_text
from ko_cpt_callbacks.recipe.checks import consistency_mistakes, source_mistakes
from ko_cpt_callbacks.recipe.schema import Defaults, Page
from ko_cpt_callbacks.yaml.mistake import (
    Key,
    Mistake,
    dotted,
    holds_parts,
    known_names,
    one_each,
    shape_mistakes,
    shown,
)
from ko_cpt_callbacks.yaml.reading import KeyMistake, YamlDocument, mapping, no_mapping, read_document

__all__ = ["RecipeFile", "read_recipe"]


@dataclass(frozen=True)
class RecipeFile:
    """A recipe and where it was read from.

    Attributes:
        path: The file.
        recipe: What it says.
        document: Its raw values with their lines, overrides and defaults applied, with its id.
        overrides: The values that are not the file's, by dotted key.
        base: Its base, where that is a folder.
    """

    path: Path
    recipe: Page
    document: YamlDocument
    overrides: Mapping[str, Any]
    base: LocalBase = field(default_factory=LocalBase)

    def error(self, mistakes: Iterable[KeyMistake]) -> RecipeError:
        """An error about values that only their user can judge."""
        placed = [
            replace(item, origin=_OPTION) if dotted(item.key) in self.overrides else item
            for item in self.document.placed(mistakes)
        ]
        return _error(_reported_once(placed, self.document), str(self.path))


def read_recipe(
    path: Path, overrides: Sequence[str] = (), further: Callable[[Any, Path], Iterable[KeyMistake]] | None = None
) -> RecipeFile:
    """The recipe of a file.

    Args:
        path: The file.
        overrides: ``key=value`` texts: a dotted key such as ``stages.lora.lora.r``, and a value in YAML. A single
            text is one.
        further: What else is asked of the raw values and the folder of a recipe that cannot be used, such as
            `recipe.text_checks.text_mistakes`: so that its mistakes are reported together with the others.

    Raises:
        RecipeError: If it cannot be used. It tells every mistake, one a line: file and line, key, what was found,
            what is expected, and what was probably meant.
    """
    file = str(path)
    document = read_document(recipe_text(path), WHAT, aliases=True)
    if wrong := no_mapping(document, WHAT):
        raise _error(wrong, file)
    document, done = _override(document, overrides)
    sourced = list(source_mistakes(document, tuple(done.values))) if is_bundled(path) else []
    document = _with_defaults(_with_id(document, path))
    recipe, mistakes = shape_mistakes(Page, document)
    base = LocalBase.of(document.values, path.parent)
    mistakes = [
        *_name_mistakes(document, path),
        *document.mistakes,
        *mistakes,
        *consistency_mistakes(base.with_shape(document), sourced, base.mistakes),
    ]
    if mistakes or recipe is None:
        mistakes += () if further is None else document.placed(further(document.values, path.parent))
        raise _error(done.once(_reported_once(mistakes, document)), file)
    recipe = base.completed(recipe).model_copy(update={"defaults": Defaults()})
    given = {dotted(key): value for key, value in done.values.items()}
    written = {name: value for name, value in document.values.items() if name != _DEFAULTS}
    return RecipeFile(path, recipe, replace(document, values=written), given, base)


def _with_id(document: YamlDocument, path: Path) -> YamlDocument:
    """A document with an id: its own, or the file's name."""
    return document if "id" in document.values else replace(document, values={"id": path.stem, **document.values})


def _name_mistakes(document: YamlDocument, path: Path) -> Iterator[Mistake]:
    """A file whose name is no id has to say one."""
    if ("id",) not in document.lines and document.values["id"] == path.stem and not NAME.fullmatch(path.stem):
        plain = re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).lstrip("-_0123456789")[:64].rstrip("-_")
        found = f"none, and the file's name, {shown(path.stem)}, cannot be one"
        yield Mistake(("id",), 1, found, "a name of small letters, digits, - and _", f"id: {plain}" if plain else None)


def _error(mistakes: Iterable[Mistake], file: str) -> RecipeError:
    return RecipeError("\n".join(mistake.sentence(file) for mistake in mistakes))


_DEFAULTS: Final = "defaults"
_PARTS: Final = ("arguments", "watch")
_EVERY: Final = "*"  # in a key of ``--set``: each name that is there
_OPTION: Final = "--set"  # where such a value is from, in the place of file and line
_EXAMPLE: Final = "stages.lora.arguments.max_steps=4"


def _with_defaults(document: YamlDocument) -> YamlDocument:
    """A document whose stages say all that they are; its ``defaults`` stay."""
    stages = document.values.get("stages")
    if not isinstance(stages, dict):
        return document
    lines, origins = dict(document.lines), dict(document.origins)
    written: dict[str, Any] = {}
    for name, stage in stages.items():
        written[name] = dict(stage) if isinstance(stage, dict) else stage
        for part in _PARTS if isinstance(stage, dict) else ():
            given = copy.deepcopy(dict(mapping(document.values, _DEFAULTS, part)))
            own = {} if stage.get(part) is None else stage[part]
            if not given or not isinstance(own, dict):
                continue
            written[name][part] = {**given, **own}
            key: Key = ("stages", name, part)
            for item in given.keys() - own.keys():
                origin: Key = (_DEFAULTS, part, item)
                origins[*key, item] = origin
                lines |= {(*key, *at[2:]): line for at, line in document.lines.items() if at[:3] == origin}
    values = {**document.values, "stages": written}
    return replace(document, values=values, lines=lines, origins=origins)


def _reported_once(mistakes: Iterable[Mistake], document: YamlDocument) -> list[Mistake]:
    """All mistakes of a document; those of values that count in several places (`origins`) where these stand."""
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
    return kept if kept == said else _reported_once(_each_once(kept), document)


def _is_unread(origin: Key) -> bool:
    """Whether what stands there is only looked at where it counts."""
    return origin[0] == _DEFAULTS or _EVERY in origin


def _words(item: Mistake) -> tuple[str, str, str | None]:
    return item.found, item.expected, item.near


def _each_once(mistakes: Iterable[Mistake]) -> list[Mistake]:
    return list({(item.key, *_words(item)): item for item in reversed(list(mistakes))}.values())[::-1]


@dataclass(frozen=True)
class _Overrides:
    """What was put into a document."""

    values: dict[Key, Any] = field(default_factory=dict)
    """The new values by key."""
    made: list[Key] = field(default_factory=list)
    """Mappings that the file leaves out, made for a value inside."""
    patterns: dict[Key, Key] = field(default_factory=dict)
    """Keys with a ``*`` that the values were given by, by the keys that they stand for."""
    mistakes: list[Mistake] = field(default_factory=list)
    """Of texts that are no override, or lead nowhere."""

    def wrong(self, key: Key, found: str, expected: str, near: str | None = None) -> None:
        """Add a mistake."""
        self.mistakes.append(Mistake(key, None, found, expected, near, _OPTION))

    def are_about(self, mistake: Mistake) -> bool:
        """Whether a mistake is one of theirs, and not the file's."""
        return any(mistake.key[: len(known)] == known for known in (*self.values, *self.made, *self.patterns.values()))

    def once(self, mistakes: Sequence[Mistake]) -> list[Mistake]:
        """One mistake a place, the first found, by line; those of overrides say so."""
        # An override that changed nothing says nothing about the value in the file.
        loose = [item for item in mistakes if item.origin is not None and item.key not in self.values]
        rest = [item for item in mistakes if item.origin is None or item.key in self.values]
        return loose + one_each(replace(item, origin=_OPTION) if self.are_about(item) else item for item in rest)


def _override(document: YamlDocument, texts: Sequence[str]) -> tuple[YamlDocument, _Overrides]:
    """A document, whose values are a mapping, with others: see `read_recipe`. A ``*`` is every name that is there."""
    values = copy.deepcopy(document.values)
    done = _Overrides()
    for text in (texts,) if isinstance(texts, str) else texts:
        name, sign, value = text.partition("=") if isinstance(text, str) else ("", "", "")
        parts = tuple(name.strip().split("."))
        if not sign or not all(parts):
            done.wrong((), shown(text), "KEY=VALUE", _EXAMPLE)
            continue
        read = read_document(value, "a value")
        done.mistakes.extend(replace(item, key=parts, line=None, origin=_OPTION) for item in read.mistakes)
        keys = _named(values, parts, done)
        for key in keys:
            if len(keys) > 1 or key != parts:
                done.patterns[key] = parts
            _put(values, key, read.values, done)
    changed = replace(
        document,
        values=values,
        mistakes=(*document.mistakes, *done.mistakes),
        # What was copied there by an alias is not what stands there now.
        origins={key: origin for key, origin in document.origins.items() if key not in done.values} | done.patterns,
    )
    return changed, done


def _named(values: Any, parts: tuple[str, ...], done: _Overrides) -> list[tuple[str, ...]]:
    """The keys that a key with ``*`` in it stands for."""
    if _EVERY not in parts:
        return [parts]
    place = parts.index(_EVERY)
    names = mapping(values, *parts[:place])
    if not names:
        around = dotted(parts[:place]) or "the recipe"
        known = known_names(Page, ()) or ()
        near = near_miss(parts[0], known) if parts[0] not in known else None
        done.wrong(parts, f"nothing that {_EVERY} stands for", f"names in {around}", near)
    return [key for name in names for key in _named(values, (*parts[:place], name, *parts[place + 1 :]), done)]


def _put(values: dict[str, Any], parts: tuple[str, ...], value: Any, done: _Overrides) -> None:
    """Put one value in its place; mappings on the way that the file leaves out are made where the schema has them."""
    at, depth = values, 0
    while depth < len(parts) - 1 and isinstance(at.get(parts[depth]), dict):
        at, depth = at[parts[depth]], depth + 1
    if depth < len(parts) - 1:
        if _is_barred(at, parts, depth, done):
            return
        done.made.append(parts[: depth + 1])
        for part in parts[depth:-1]:
            at[part] = {}
            at = at[part]
    at[parts[-1]] = value
    done.values[parts] = value


def _is_barred(at: Mapping[str, Any], parts: tuple[str, ...], depth: int, done: _Overrides) -> bool:
    """Whether something is in the way: something else than a mapping, or a name that the schema does not know."""
    key, inner = parts[: depth + 1], at.get(parts[depth])
    unknown = ((end, known_names(Page, parts[:end])) for end in range(depth, len(parts) - 1))
    wrong = next(((end, known) for end, known in unknown if known is not None and parts[end] not in known), None)
    if isinstance(inner, list):
        done.wrong(key, shown(inner), f"the whole list: {dotted(key)}=[…, …]")
    elif inner is not None:
        done.wrong(key, shown(inner), f"a mapping to set {'.'.join(parts[depth + 1 :])} in")
    elif wrong is not None:
        end, known = wrong
        done.wrong(parts[: end + 1], "an unknown key", f"one of {', '.join(known)}", near_miss(parts[end], known))
    elif holds_parts(Page, parts[:depth]):
        # A part under a name of the user's own is more than one value.
        done.wrong(key, "no mapping", f"one of {', '.join(at)}", near_miss(parts[depth], at))
    else:
        return False
    return True
