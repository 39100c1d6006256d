"""What is in a file of a corpus, row by row, and where it cannot be read.

Lines, paragraphs, JSON lines and Parquet are read here: ``datasets`` made 4 MB of text a second of them beside 100 of
these (one core), and names no line. CSV and JSON that is one list it still reads.
"""

from __future__ import annotations

import glob
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow.parquet as pq  # type: ignore[import-untyped]
from datasets import Features, Value, load_dataset  # type: ignore[import-untyped]
from fsspec.compression import register_compression  # type: ignore[import-untyped]

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.text_files import (
    BLOCK,
    csv_columns,
    encoding_hint,
    format_of,
    open_unpacked,
    unpack_zstd,
)
from ko_cpt_callbacks.training.hub import said

if TYPE_CHECKING:
    from ko_cpt_callbacks.training.data.sources import Source

_WORDS: Final = {"text": "text in UTF-8", "json": "JSON objects", "csv": "CSV in UTF-8", "parquet": "Parquet"}
_LONGEST: Final = 64_000_000
"""Bytes of a line; chosen, not measured: the longest book is a tenth of it, so that a longer line is no document."""
_ROWS: Final = 1000  # of Parquet at once; chosen, not measured
_LISTED: Final = 100  # bad rows; chosen, not measured


@dataclass(frozen=True, slots=True)
class BadInput:
    """What could not be read, and was left out.

    Attributes:
        file: Its path.
        place: Where in it: ``line 7``, ``row 7``; of a file that breaks off, the last line that was read.
        reason: What is wrong there.
    """

    file: str
    place: str
    reason: str


@dataclass(slots=True)
class BadInputs:
    """What could not be read of a corpus.

    Attributes:
        files: How many rows of each file, and 1 where it breaks off.
        listed: The first of them.
    """

    files: dict[str, int] = field(default_factory=dict)
    listed: list[BadInput] = field(default_factory=list)

    def note(self, bad: BadInput, count: int) -> None:
        """Note the ``count``-th one of a file; a file that is read again counts once."""
        self.files[bad.file] = max(count, self.files.get(bad.file, 0))
        if len(self.listed) < _LISTED and bad not in self.listed:
            self.listed.append(bad)


@dataclass(frozen=True, slots=True)
class _Broken:
    """In the place of a row that is none; those behind it may be.

    Attributes:
        reason: Why.
    """

    reason: str


_Row = Mapping[str, Any] | _Broken
Texts = tuple[str, int, str]
"""A text, its bytes in UTF-8, and its prompt, which is empty where there is none."""


def texts_of(source: Source, row: Mapping[str, Any], column: str, place: str = "") -> tuple[str, str]:
    """The text and the prompt of a row.

    Args:
        source: It says whether there are prompts.
        row: Values by column.
        column: Of the text.
        place: Where the row stands, for the error.

    Raises:
        ConfigurationError: If a column is not there, or holds something else than text.
    """
    found = []
    for name in (column,) if source.prompt is None else (column, source.prompt):
        if name not in row:
            raise source.error(f"no column {name!r}", f"one of {', '.join(sorted(row))}{place}")
        if row[name] is not None and not isinstance(row[name], str):
            raise source.error(f"{type(row[name]).__name__} in column {name!r}", f"text{place}")
        found.append(row[name] or "")
    return found[0], "".join(found[1:])


def read_file(source: Source, path: Path) -> Iterator[Texts]:
    """The rows of a file, blank ones too; one that cannot be read is blank where the source has a list for it.

    Args:
        source: It says what a document is and which columns count.
        path: A file that is not empty.

    Raises:
        ConfigurationError: If something cannot be read, with its place, and the source has no list for it; if the
            file changes while it is read.
    """
    kind = format_of(path)
    assert kind is not None
    before = identity(path)
    column = "text" if kind == "text" else source.column
    number = bad = 0
    try:
        unit, rows = _rows(source, path, kind)
        for number, row in enumerate(rows, start=1):
            good = _good(source, row, column)
            if good is not None:
                yield good
                continue
            place = f"{unit} {number}"
            reason = row.reason if isinstance(row, _Broken) else None
            texts = "", ""
            if not isinstance(row, _Broken):
                try:
                    texts = texts_of(source, row, column, f" ({path}, {place})")
                except ConfigurationError as error:
                    if source.bad is None:
                        raise
                    reason = said(error)
                reason = reason or _wrong(texts[0]) or _wrong(texts[1])
            if reason is not None:
                bad += 1
                _note(source, path, kind, place, reason, bad)
                texts = "", ""
            yield texts[0], len(texts[0].encode()), texts[1]
    except ConfigurationError:
        raise
    except Exception as error:  # of the libraries below, each of its own class
        place = f"after {unit} {number}" if number else ""
        _note(source, path, kind, place, f"{type(error).__name__}: {said(error)}", bad + 1)
    if identity(path) != before:
        raise source.error(f"{path}, which changed while it was read", "a file that stays as it is; start again")


