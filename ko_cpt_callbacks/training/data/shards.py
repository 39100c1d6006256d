"""Documents of a source, filtered and encoded: in parts that workers make, kept on disk until the rows are whole.

A shard is so many documents in the order of the source, by whichever worker. So the rows are the same for any number of
workers, and what was made before a kill is read again and not made again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.run.file import write_whole
from ko_cpt_callbacks.training.data.encode import Document, cut
from ko_cpt_callbacks.training.data.filters import (
    EXAMPLE_CHARACTERS,
    DroppedExample,
    Filter,
    FilterReport,
    keep_documents,
)
from ko_cpt_callbacks.training.data.sketch import Sketches, sketch
from ko_cpt_callbacks.training.data.words import Ids, WordEncoder
from ko_cpt_callbacks.workers import Workers

_FIRST_CHARACTERS, _SHARD_CHARACTERS = 100_000, 1_600_000
"""Characters of a shard: the first is small, where a corpus may not be read on, the next twice as large, up to some
seconds of work. Chosen, not measured."""
_BATCH_CHARACTERS: Final = 2_000_000
_FIRST_DOCUMENTS, _BATCH_DOCUMENTS = 256, 4096
_LARGEST: Final = 2_000_000_000
"""Bytes of a document with its prompt: Arrow counts the bytes and the ids of a part in 32 bits, and would go round."""

Column = npt.NDArray[np.int64]
_NOTHING: Final = np.empty(0, dtype=np.int32)


class Encoded(NamedTuple):
    """Ids of a document with its marks, how many of them are no targets, the bytes of its text, and where it stood."""

    ids: Ids
    prompt: int
    size: int
    file: str
    number: int


class ShardPart(NamedTuple):
    """What a shard is made of, and where it is put: it can be made in any process that sees the folder.

    Attributes:
        path: Of the shard's file.
        documents: All of it.
    """

    path: Path
    documents: Sequence[Document]


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Encoded documents, and what filters did before.

    Attributes:
        columns: Arrow arrays by name, a value a document, as `ShardMaker` puts them on disk.
        reports: One a filter, over this shard.
    """

    columns: Mapping[str, Any]
    reports: tuple[FilterReport, ...]

    def documents(self, kept: npt.NDArray[np.bool_] | None) -> Iterator[Encoded]:
        """The documents in order: those that are kept, or all."""
        ids = self.columns["ids"].flatten().to_numpy()
        known = (self.columns[name].to_pylist() for name in ("prompt", "size", "file", "number"))
        for place, ((begin, end), *others) in enumerate(zip(pairwise(_ends(self.columns["ids"])), *known, strict=True)):
            if kept is None or kept[place]:
                yield Encoded(ids[begin:end], *others)

    @property
    def sketches(self) -> Sketches | None:
        """Where duplicates are looked for."""
        if "exact" not in self.columns:
            return None
        exact, keys, grams, sample = (self.columns[name] for name in ("exact", "keys", "grams", "sample"))
        rows = keys.flatten().to_numpy().reshape(len(keys), -1 if len(keys) else 1)
        return Sketches(exact.to_numpy(), rows, grams.to_numpy(), sample.flatten().to_numpy(), _ends(sample)[1:])


@dataclass(frozen=True, slots=True, eq=False)
class ShardMaker:
    """Filters and encodes the documents of a shard.

    Attributes:
        filters: Asked in order.
        encoder: Of the tokenizer.
        begin: Ids before each document.
        end: Ids behind it.
        sketched: Whether duplicates are looked for.
    """

    filters: tuple[Filter, ...]
    encoder: WordEncoder
    begin: Ids
    end: Ids
    sketched: bool

    def make(self, part: ShardPart) -> Path:
        """Put the shard of some documents on disk: a digest, and an Arrow stream behind it.

        Returns:
            Where it is.
        """
        content = self._stream(part.documents)
        write_whole(part.path, b"".join((hashlib.sha256(content).digest(), content)))
        return part.path

    def _stream(self, documents: Sequence[Document]) -> pa.Buffer:
        reports = [FilterReport(part.name) for part in self.filters]
        kept = list(keep_documents(documents, self.filters, reports))
        for document in kept:
            if document.size + len(document.prompt.encode()) > _LARGEST:
                raise ConfigurationError(
                    f"document {document.id}: found {document.size:,} bytes, expected at most {_LARGEST:,} with its "
                    "prompt; cut it, or set unit to paragraph or line"
                )
        ids: list[Ids] = []
        for batch in cut(kept, _length, _BATCH_CHARACTERS, _BATCH_DOCUMENTS):
            encoded = self.encoder.encode([document.text for document in batch])
            # Encoded apart, so that no token goes over from the one into the other.
            prompts = [document.prompt for document in batch]
            before = self.encoder.encode(prompts) if any(prompts) else [_NOTHING] * len(batch)
            for first, own in zip(before, encoded, strict=True):
                ids += self.begin, first, own, self.end
        lengths = np.fromiter(map(len, ids), np.int64, len(ids)).reshape(-1, 4)
        columns = {
            "ids": _lists(np.concatenate(ids) if ids else [], lengths.sum(axis=1), pa.int32()),
            "prompt": pa.array(lengths[:, :2].sum(axis=1)),
            "size": pa.array([document.size for document in kept], pa.int64()),
            "number": pa.array([document.number for document in kept], pa.int64()),
            "file": pa.array([document.file for document in kept], pa.string()),
            "id": pa.array([document.id for document in kept], pa.string()),
            "head": pa.array([document.text[:EXAMPLE_CHARACTERS] for document in kept], pa.string()),
        }
        if self.sketched:
            found = sketch([whole_text(document) for document in kept])
            columns |= {
                "exact": pa.array(found.exact),
                "keys": _lists(found.keys.ravel(), np.full(len(kept), found.keys.shape[1]), pa.uint64()),
                "grams": pa.array(found.sizes),
                "sample": _lists(found.sample, np.diff(found.ends, prepend=0), pa.uint32()),
            }
        told = {"reports": json.dumps([asdict(report) for report in reports])}
        table = pa.table(columns).replace_schema_metadata(told)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return sink.getvalue()


