"""Documents of a source, filtered and encoded: in parts that workers make, kept on disk until the rows are whole.

A shard is so many documents in the order of the source, whoever makes it. So the rows are the same for any number of
workers, and what was made before a kill is read again and not made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.run.file import write_whole
from ko_cpt_callbacks.training.data.duplicates import Sketches, sketch
from ko_cpt_callbacks.training.data.encode import Document
from ko_cpt_callbacks.training.data.filters import (
    EXAMPLE_CHARACTERS,
    DroppedExample,
    Filter,
    FilterReport,
    keep_documents,
)
from ko_cpt_callbacks.training.data.words import Ids, WordEncoder
from ko_cpt_callbacks.workers import Workers

_FIRST_CHARACTERS, _SHARD_CHARACTERS = 100_000, 1_600_000
"""Characters of a shard: the first is small, where a corpus may not be read on, the next twice as large, up to some
seconds of work. Chosen, not measured."""
_BATCH_CHARACTERS: Final = 500_000
_BATCH_DOCUMENTS: Final = 256

Column = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Encoded:
    """Ids of a document with its marks, how many of them are no targets, the bytes of its text, and where it stood."""

    ids: Ids
    prompt: int
    size: int
    file: str
    number: int


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Encoded documents, and what filters did before.

    Attributes:
        ids: Of all documents, one after the other.
        ends: Where each one's end in them.
        prompts: How many of each are no targets.
        sizes: Bytes of each one's text.
        numbers: How many documents its source gave before it.
        files: Where each stands.
        names: The id of each.
        heads: The beginning of each one's text.
        reports: One a filter, over this shard.
        sketches: Where duplicates are looked for.
    """

    ids: Ids
    ends: Column
    prompts: Column
    sizes: Column
    numbers: Column
    files: Any
    names: Any
    heads: Any
    reports: tuple[FilterReport, ...]
    sketches: Sketches | None

    def documents(self, kept: npt.NDArray[np.bool_] | None) -> Iterator[Encoded]:
        """The documents, in order.

        Args:
            kept: Which of them; None for all.
        """
        begin = 0
        columns = (self.ends.tolist(), self.prompts.tolist(), self.sizes.tolist(), self.numbers.tolist())
        files = self.files.to_pylist()
        for place, (end, prompt, size, number) in enumerate(zip(*columns, strict=True)):
            if kept is None or kept[place]:
                yield Encoded(self.ids[begin:end], prompt, size, files[place], number)
            begin = end


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

    def make(self, documents: Sequence[Document]) -> bytes:
        """The shard of some documents, as it is on disk: an Arrow stream."""
        reports = [FilterReport(part.name) for part in self.filters]
        kept = list(keep_documents(documents, self.filters, reports))
        ids: list[Ids] = []
        prompts: list[int] = []
        for batch in _text_batches(kept):
            encoded = self.encoder.encode([document.text for document in batch])
            # Encoded apart, so that no token goes over from the one into the other.
            before = self.encoder.encode([document.prompt for document in batch])
            for first, own in zip(before, encoded, strict=True):
                ids.append(np.concatenate((self.begin, first, own, self.end)))
                prompts.append(len(self.begin) + len(first))
        columns = {
            "ids": _lists(ids, pa.int32()),
            "prompt": pa.array(prompts, pa.int64()),
            "size": pa.array([document.size for document in kept], pa.int64()),
            "number": pa.array([document.number for document in kept], pa.int64()),
            "file": pa.array([document.file for document in kept], pa.string()),
            "id": pa.array([document.id for document in kept], pa.string()),
            "head": pa.array([document.text[:EXAMPLE_CHARACTERS] for document in kept], pa.string()),
        }
        if self.sketched:
            found = sketch([whole_text(document) for document in kept])
            samples = np.split(found.sample, found.ends[:-1]) if kept else []
            columns |= {
                "exact": pa.array(found.exact),
                "keys": _lists(list(found.keys), pa.uint64()),
                "grams": pa.array(found.sizes),
                "sample": _lists(samples, pa.uint32()),
            }
        told = {"reports": json.dumps([asdict(report) for report in reports])}
        table = pa.table(columns).replace_schema_metadata(told)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        made: bytes = sink.getvalue().to_pybytes()
        return made


