"""What is local of a recipe, looked at before anything is loaded: the base's folder, text files, encodings, fields.

The beginning of each file is read, no more. What is on the hub, and what cannot be read without a library that is not
installed, is named as not looked at.
"""

from __future__ import annotations

import json
import lzma
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ko_cpt_callbacks.errors import near_miss
from ko_cpt_callbacks.recipe.reading import RecipeFile
from ko_cpt_callbacks.recipe.schema import Source
from ko_cpt_callbacks.recipe.text_files import (
    BLOCK,
    NAMES,
    PACKED,
    convert,
    csv_columns,
    files_of,
    format_of,
    is_hidden,
    is_utf8,
    likely_encoding,
    open_unpacked,
)
from ko_cpt_callbacks.yaml.mistake import Key, cut, shown
from ko_cpt_callbacks.yaml.reading import KeyMistake, at, mapping

_LONG_HEAD: Final = 1 << 22
"""Bytes that are looked at where the first row is longer; chosen, not measured."""

_ROWS: Final = 20
"""Rows of a file that are looked at; chosen, not measured."""

_FILES: Final = 200
"""Files of a source that are looked at; chosen, not measured: with packed ones a second or two."""

_USUAL: Final = ("text", "content", "body", "document", "raw_content")
"""What corpora call their text."""

_REPORTED: Final = 5  # files of a source that are reported
_ERRORS: Final = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)  # pyarrow's are ValueErrors and OSErrors


@dataclass
class TextLook:
    """What was seen of a recipe's texts.

    Attributes:
        mistakes: What no training can read.
        unseen: What was not looked at, and why.
    """

    mistakes: list[KeyMistake] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)


def look_at_texts(file: RecipeFile) -> TextLook:
    """Look at the files that a recipe names, as far as they are here."""
    return _look(file.path.parent, file.recipe.base.model, file.recipe.data.sources)


def text_mistakes(values: Any, folder: Path) -> list[KeyMistake]:
    """The same of a recipe with other mistakes, by its raw values and its folder: of the sources that can be read."""
    sources: dict[str, Source] = {}
    for name, given in mapping(values, "data", "sources").items():
        with suppress(ValidationError):  # reported elsewhere
            sources[name] = Source.model_validate(given)
    model = at(values, "base", "model")
    return _look(folder, model if isinstance(model, str) and model else None, sources).mistakes


def _look(folder: Path, model: str | None, sources: Mapping[str, Source]) -> TextLook:
    look = TextLook()
    look.mistakes.extend(_base(folder, model))
    for name, source in sources.items():
        key: Key = ("data", "sources", name)
        if source.hub is not None:
            look.unseen.append(f"{source.hub} (on the hub)")
        found = list(_source(folder, key, source, look))
        look.mistakes.extend(found[:_REPORTED])
    return look


def _base(folder: Path, model: str | None) -> Iterator[KeyMistake]:
    """A base that can only be a folder is one."""
    if model is None or (model[0] not in "./~" and model.count("/") < 2):
        return
    places = (folder / model, Path(model))
    if not any(place.is_dir() for place in places):
        _, _, near = _absent(places[0])
        yield ("base", "model"), f"no folder {model}", "one that is there, or owner/name of the hub", near


def _source(folder: Path, key: Key, source: Source, look: TextLook) -> Iterator[KeyMistake]:
    looked = 0
    for number, pattern in enumerate(source.patterns):
        place = (*key, "files") if isinstance(source.files, str) else (*key, "files", number)
        found = files_of(folder / pattern)
        if not found:
            yield place, *_absent(folder / pattern)
        elif (folder / pattern).is_dir():
            look.unseen.extend(_left_out(folder / pattern, found))
        for path in found:
            if format_of(path) is None:
                yield place, f"{path}", f"a name that ends in {NAMES}", None
                continue
            looked += 1
            if looked <= _FILES:
                yield from _file(place, key, source, path, look)
    if looked > _FILES:
        look.unseen.append(f"{looked - _FILES:,} of {looked:,} files of data.sources.{key[-1]}")


def _left_out(place: Path, found: Sequence[Path]) -> Iterator[str]:
    """What is in a folder and is not read, because its name says no known format."""
    rest = {path for path in place.rglob("*") if path.is_file() and not is_hidden(path, place)} - set(found)
    if rest:
        endings = ", ".join(sorted({path.suffix or path.name for path in rest}))
        yield f"{len(rest):,} files in {place}, which are not read ({cut(endings)})"


