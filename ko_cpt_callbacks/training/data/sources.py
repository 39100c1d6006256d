"""Documents from files, from the package or from the hub, one after the other: a corpus is never held in memory.

Read by ``datasets`` as a stream, in the order of the files and of what is in them. Nothing is shuffled here: rows
are, by the Trainer, once they are packed.
"""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Literal

from datasets import Features, Value, load_dataset  # type: ignore[import-untyped]
from fsspec.compression import register_compression  # type: ignore[import-untyped]

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.bundle import bundled_text
from ko_cpt_callbacks.recipe.text_files import (
    BLOCK,
    NAMES,
    csv_columns,
    encoding_hint,
    format_of,
    open_unpacked,
    unpack_zstd,
)
from ko_cpt_callbacks.training.data.encode import Document
from ko_cpt_callbacks.training.data.filters import Filter
from ko_cpt_callbacks.training.hub import hub_rows, said

# Where an article of a declaration or a statute begins.
_ARTICLE: Final = re.compile(r"Article \d+$|제 ?\d+ ?조")


@dataclass(frozen=True, slots=True)
class Piece:
    """A text that stays in one part: a story, an article with its paragraphs.

    Attributes:
        id: Unique within its file.
        text: What it says.
    """

    id: str
    text: str

    @property
    def size(self) -> int:
        """UTF-8 bytes."""
        return len(self.text.encode())


@dataclass(frozen=True, slots=True)
class Split:
    """The pieces of a source: what is trained on, and what is not."""

    train: tuple[Piece, ...]
    held_out: tuple[Piece, ...]


def read_pieces(name: str) -> tuple[Piece, ...]:
    """The pieces of a bundled text, in its order.

    Args:
        name: The file's name; ``.jsonl`` has a piece a line, another is cut before every article.
    """
    text = bundled_text(name)
    if name.endswith(".jsonl"):
        entries = [json.loads(line) for line in text.splitlines() if line]
        return tuple(Piece(entry["id"], entry["text"]) for entry in entries)
    # Without the language, so that translations of one text are held out together.
    work = name.partition("_")[2].rpartition(".")[0]
    parts: list[list[str]] = [[]]
    for line in filter(None, text.splitlines()):
        if _ARTICLE.match(line):
            parts.append([])
        parts[-1].append(line)
    return tuple(Piece(f"{work}-{number:03}", "\n".join(lines)) for number, lines in enumerate(parts) if lines)


def split_pieces(pieces: Sequence[Piece], held_out: float) -> Split:
    """Hold whole pieces out, in an order that only their ids decide.

    Args:
        pieces: All pieces of a file.
        held_out: The least share to hold out, of the bytes and of the pieces; between 0 and 1.
    """
    bytes_wanted = held_out * sum(piece.size for piece in pieces)
    pieces_wanted = held_out * len(pieces)
    chosen: set[str] = set()
    size = 0
    for piece in sorted(pieces, key=_rank):
        if size >= bytes_wanted and len(chosen) >= pieces_wanted:
            break
        chosen.add(piece.id)
        size += piece.size
    return Split(
        tuple(piece for piece in pieces if piece.id not in chosen),
        tuple(piece for piece in pieces if piece.id in chosen),
    )


def is_held_out(text: str, share: float) -> bool:
    """Whether a text of a large corpus is held out: a hash of it decides, so that nothing has to be counted before.

    Args:
        text: All of it.
        share: Of all texts; from 0 to 1. Of few texts it may be rather more or less.
    """
    return int.from_bytes(_text_digest(text)[:8]) < share * 2**64


def _text_digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _rank(piece: Piece) -> bytes:
    return hashlib.sha256(piece.id.encode()).digest()


Unit = Literal["line", "paragraph", "file"]
Part = Literal["all", "train", "held-out"]
_WORDS: Final = {"text": "text in UTF-8", "json": "JSON objects", "csv": "CSV in UTF-8", "parquet": "Parquet"}
_SAMPLE_BY: Final = {"line": "line", "paragraph": "paragraph", "file": "document"}