def read_shard(content: bytes) -> Shard:
    """A shard from its bytes.

    Raises:
        pyarrow.ArrowInvalid: If they are none.
    """
    with pa.ipc.open_stream(pa.py_buffer(content)) as stream:
        table = stream.read_all().combine_chunks()
    column = {name: table.column(name).combine_chunks() for name in table.column_names}
    reports = []
    for told in json.loads(table.schema.metadata[b"reports"]):
        examples = [DroppedExample(**example) for example in told.pop("examples")]
        reports.append(FilterReport(**told, examples=examples))
    sketches = None
    if "exact" in column:
        keys = column["keys"].flatten().to_numpy()
        sketches = Sketches(
            column["exact"].to_numpy(),
            keys.reshape(len(table), -1) if len(table) else keys.reshape(0, 1),
            column["grams"].to_numpy(),
            column["sample"].flatten().to_numpy(),
            column["sample"].offsets.to_numpy()[1:].astype(np.int64),
        )
    prompts, sizes, numbers = (column[name].to_numpy() for name in ("prompt", "size", "number"))
    ids, ends = column["ids"].flatten().to_numpy(), column["ids"].offsets.to_numpy()[1:].astype(np.int64)
    texts = column["file"], column["id"], column["head"]
    return Shard(ids, ends, prompts, sizes, numbers, *texts, tuple(reports), sketches)


def whole_text(document: Document) -> str:
    """What is compared of a document: its prompt too."""
    return f"{document.prompt}\n{document.text}" if document.prompt else document.text


def _lists(rows: Sequence[Any], kind: Any) -> Any:
    ends = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    values = np.concatenate(rows) if rows else np.empty(0)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values, kind))


def _text_batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """A few documents at a time, fewer where they are long; one alone may be of any length."""
    return _cut(documents, _BATCH_CHARACTERS, _BATCH_DOCUMENTS)


def _cut(documents: Iterable[Document], characters: int, count: int, most: int = 0) -> Iterator[list[Document]]:
    """Lists of so many documents, or fewer with so many characters together.

    Args:
        documents: In order.
        characters: Of the first list.
        count: Documents of the first list.
        most: Up to so many characters each list is twice as large as the one before; 0: all are as large as the first.
    """
    batch: list[Document] = []
    size = 0
    for document in documents:
        if batch and (len(batch) == count or size + len(document.text) > characters):
            yield batch
            batch, size = [], 0
            if 2 * characters <= most:
                characters, count = 2 * characters, 2 * count
        batch.append(document)
        size += len(document.text)
    if batch:
        yield batch


class ShardStore:
    """The shards of a source while rows are made of them.

    Args:
        folder: Where they are kept.
        workers: Who makes them.
    """

    def __init__(self, folder: Path, workers: Workers) -> None:
        self._folder = folder
        self._workers = workers

    def shards(self, name: str, maker: ShardMaker, documents: Iterable[Document]) -> Iterator[Shard]:
        """The shards of a source, in order; a few are made ahead.

        Args:
            name: Of the source.
            maker: Makes those that are not there.
            documents: All of its documents, also of shards that are there.
        """
        waiting: list[tuple[Path, Future[bytes] | Shard]] = []
        ahead = 0 if self._workers.count == 1 else self._workers.count + 1
        for path, part in shard_parts(self._folder, documents):
            waiting.append((path, _kept(path) or self._workers.submit(name, maker, part)))
            if len(waiting) > ahead:
                yield self._ready(*waiting.pop(0))
        for item in waiting:
            yield self._ready(*item)

    def again(self) -> Iterator[Shard]:
        """The same shards once more."""
        for path in sorted(self._folder.glob("*.arrow")):
            shard = _kept(path)
            if shard is None:
                raise ConfigurationError(
                    f"{path}: found a part of the rows that was damaged after it was written, expected it whole; go on "
                    "with --resume, which makes it again"
                )
            yield shard

    def _ready(self, path: Path, made: Future[bytes] | Shard) -> Shard:
        if isinstance(made, Shard):
            return made
        content = made.result()
        write_shard(path, content)
        return read_shard(content)


def shard_parts(folder: Path, documents: Iterable[Document]) -> Iterator[tuple[Path, list[Document]]]:
    """Where each shard of a source is kept, and the documents that it is made of, in order.

    Args:
        folder: Of the source's shards.
        documents: All of the source.
    """
    parts = _cut(documents, _FIRST_CHARACTERS, _BATCH_DOCUMENTS, _SHARD_CHARACTERS)
    return ((folder / f"{number:06d}.arrow", part) for number, part in enumerate(parts))


def write_shard(path: Path, content: bytes) -> None:
    """Keep a shard, with a checksum in front."""
    write_whole(path, hashlib.sha256(content).digest() + content)


def _kept(path: Path) -> Shard | None:
    """A shard that was made before; None where there is none, or it is damaged: Arrow reads zeros as numbers."""
    if not path.exists():
        return None
    content = path.read_bytes()
    size = hashlib.sha256().digest_size
    return read_shard(content[size:]) if hashlib.sha256(content[size:]).digest() == content[:size] else None