def _good(source: Source, row: _Row, column: str) -> Texts | None:
    """What is in a row that nothing is wrong with, as most are; None of another, which is looked at with its place."""
    if isinstance(row, _Broken):
        return None
    text, prompt = row.get(column), "" if source.prompt is None else row.get(source.prompt)
    if not isinstance(text, str) or not isinstance(prompt, str) or "\0" in text or "\0" in prompt:
        return None
    try:
        prompt.encode()
        return text, len(text.encode()), prompt
    except UnicodeEncodeError:
        return None


def _note(source: Source, path: Path, kind: str, place: str, reason: str, count: int) -> None:
    """What becomes of what cannot be read: an entry of the source's list, or an error."""
    if source.bad is not None:
        source.bad.note(BadInput(str(path), place, reason), count)
        return
    found = f"{path}, which cannot be read as {_WORDS[kind]} ({place}{place and ': '}{reason})"
    hint = None if kind == "parquet" else encoding_hint(path)
    raise source.error(found, f"{_WORDS[kind]} from beginning to end" + ("" if hint is None else f"; {hint}"))


def _wrong(text: str) -> str | None:
    if "\0" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # What is no UTF-8 was read as these.
        return "no UTF-8" if "\udc80" <= text[error.start] <= "\udcff" else "half of a surrogate pair"
    return None


def identity(path: Path) -> tuple[int, ...]:
    """What changes with a file's content; empty where there is no such file."""
    try:
        now = path.stat()
    except OSError:
        return ()
    return now.st_ino, now.st_size, now.st_mtime_ns


def _rows(source: Source, path: Path, kind: str) -> tuple[str, Iterator[_Row]]:
    """What a row is called in this file, and its rows."""
    if kind == "text":
        return source.unit, _text_rows(source, path)
    if kind == "parquet":
        return "row", _parquet_rows(source, path)
    if kind == "json" and ".jsonl" in path.suffixes and not _is_list(path):
        return "line", _json_rows(path)
    return "row", _other_rows(path, kind)


def _lines(path: Path) -> Iterator[str | _Broken]:
    """Lines with their ends, however they are ended; bytes that are no UTF-8 as halves of surrogate pairs."""
    with open_unpacked(path) as binary, io.TextIOWrapper(binary, "utf-8", "surrogateescape") as file:
        while line := file.readline(_LONGEST + 1):
            if len(line) <= _LONGEST:
                yield line
                continue
            while line and not line.endswith("\n"):
                line = file.readline(_LONGEST)
            yield _Broken(f"a line of more than {_LONGEST:,} characters")


def _text_rows(source: Source, path: Path) -> Iterator[_Row]:
    """Lines, paragraphs up to a blank line, or the whole file."""
    parts: list[str] = []
    for line in _lines(path):
        if isinstance(line, _Broken):
            yield line
        elif source.unit == "line":
            yield {"text": line.removesuffix("\n")}
        elif source.unit == "paragraph" and line == "\n" and parts and parts[-1].endswith("\n"):
            text = "".join(parts)[:-1]
            if text:
                yield {"text": text}
            parts = []
        else:
            parts.append(line)
    if parts:
        yield {"text": "".join(parts)}


def _json_rows(path: Path) -> Iterator[_Row]:
    """A JSON object a line; a blank line is none. A column that a row before had is empty where it is missing."""
    before: dict[str, Any] = {}
    for line in _lines(path):
        if isinstance(line, _Broken):
            yield line
            continue
        try:
            row = json.loads(line.removeprefix("\ufeff"))
        except (ValueError, RecursionError) as error:
            if not line.isspace():
                yield _Broken(said(error))
            continue
        if not isinstance(row, dict):
            yield _Broken(f"{type(row).__name__}, no object")
            continue
        if not before:
            before = dict.fromkeys(row)
        yield row if row.keys() >= before.keys() else {**before, **row}


def _is_list(path: Path) -> bool:
    """Whether a file of JSON is one list."""
    with open_unpacked(path) as file:
        return file.read(BLOCK).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["


def _parquet_rows(source: Source, path: Path) -> Iterator[_Row]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        wanted = [name for name in (source.column, source.prompt) if name in names]
        if len(wanted) < (1 if source.prompt is None else 2):
            yield dict.fromkeys(names)  # which says what is missing, and what there is
            return
        for batch in file.iter_batches(_ROWS, columns=wanted):
            yield from batch.to_pylist()


def _other_rows(path: Path, kind: str) -> Iterator[_Row]:
    """By ``datasets``."""
    # fsspec knows .zst only beside a library that is not among our dependencies, and of a file with several frames
    # (what `pzstd` and appending write) it then gives the first one, without a word.
    register_compression("zstd", unpack_zstd, "zst", force=True)
    options = {}
    if kind == "csv":
        with open_unpacked(path) as file:
            names = csv_columns(file.read(BLOCK))
        # A text stays one: "12" is no number, and "NA" is not nothing.
        options = {"features": Features({name: Value("string") for name in names}), "keep_default_na": False}
    # Escaped: it is taken for a pattern, and a name with brackets in it would be another file's, or no file's.
    yield from load_dataset(kind, data_files=[glob.escape(str(path))], split="train", streaming=True, **options)