def read_shard(path: Path, *, whole: bool) -> Shard | None:
    """A shard from its file, mapped.

    Args:
        path: The file.
        whole: Whether it is known to be: one that was just made.

    Returns:
        None where there is no such file, or it is damaged: Arrow reads zeros as numbers.
    """
    size = hashlib.sha256().digest_size
    if not path.exists() or path.stat().st_size < size:
        return None
    content = pa.memory_map(str(path)).read_buffer()
    if not whole and hashlib.sha256(content[size:]).digest() != content[:size].to_pybytes():
        return None
    with pa.ipc.open_stream(content[size:]) as stream:
        table = stream.read_all()
    reports = []
    for told in json.loads(table.schema.metadata[b"reports"]):
        examples = [DroppedExample(**example) for example in told.pop("examples")]
        reports.append(FilterReport(**told, examples=examples))
    return Shard(dict(zip(table.column_names, map(_whole, table.columns), strict=True)), tuple(reports))


def _ends(lists: Any) -> Column:
    """Where each list begins, and the last one ends."""
    ends: Column = lists.offsets.to_numpy().astype(np.int64)
    return ends


def _whole(column: Any) -> Any:
    # One part is taken as it is, in the mapped file: to combine it would be to copy it.
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def whole_text(document: Document) -> str:
    """What is compared of a document: its prompt too."""
    return f"{document.prompt}\n{document.text}" if document.prompt else document.text


def _lists(values: Any, lengths: Column, kind: Any) -> Any:
    ends = np.concatenate(([0], np.cumsum(lengths)))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(values, kind))


def _length(document: Document) -> int:
    return len(document.prompt) + len(document.text)


def made_shards(
    folder: Path, workers: Workers, name: str, maker: ShardMaker, documents: Iterable[Document]
) -> Iterator[Shard]:
    """The shards of a source by its name, in order; a few are made ahead.

    Args:
        folder: Where they are kept.
        workers: Who makes those that are not there, by the maker.
        documents: All of its documents, also of shards that are there.
    """
    waiting: list[Future[Path] | Shard] = []
    ahead = 0 if workers.count == 1 else workers.count + 1
    for part in shard_parts(folder, documents):
        kept = read_shard(part.path, whole=False)
        if kept is None and ahead:
            maker.encoder.prepare([document.text for document in part.documents])
        waiting.append(kept or workers.submit(name, maker, part))
        if len(waiting) > ahead:
            yield _ready(waiting.pop(0))
    yield from map(_ready, waiting)


def shards_again(folder: Path) -> Iterator[Shard]:
    """The shards of a source once more."""
    for path in sorted(folder.glob("*.arrow")):
        shard = read_shard(path, whole=False)
        if shard is None:
            raise ConfigurationError(
                f"{path}: found a part of the rows that was damaged after it was written, expected it whole; go on "
                "with --resume, which makes it again"
            )
        yield shard


@contextmanager
def shards_of_files(folder: Path, changed: Callable[[], bool]) -> Iterator[None]:
    """While it lasts, shards are made; of files that changed none stays, and nothing is made of them.

    A shard has no digest of its texts: its folder's name is all that says what they were.

    Args:
        folder: Of all shards.
        changed: Whether a file is not what the folder's name says.

    Raises:
        ConfigurationError: If one is not.
    """
    other = True
    try:
        yield
    finally:
        try:
            other = changed()
        finally:
            if other:
                shutil.rmtree(folder, ignore_errors=True)
    if other:
        raise ConfigurationError(
            f"{folder}: found texts that changed while shards were made of them, expected files that stay as they are; "
            "go on with --resume: the shards are made again"
        )


def shard_parts(folder: Path, documents: Iterable[Document]) -> Iterator[ShardPart]:
    """What each shard of a source is made of, in order; of all its documents."""
    parts = cut(documents, _length, _FIRST_CHARACTERS, _FIRST_DOCUMENTS, _SHARD_CHARACTERS)
    return (ShardPart(folder / f"{number:06d}.arrow", part) for number, part in enumerate(parts))


def _ready(made: Future[Path] | Shard) -> Shard:
    if isinstance(made, Shard):
        return made
    path = made.result()
    try:
        shard = read_shard(path, whole=True)
    except (pa.ArrowException, OSError):
        shard = None
    if shard is None:
        found = "a damaged file" if path.exists() else "no file"
        raise ConfigurationError(f"{path}: found {found}, expected what a worker has put there; go on with --resume")
    return shard