def _absent(place: Path) -> tuple[str, str, str | None]:
    """What is reported of a path or pattern that fits nothing."""
    if place.is_dir():
        return f"no text file in the folder {place}", f"files that end in {NAMES}", None
    try:
        names = sorted(os.listdir(place.parent))
    except OSError:
        return f"no file {place}", "one or more", None
    near = near_miss(place.name, names)
    return f"no file {place}", "one or more", None if near is None else str(place.parent / near)


def _file(place: Key, key: Key, source: Source, path: Path, look: TextLook) -> Iterator[KeyMistake]:
    kind = format_of(path)
    try:
        if not path.stat().st_size:
            return  # it has no documents, whatever its kind
        if kind == "parquet":
            yield from _columns(key, source, path, _parquet_names(path), "columns")
            return
        head, more = _head(path, BLOCK)
        if kind != "text" and more and b"\n" not in head:
            head, more = _head(path, _LONG_HEAD)
    except ImportError:
        look.unseen.append(f"{path} (pyarrow is not installed: pip install pyarrow)")
        return
    except _ERRORS as error:
        words = {"parquet": "Parquet"}.get(str(kind), f"a file packed by {PACKED.get(path.suffix, '')}")
        expected = words if kind == "parquet" or path.suffix in PACKED else "a file that can be read"
        yield place, f"{path}, which cannot be opened ({cut(' '.join(str(error).split()))})", expected, None
        return
    if not is_utf8(head, cut=more):
        expected = f"text in UTF-8; {convert(path, likely_encoding(head))}"
        yield place, f"{path}, which is not in UTF-8", expected, None
    elif kind == "csv":
        names = csv_columns(head)
        if names:
            yield from _columns(key, source, path, names, "columns")
    elif kind == "json":
        yield from _json(place, key, source, path, head, more=more)


def _head(path: Path, size: int) -> tuple[bytes, bool]:
    """The first bytes of what is in a file, and whether more follow."""
    with open_unpacked(path) as file:
        found = file.read(size + 1)
    return found[:size], len(found) > size


def _parquet_names(path: Path) -> Sequence[str]:
    import pyarrow.parquet  # type: ignore[import-untyped]

    found: list[str] = pyarrow.parquet.read_schema(path).names
    return found


def _json(place: Key, key: Key, source: Source, path: Path, head: bytes, *, more: bool) -> Iterator[KeyMistake]:
    text = head.decode("utf-8-sig", "ignore")
    rows: list[Any] = []
    whole = ".json" in path.suffixes[-2:]  # it may be one list, or an object over several lines
    if whole and text.lstrip()[:1] == "[":
        rows = _rows_of_array(text)
    else:
        lines = text.split("\n")
        for number, line in enumerate(lines[:-1] if more else lines, start=1):
            if len(rows) >= _ROWS:
                break
            if not line.strip():
                continue
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                if whole:
                    return  # what is in it is not looked at
                yield place, f"{path}, line {number} of which is no JSON ({error})", "an object a line", None
                return
    if any(not isinstance(row, dict) for row in rows):
        yield place, f"{path}, whose rows are no JSON objects", f'objects such as {{"{source.field}": "…"}}', None
    elif rows:
        names = list(dict.fromkeys(name for row in rows for name in row))
        yield from _columns(key, source, path, names, "fields")
        for name in {source.field: 0, source.prompt: 0}:
            values = [row.get(name) for row in rows]
            wrong = next((value for value in values if value is not None and not isinstance(value, str)), None)
            if wrong is not None:
                found = f"{shown(wrong)} in {name!r} of {path}"
                yield (*key, "field" if name == source.field else "prompt"), found, "text", None


def _rows_of_array(text: str) -> list[Any]:
    """The first objects of a JSON list, of which the end may be cut off."""
    decoder, place = json.JSONDecoder(), text.find("[") + 1
    rows: list[Any] = []
    while len(rows) < _ROWS:
        place += len(text[place:]) - len(text[place:].lstrip(" \t\r\n,"))
        try:
            row, place = decoder.raw_decode(text, place)
        except ValueError:
            break
        rows.append(row)
    return rows


def _columns(key: Key, source: Source, path: Path, names: Sequence[str], what: str) -> Iterator[KeyMistake]:
    """The fields that the recipe names are among those of a file."""
    for name, part in ((source.field, "field"), (source.prompt, "prompt")):
        if name is not None and name not in names:
            found = f"{name!r}, which {path} does not have"
            near = near_miss(name, names) or (names[0] if len(names) == 1 else None)
            near = near or next((usual for usual in _USUAL if part == "field" and usual in names), None)
            yield (*key, part), found, f"one of its {what} ({cut(', '.join(map(str, names)))})", near
