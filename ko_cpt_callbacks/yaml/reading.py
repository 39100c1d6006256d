"""YAML text to plain values with the line of each; whatever could be read in two ways is refused.

YAML 1.2: ``3e-4`` is a number, ``no`` is a text. Where aliases and merge keys are allowed they are written out, up to a
bound. Mistakes are collected, not raised, so that all of a file's are reported together.
"""

from __future__ import annotations

import math
import os
import re
import stat
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from ko_cpt_callbacks.errors import KoCPTError
from ko_cpt_callbacks.yaml.mistake import Key, Mistake, cut, shown

KeyMistake: TypeAlias = tuple[Key, str, str, str | None]
"""A mistake without its line: key, found, expected, what was probably meant."""

KeyMistakes: TypeAlias = Iterator[KeyMistake]


def at(values: Any, *key: str | int) -> Any:
    """The value at a place of mappings; None where there is none."""
    for part in key:
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def mapping(values: Any, *key: str) -> Mapping[str, Any]:
    """The mapping at a place; empty where there is none."""
    found = at(values, *key)
    return found if isinstance(found, Mapping) else {}


def entries(values: Any, *key: str) -> Sequence[Any]:
    """The list at a place; empty where there is none."""
    found = at(values, *key)
    return found if isinstance(found, list) else []


def leaves(values: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every value inside that is no mapping and no list, with the way to it."""
    if isinstance(values, (Mapping, list)):
        for name, item in values.items() if isinstance(values, Mapping) else enumerate(values):
            yield from leaves(item, (*key, name))
    else:
        yield key, values


def read_text(
    path: Path, max_bytes: int, error: type[KoCPTError], what: str, size: str, *, as_it_is: bool = False
) -> str:
    """The text of a file; never more than ``max_bytes`` of it are read. Ends of lines stay as they are.

    Args:
        path: The file.
        max_bytes: The largest file that is read.
        error: What is raised.
        what: What the file should be, for the error: ``a recipe``.
        size: What it should be in the error about its size: ``a recipe of a page or two``.
        as_it_is: Whether a byte order mark at the beginning is kept: for a copy.

    Raises:
        KoCPTError: The given one, if the file cannot be opened, is larger, or is no UTF-8.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise error(f"{path}: found a folder, expected the file of {what}.{file_hint(path)}")
        if not stat.S_ISREG(mode):  # a pipe would wait for a writer
            raise error(f"{path}: found a pipe or a device, expected {what}.")
        with path.open("rb") as stream:
            payload = stream.read(max_bytes + 1)
    except OSError as reason:
        raise error(f"{path}: found nothing that can be read ({reason.strerror}), expected {what}.") from None
    if len(payload) > max_bytes:
        raise error(f"{path}: found more than {max_bytes:,} bytes, expected {size}.")
    try:
        return payload.decode("utf-8" if as_it_is else "utf-8-sig")
    except UnicodeDecodeError as reason:
        line = payload.count(b"\n", 0, reason.start) + 1
        raise error(f"{path}:{line}: found bytes that are no UTF-8, expected a text file in UTF-8.") from None


def file_hint(folder: Path) -> str:
    """Which file of a folder was probably meant, as an error ends; empty where it has no YAML."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(_ENDINGS))
    except OSError:
        return ""
    if len(names) == 1:
        return f" Did you mean {folder / names[0]}?"
    return f" Name one of its files: {', '.join(names[:_NAMED])}." if names else ""


_ENDINGS: Final = (".yaml", ".yml")
_NAMED: Final = 4

_DEEPEST: Final = 32
"""Levels of lists and mappings that are read; chosen, not measured: what people write has fewer than ten."""

_MOST_COPIED: Final = 10_000
"""Values that aliases and merge keys may add to a text; chosen, not measured: a recipe of four stages adds sixty."""

_TOO_DEEP: Final = "lists or mappings nested too deeply"
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_TAG}merge"
_CONTAINERS: Final = (f"{_TAG}map", f"{_TAG}seq")
_NUMBERS: Final = (f"{_TAG}int", f"{_TAG}float")
# What only YAML 1.1 gave a meaning to is the text that it looks like.
_TEXTS: Final = tuple(_TAG + name for name in ("str", "timestamp", "value"))
_WORDS: Final = (f"{_TAG}bool", f"{_TAG}null")
_MEANINGS: Final[Mapping[str, bool | None]] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True)
class YamlDocument:
    """What a YAML text says.

    Attributes:
        values: Dicts, lists, texts, numbers, booleans and None.
        lines: The line of every key and list item, from 1.
        mistakes: What is wrong with the text itself.
        origins: Where values that stand there only by an alias, a merge key or the like were written, by key.
    """

    values: Any
    lines: Mapping[Key, int] = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()
    origins: Mapping[Key, Key] = field(default_factory=dict)

    def line_of(self, key: Key) -> int | None:
        """The line of a key, or of the nearest mapping around one that is absent."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key)

    def placed(self, mistakes: Iterable[KeyMistake], *, hides: bool = True) -> list[Mistake]:
        """Mistakes with their lines; see `Mistake` for ``hides``."""
        return [
            Mistake(key, self.line_of(key), found, expected, near, hides=hides)
            for key, found, expected, near in mistakes
        ]


def no_mapping(document: YamlDocument, what: str) -> list[Mistake]:
    """What is wrong with a document that has no keys; nothing of one that has.

    Args:
        document: What was read.
        what: What it should be.
    """
    if document.values is None:
        return list(document.mistakes) or [Mistake((), 1, "an empty file", what)]
    if not isinstance(document.values, dict):
        return [*document.mistakes, Mistake((), 1, shown(document.values), "a mapping")]
    return []


def read_document(text: str, what: str = "a document", *, aliases: bool = False) -> YamlDocument:
    """The values of a YAML text.

    Args:
        text: One YAML document.
        what: What it should be, for the errors: ``a recipe``.
        aliases: Whether a value may stand in several places by its name, and be merged into a mapping.

    Returns:
        The values, with None in the place of each that is wrong; after a syntax error no values at all.
    """
    directive = next((number for number, line in enumerate(text.splitlines(), 1) if line.startswith("%")), None)
    if directive is not None:
        return _broken(directive, "a directive", f"{what} in YAML 1.2 without directives")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ReusedAnchorWarning)
            root = YAML(typ="safe", pure=True).compose(text)
    except ReusedAnchorWarning as error:
        lines = re.findall(r"\(line: (\d+)\)", str(error))
        return _broken(int(lines[-1]) if lines else None, "an anchor of a name that is taken", "each name once")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        found = " ".join(part for part in (error.problem, error.context) if part)
        if "'\\t'" in found and mark is not None:
            return _broken(mark.line + 1, "a tab", "spaces: YAML takes no tab for indentation")
        return _broken(None if mark is None else mark.line + 1, f"no YAML ({found})", f"{what} in YAML 1.2")
    except ReaderError as error:  # a character that YAML does not allow; this is the first one
        number = error.character if isinstance(error.character, int) else ord(error.character)
        line = text.count("\n", 0, text.find(chr(number))) + 1
        return _broken(line, f"the character U+{number:04X}, which YAML does not allow", f"{what} in YAML 1.2")
    except YAMLError as error:
        return _broken(None, f"no YAML ({' '.join(str(error).split())})", f"{what} in YAML 1.2")
    except RecursionError:
        return _broken(_deep_line(text), _TOO_DEEP, what)
    walk = _Walk(aliases=aliases)
    try:
        values = None if root is None else walk.value(root, ())
    except _CopiesError as error:
        found = f"aliases that come to more than {_MOST_COPIED:,} values"
        return _broken(error.line, found, f"{what} that does not multiply itself")
    return YamlDocument(values, walk.lines, tuple(walk.mistakes), walk.origins)