@dataclass(frozen=True, slots=True)
class Source:
    """Where documents come from: files, texts of the package, or a data set of the hub.

    Attributes:
        name: Short, in reports and in the ids of documents.
        files: ``.txt``, ``.jsonl``, ``.json``, ``.csv`` or ``.parquet``, also packed as ``.gz``, ``.zst``, ``.xz``,
            ``.bz2``.
        bundled: Names of texts of the package instead; a document is a story, or an article with its paragraphs.
        hub: The id of a data set instead; it is read over the network, as a stream.
        config: That data set's configuration; None for its only one.
        revision: That data set's commit, 40 hex digits: a branch would be another corpus tomorrow.
        split: That data set's split.
        column: Where the text is, in everything but ``.txt``.
        unit: What a document is in a ``.txt``: a line, a paragraph (up to a blank line), the file.
        passes: How often the source is read, from its beginning each time.
        filters: What its documents must pass, in order.
        held_out: Share of the documents that is never trained on.
        part: Which documents: all, those to train on, or those held out. A hash of the text decides (of bundled
            texts the id, so that translations are held out together): the same on every machine, and a text that
            stands there twice is on one side.
        limit: Documents at most; None for all. Of files and bundled texts they are drawn from all there are, by their
            hash; of a data set of the hub, which is not read to its end for it, they are the first.
        prompt: The column of what stands before the text and is not learned; None where there is none. In a bundled
            text, which has no columns, the first half stands for it: to try a recipe out.
    """

    name: str
    files: tuple[Path, ...] = ()
    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    split: str = "train"
    column: str = "text"
    unit: Unit = "line"
    passes: int = 1
    filters: tuple[Filter, ...] = ()
    bundled: tuple[str, ...] = ()
    held_out: float = 0.0
    part: Part = "all"
    limit: int | None = None
    prompt: str | None = None

    def __post_init__(self) -> None:
        if self.bundled and (self.files or self.hub):
            raise self.error("bundled texts beside files or a hub id", "one of them")
        if bool(self.files) == bool(self.hub) and not self.bundled:
            raise self.error("both files and a hub id" if self.files else "no files and no hub id", "one of them")
        if self.hub and self.hub.count("/") != 1:
            # Without an owner it could be the name of a format, and files of this folder would be read.
            raise self.error(f"the hub id {self.hub!r}", "owner/name")
        if self.hub and not _is_commit(self.revision):
            raise self.error(f"revision {self.revision!r}", "the commit of the data set, 40 hex digits")
        if self.unit not in _SAMPLE_BY:
            raise self.error(f"the unit {self.unit!r}", f"one of {', '.join(_SAMPLE_BY)}")
        if self.passes < 1:
            raise self.error(f"{self.passes} passes", "1 or more")
        for path in self.files:
            if format_of(path) is None:
                raise self.error(f"{path}", f"a file that ends in {NAMES}")

    def error(self, found: str, expected: str) -> ConfigurationError:
        """What is wrong with this source."""
        return ConfigurationError(f"source {self.name}: found {found}, expected {expected}")


def read_documents(source: Source) -> Iterator[Document]:
    """The documents of a source, once through; blank ones are left out.

    Raises:
        ConfigurationError: If a file, what is wanted of the hub or the column is not there, or it holds something
            else than text; if the hub does not answer, after it was asked again and again.
    """
    found = _bundled(source) if source.bundled else _parted(source, _read(source))
    if source.limit is not None:
        found = islice(found, source.limit) if source.hub else _drawn(found, source.limit)
    for number, document in enumerate(found):
        yield replace(document, number=number)


def source_key(source: Source) -> dict[str, Any]:
    """What decides which documents a source gives: two sources of the same key give the same.

    Files are named by what is in them, so that a moved file is the same and a changed one is not.
    """
    return {
        "name": source.name,
        "files": [[format_of(path), _digest(source, path)] for path in source.files],
        "bundled": [[name, hashlib.sha256(bundled_text(name).encode()).hexdigest()] for name in source.bundled],
        "hub": [source.hub, source.config, source.revision, source.split],
        "column": [source.prompt, source.column],
        "unit": source.unit,
        "passes": source.passes,
        "filters": [[part.name, part.settings()] for part in source.filters],
        "part": [source.part, source.held_out, source.limit],
    }


def _drawn(documents: Iterable[Document], count: int) -> Iterator[Document]:
    """Some of the documents, in their order: those with the lowest hashes, so that each has the same chance.

    The first ones would be those of the first file alone.
    """
    lowest = nsmallest(count, enumerate(documents), key=lambda item: (_digest_of(item[1]), item[0]))
    for _, document in sorted(lowest, key=itemgetter(0)):
        yield document


