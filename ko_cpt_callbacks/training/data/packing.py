"""Documents, as token ids, packed into rows of one length, or cut into rows of their own, and put into a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]

T = TypeVar("T")


def mix_streams(
    streams: Mapping[str, Iterator[T]], shares: Mapping[str, float] | None, size: Callable[[T], int]
) -> Iterator[tuple[str, T]]:
    """Items of several streams, each with its stream's name.

    The next item is taken from the stream that is furthest behind its share, so that at any moment no stream is
    further off than one item. Nothing is drawn by lot. It ends where the stream whose turn it is has no more: that
    one was taken whole, the others as far as fits.

    Args:
        streams: By name.
        shares: Of the sum of sizes, in proportion to each other (Thunder: English 54, Korean 48, in tokens); None to
            take all streams whole, one after the other.
        size: Of an item, in what the shares are of.
    """
    if shares is None:
        for name, stream in streams.items():
            for item in stream:
                yield name, item
        return
    taken = dict.fromkeys(streams, 0)
    while True:
        name = min(streams, key=lambda name: taken[name] / shares[name])
        try:
            item = next(streams[name])
        except StopIteration:
            return
        taken[name] += size(item)
        yield name, item


Row = npt.NDArray[np.int32]
COLUMN: Final = "input_ids"
LABELS: Final = "labels"
IGNORED: Final = -100
"""The label of a token that is no target, as torch has it."""
# Tokens written at once: some ten megabytes. Chosen, not measured.
_BATCH_TOKENS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class PackSettings:
    """How rows are made.

    Attributes:
        length: Tokens of a row.
        tail: What becomes of the tokens that fill no whole row at the very end: ``drop`` them (training, where
            rows of one length are wanted), or ``keep`` them as a shorter row (evaluation, where every token counts).
            A row of a single token has nothing to predict and is dropped in any case.
        begin: Whether a begin token stands before every document, as the base was trained with; an end token
            stands after every document, the last one too.
        packed: Whether rows go on from one document into the next; otherwise every document begins a row, and
            nothing but rows of a single token is dropped.
        prompts: Whether documents have prompts. Their tokens are no targets; what does not fit into the one row of
            such a document is cut off.
    """

    length: int
    tail: Literal["drop", "keep"] = "drop"
    begin: bool = False
    packed: bool = True
    prompts: bool = False


@dataclass(slots=True)
class PackReport:
    """What became of the tokens; those in rows and the dropped ones are all there were.

    Attributes:
        rows: Rows made.
        tokens: In rows.
        dropped_tokens: Of the tail, or alone in a row, or beyond the one row of a prompt and its answer.
    """

    rows: int = 0
    tokens: int = 0
    dropped_tokens: int = 0


def pack_rows(
    documents: Iterable[Row], length: int, tail: Literal["drop", "keep"], report: PackReport
) -> Iterator[Row]:
    """Rows cut from the documents one after the other; a document goes on in the next row.

    Attention is not cut where a document ends: the end token says it. Memory is that of one row and one document.

    Args:
        documents: Ids, with the tokens that mark begin and end.
        length: Tokens of a row.
        tail: What becomes of the last ones.
        report: Of what is dropped, counted up.
    """
    rest = np.empty(0, dtype=np.int32)
    for document in documents:
        rest = np.concatenate((rest, np.asarray(document, dtype=np.int32)))
        whole = len(rest) // length * length
        for start in range(0, whole, length):
            yield rest[start : start + length]
        rest = rest[whole:].copy()
    if tail == "keep" and len(rest) > 1:
        yield rest
    else:
        report.dropped_tokens += len(rest)


def cut_rows(documents: Iterable[Row], length: int, report: PackReport) -> Iterator[Row]:
    """Rows of every document by itself: a longer one goes on in the next row, and a row of one token is no row."""
    for document in documents:
        ids = np.asarray(document, dtype=np.int32)
        for start in range(0, len(ids), length):
            row = ids[start : start + length]
            if len(row) > 1:
                yield row
            else:
                report.dropped_tokens += 1


def answer_rows(documents: Iterable[tuple[Row, int]], length: int, report: PackReport) -> Iterator[tuple[Row, Row]]:
    """A row and its labels for every prompt with its answer; one without a token of the answer is dropped.

    Args:
        documents: Ids, and how many of them are no targets.
        length: Tokens of the longest row.
        report: Of what is dropped, counted up.
    """
    for document, prompt in documents:
        row = np.asarray(document[:length], dtype=np.int32)
        report.dropped_tokens += max(0, len(document) - length)
        if prompt >= len(row):
            report.dropped_tokens += len(row)
            continue
        labels = row.copy()
        labels[:prompt] = IGNORED
        yield row, labels


def write_rows(path: Path, rows: Iterable[tuple[Row, ...]], *, labels: bool) -> None:
    """Write rows as an Arrow stream, as `datasets` maps it.

    Args:
        path: The file.
        rows: Ids of each, and its labels where they have some.
        labels: Whether they have.
    """
    schema = pa.schema({name: pa.list_(pa.int32()) for name in ((COLUMN, LABELS) if labels else (COLUMN,))})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        batch: list[tuple[Row, ...]] = []
        size = 0
        for row in rows:
            batch.append(row)
            size += len(row[0])
            if size >= _BATCH_TOKENS:
                stream.write_batch(_record(batch, schema))
                batch, size = [], 0
        if batch:
            stream.write_batch(_record(batch, schema))


def _record(rows: Sequence[tuple[Row, ...]], schema: Any) -> Any:
    columns = []
    for column in zip(*rows, strict=True):
        ends = np.cumsum([0, *map(len, column)], dtype=np.int32)
        columns.append(pa.ListArray.from_arrays(pa.array(ends), pa.array(np.concatenate(column))))
    return pa.record_batch(columns, schema=schema)