def _broken(line: int | None, found: str, expected: str) -> YamlDocument:
    return YamlDocument(None, {}, (Mistake((), line, found, expected),))


def _deep_line(text: str) -> int | None:
    """The line in which lists and mappings become too deep; of a text in which composing them ran out of calls."""
    depth = 0
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > _DEEPEST:
                return int(event.start_mark.line) + 1
    except YAMLError:
        pass
    return None


class _CopiesError(Exception):
    """Aliases multiply each other.

    Args:
        line: Of the alias that is one too many.
    """

    def __init__(self, line: int) -> None:
        self.line = line


class _Walk:
    """Goes through the nodes, through one with aliases again for each: values, lines and mistakes.

    Its methods are given the nodes around, from the outermost in, and the line of the outermost alias among them.
    """

    def __init__(self, *, aliases: bool) -> None:
        self._aliases = aliases
        self.lines: dict[Key, int] = {}
        self.mistakes: list[Mistake] = []
        self.origins: dict[Key, Key] = {}
        self._places: dict[int, Key] = {}  # where a node with an anchor stands, by its identity
        self._copied = 0

    def value(self, node: Node, key: Key, around: tuple[int, ...] = (), alias: int | None = None) -> Any:
        again = id(node) in self._places
        # An item of a list that is an alias has no line of its own here: the list's is reported, not the anchor's.
        line = self.lines.setdefault(key, self.lines[key[:-1]] if again else node.start_mark.line + 1)
        if node.anchor is not None and not self._aliases:
            return self._refuse(node, key, "an anchor", "the value written out wherever it is needed")
        if id(node) in around:
            found = "an alias of a value that it stands in"
            self.mistakes.append(Mistake(key, line, found, "an alias of another value"))
            return None
        if again:
            alias = alias or line
            self.origins.setdefault(key, self._places[id(node)])
        elif node.anchor is not None:
            self._places[id(node)] = key
        if alias is not None:
            self._copied += 1
            if self._copied > _MOST_COPIED:
                raise _CopiesError(alias)
        around, tag = (*around, id(node)), str(node.tag)
        if isinstance(node, ScalarNode):
            return self._scalar(node, key, tag)
        if tag not in _CONTAINERS:
            return self._refuse(node, key, f"the tag {_short(tag)}", "plain values without tags")
        if len(around) > _DEEPEST:
            return self._refuse(node, key, _TOO_DEEP, f"at most {_DEEPEST} levels")
        if isinstance(node, SequenceNode):
            return [self.value(item, (*key, number), around, alias) for number, item in enumerate(node.value)]
        assert isinstance(node, MappingNode)
        return self._mapping(node, key, around, alias)

    def _mapping(self, node: MappingNode, key: Key, around: tuple[int, ...], alias: int | None) -> dict[str, Any]:
        merges = [(name, item) for name, item in node.value if self._aliases and str(name.tag) == _MERGE]
        merged = self._merged(merges, key, around, alias)  # first: a line of the mapping's own is the one to tell
        values: dict[str, Any] = {}
        for name_node, item in node.value:
            name = name_node.value
            if self._aliases and str(name_node.tag) == _MERGE:
                continue
            if not isinstance(name_node, ScalarNode) or str(name_node.tag) not in _TEXTS:
                # The other keys of the mapping are read.
                self._refuse(name_node, key, "a key that is no text", "texts as keys", hides=False)
                continue
            inner = (*key, name)
            if name in values:
                first = self.lines[inner]
                self._refuse(name_node, inner, "the key a second time", f"each key once (it is in line {first} too)")
                continue
            self.lines[inner] = name_node.start_mark.line + 1
            self.origins.pop(inner, None)
            values[name] = self.value(item, inner, around, alias)
        return {**merged, **values}

    def _merged(
        self, merges: Sequence[tuple[Node, Node]], key: Key, around: tuple[int, ...], alias: int | None
    ) -> dict[str, Any]:
        """What merge keys put into a mapping; of two of the same name the first counts."""
        found: dict[str, Any] = {}
        for number, (name_node, item) in enumerate(merges):
            parts = item.value if isinstance(item, SequenceNode) else [item]
            if number or not all(isinstance(part, MappingNode) for part in parts):
                what = "a second <<" if number else "<< of something else than a mapping"
                self._refuse(name_node, key, what, "one << with a mapping, or a list of mappings", hides=False)
                continue
            for part in parts:
                values = self.value(part, key, around, alias) or {}
                origin = self.origins.pop(key, None)  # of the mapping's parts, not of all of it
                for name in values:
                    if origin is not None and name not in found:
                        self.origins[*key, name] = (*origin, name)
                found = {**values, **found}
        return found

    def _scalar(self, node: ScalarNode, key: Key, tag: str) -> Any:
        text = node.value
        if tag in _TEXTS:
            return text
        if tag in _WORDS and text.lower() in _MEANINGS:
            return _MEANINGS[text.lower()]
        if tag not in _NUMBERS:
            return self._refuse(node, key, f"the tag {_short(tag)}", "plain values without tags")
        try:
            value = _number(text, whole=tag.endswith("int"))
        except ValueError:
            return self._refuse(node, key, f"{shown(text)} with the tag {_short(tag)}", "a number")
        if isinstance(value, float) and not math.isfinite(value):
            return self._refuse(node, key, text, "a finite number")
        if abs(value) > sys.float_info.max:  # the largest that a division takes
            return self._refuse(node, key, cut(text), "a number of at most 308 digits")
        return value

    def _refuse(self, node: Node, key: Key, found: str, expected: str, *, hides: bool = True) -> None:
        self.mistakes.append(Mistake(key, node.start_mark.line + 1, found, expected, hides=hides))


def _number(text: str, *, whole: bool) -> int | float:
    plain = text.replace("_", "")
    if not whole:
        return float(plain.lower().replace(".inf", "inf").replace(".nan", "nan"))
    sign, digits = (plain[0], plain[1:]) if plain[0] in "+-" else ("", plain)
    base = {"0x": 16, "0o": 8}.get(digits[:2], 10)
    return int(sign + digits, base)


def _short(tag: str) -> str:
    return tag.replace(_TAG, "!!")