def _digest_of(document: Document) -> bytes:
    return _text_digest(document.prompt + document.text)


def _bundled(source: Source) -> Iterator[Document]:
    for name in source.bundled:
        pieces = read_pieces(name)
        split = split_pieces(pieces, source.held_out)
        wanted = {"all": pieces, "train": split.train, "held-out": split.held_out}[source.part]
        for piece in wanted:
            half = len(piece.text) // 2 if source.prompt else 0
            yield Document(f"{source.name}/{piece.id}", piece.text[half:], piece.text[:half], name)


def _parted(source: Source, documents: Iterable[Document]) -> Iterator[Document]:
    for document in documents:
        # The prompt belongs to it: one question with two answers is on one side too.
        out = is_held_out(document.prompt or document.text, source.held_out)
        if source.part == "all" or out == (source.part == "held-out"):
            yield document


def _read(source: Source) -> Iterator[Document]:
    place = 0
    for file, rows, column in _streams(source):
        for row in rows:
            text = _text(source, row, column)
            prompt = "" if source.prompt is None else _text(source, row, source.prompt)
            if text and not text.isspace():
                yield Document(f"{source.name}/{place}", text, prompt, file)
            place += 1


def _text(source: Source, row: dict[str, Any], column: str) -> str:
    if column not in row:
        raise source.error(f"no column {column!r}", f"one of {', '.join(sorted(row))}")
    text = row[column]
    if text is not None and not isinstance(text, str):
        raise source.error(f"{type(text).__name__} in column {column!r}", "text")
    return text or ""


def _streams(source: Source) -> Iterator[tuple[str, Iterable[dict[str, Any]], str]]:
    """The source file after file: its name, its rows, and the column that has the text."""
    if source.hub:
        yield "", hub_rows(source), source.column
        return
    for path in source.files:
        kind = format_of(path)
        assert kind is not None
        if not path.is_file():
            raise source.error(f"no file {path}", "a file that can be read")
        if path.stat().st_size:
            column = "text" if kind == "text" else source.column
            yield f"{path.parent.name}/{path.name}", _file_rows(source, path, kind), column


def _file_rows(source: Source, path: Path, kind: str) -> Iterator[dict[str, Any]]:
    try:
        _read_whole_zstd()
        options = _options(source, path, kind)
        # Escaped: it is taken for a pattern, and a name with brackets in it would be another file's, or no file's.
        name = glob.escape(str(path))
        yield from load_dataset(kind, data_files=[name], split="train", streaming=True, **options)
    except Exception as error:  # of the libraries below, each of its own class
        found = f"{path}, which cannot be read as {_WORDS[kind]} ({type(error).__name__}: {said(error)})"
        hint = None if kind == "parquet" else encoding_hint(path)
        expected = f"{_WORDS[kind]} from beginning to end" + ("" if hint is None else f"; {hint}")
        raise source.error(found, expected) from error


def _options(source: Source, path: Path, kind: str) -> dict[str, Any]:
    """What ``datasets`` is told about a file of a kind."""
    if kind == "text":
        return {"sample_by": _SAMPLE_BY[source.unit]}
    if kind != "csv":
        return {}
    with open_unpacked(path) as file:
        names = csv_columns(file.read(BLOCK))
    # A text stays one: "12" is no number, and "NA" is not nothing.
    return {"features": Features({name: Value("string") for name in names}), "keep_default_na": False}


def _read_whole_zstd() -> None:
    """Let what reads files below read ``.zst`` to the end, with what is installed.

    fsspec knows it only beside a library that is not among our dependencies, and of a file with several frames (what
    `pzstd` and appending write) it then gives the first one, without a word.
    """
    register_compression("zstd", unpack_zstd, "zst", force=True)


def _digest(source: Source, path: Path) -> str:
    if not path.is_file():  # a pipe would be waited for
        raise source.error(f"no file {path}", "a file that can be read")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise source.error(f"{path} ({error.strerror})", "a file that can be read") from None


def _is_commit(revision: str | None) -> bool:
    return revision is not None and len(revision) == 40 and set(revision) <= set("0123456789abcdef")
