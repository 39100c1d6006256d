"""A corpus as rows on disk: made once, then read from there by every stage, process and resumed run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np
from datasets import Dataset  # type: ignore[import-untyped]

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.training.data.duplicates import DuplicateIndex
from ko_cpt_callbacks.training.data.encode import Document
from ko_cpt_callbacks.training.data.filters import FilterReport
from ko_cpt_callbacks.training.data.packing import (
    PackReport,
    PackSettings,
    Row,
    answer_rows,
    cut_rows,
    mix_streams,
    pack_rows,
    write_rows,
)
from ko_cpt_callbacks.training.data.removal import Duplicates, Kept, removal_reports, remove_duplicates
from ko_cpt_callbacks.training.data.shards import Encoded, ShardMaker, made_shards, shards_again, shards_of_files
from ko_cpt_callbacks.training.data.sources import Source, identities, read_documents, source_key
from ko_cpt_callbacks.training.data.words import Ids, WordEncoder
from ko_cpt_callbacks.training.folder import whole_folder
from ko_cpt_callbacks.workers import Workers

if TYPE_CHECKING:
    from ko_cpt_callbacks.training.data.executor import Executor

_FORMAT: Final = 4
_ROWS_FILE: Final = "rows.arrow"
_REPORT_FILE: Final = "report.json"


@dataclass(slots=True)
class SourceReport:
    """What was taken from a source, over all its passes.

    Attributes:
        documents: Documents taken, as often as they were.
        tokens: Of them, with begin and end tokens.
        bytes: Of their text, in UTF-8.
        passes: Whole passes; where the mixture ended before the source did, the last one is not among them.
        distinct: Documents taken in the first pass: the others were taken before.
        available: Documents of one pass, before any filter; None of a data set of the hub that is not read to its end.
        read: Of these, up to the last one that was taken.
        files: Documents taken, by the name of their file.
        lengths: Documents taken, by their tokens: as many as that, and fewer than twice as many.
        filters: What each filter did, over what was read; some documents are read ahead of the mixture's end.
    """

    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    passes: int = 0
    distinct: int = 0
    available: int | None = None
    read: int = 0
    files: dict[str, int] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    filters: list[FilterReport] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class PackedRows:
    """Rows for a Trainer.

    Attributes:
        rows: ``input_ids``, with prompts ``labels`` too; mapped from disk.
        report: What they were made of, as JSON: ``sources`` (each a `SourceReport`), ``rows``, ``tokens``,
            ``dropped_tokens``; where something could not be read, ``bad`` (`BadInputs`).
        folder: Where they are.
    """

    rows: Dataset
    report: Mapping[str, Any]
    folder: Path


class Progress(Protocol):
    """Sees how far rows are."""

    def read(self, document: Document) -> None:
        """See a document that was read, the next of its source."""

    def dropped(self, name: str, documents: int) -> None:
        """See that a filter dropped some more."""


@dataclass(frozen=True, slots=True)
class Making:
    """How rows are made.

    Attributes:
        workers: Processes that filter and encode; with 1 this one does.
        watch: Sees each document that is read, and what filters dropped.
        elsewhere: Makes shards before, on other machines too; None: the workers make all.
    """

    workers: int = 1
    watch: Progress | None = None
    elsewhere: Executor | None = None


def packed_rows(
    sources: Sequence[Source],
    tokenizer: Any,
    settings: PackSettings,
    cache: Path,
    shares: Mapping[str, float] | None = None,
    shares_of: Literal["tokens", "bytes"] = "tokens",
    max_rows: int | None = None,
    duplicates: Duplicates | None = None,
    making: Making | None = None,
) -> PackedRows:
    """The rows of a corpus: from the cache, or read, filtered, encoded, mixed, packed and put there.

    The order of documents and rows depends on the arguments alone. Without ``shares`` every document is taken
    exactly as often as its source has passes. With them, none more often, and the source that the mixture ends with
    exactly so often (`mix_streams`). Where several processes start at once, let one of them come here first.

    Args:
        sources: In order.
        tokenizer: With an end token.
        settings: Of the rows.
        cache: A folder; each corpus has one inside, named by a hash of all that decides its rows: the files'
            contents, the settings, the filters, the tokenizer.
        shares: Each source in proportion to the others; None for all sources whole, one after the other.
        shares_of: What the proportions are of: tokens, or bytes of text.
        max_rows: Rows to make; None for all there are. Of a corpus that is never gone through, no more is read.
        duplicates: What is left out because it was there before; None to leave all.
        making: How they are made; the rows are the same.

    Raises:
        ConfigurationError: If a source cannot be read, the shares do not fit, or no row comes of it.
    """
    begin, end = _marks(tokenizer, settings)
    making = making or Making()
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"sources: found a name twice in {', '.join(names)}, expected each once")
    by = shares_of if shares is not None else None
    taken: list[Any] = [None if shares is None else dict(shares), by, max_rows]
    taken += [] if duplicates is None else [duplicates.key()]
    before = identities(sources)
    folder = cache / _key(sources, tokenizer, settings, taken)
    if not folder.exists():
        encoder = WordEncoder(tokenizer)
        sketched = duplicates is not None
        makers = {source.name: ShardMaker(source.filters, encoder, begin, end, sketched) for source in sources}
        count = PackReport()
        measure = (lambda document: document.size) if by == "bytes" else (lambda document: len(document.ids))
        shards = folder.with_name(f".{folder.name}.shards")
        shards.mkdir(parents=True, exist_ok=True)

        def changed() -> bool:
            return identities(sources) != before and _key(sources, tokenizer, settings, taken) != folder.name

        streams = {source.name: _Stream(source, shards, making.watch) for source in sources}
        if making.elsewhere is not None:
            with shards_of_files(shards, changed):
                making.elsewhere.make(shards, {name: stream.read() for name, stream in streams.items()}, makers)
        index = None if duplicates is None else duplicates.index(shards)
        with whole_folder(folder) as part, shards_of_files(shards, changed), Workers(making.workers) as workers:
            encoded = {name: stream.encoded(makers[name], workers, index) for name, stream in streams.items()}
            documents = (streams[name].taken(item) for name, item in mix_streams(encoded, shares, measure))
            write_rows(part / _ROWS_FILE, islice(_rows(documents, settings, count), max_rows), labels=settings.prompts)
            report = {name: stream.reported() for name, stream in streams.items()}
            if not count.rows:
                raise ConfigurationError(
                    f"sources {', '.join(names)}: found {count.dropped_tokens} tokens, expected a row of "
                    f"{settings.length}; give more text, shorter rows or looser filters"
                )
            summary = {"sources": {name: asdict(entry) for name, entry in report.items()}, **asdict(count)}
            bad = next((source.bad for source in sources if source.bad is not None), None)
            if bad is not None and bad.files:  # a later run on these rows reads no text, and finds none
                summary["bad"] = asdict(bad)
            (part / _REPORT_FILE).write_text(json.dumps(summary, ensure_ascii=False, indent=2), encoding="utf-8")
        shutil.rmtree(shards, ignore_errors=True)
    try:
        rows = Dataset.from_file(str(folder / _ROWS_FILE))
        report = json.loads((folder / _REPORT_FILE).read_text(encoding="utf-8"))
    except Exception as error:  # of bytes that are no rows, Arrow raises what it likes
        raise ConfigurationError(
            f"{folder}: found rows that cannot be read ({type(error).__name__}), expected those that were made here; "
            f"delete {folder} and go on with --resume: the rows are made again"
        ) from error
    return PackedRows(rows, report, folder)


class _Stream:
    """A source while rows are made of it: its documents are read, encoded, and counted where they are taken."""

    def __init__(self, source: Source, shards: Path, watch: Progress | None) -> None:
        self._source = source
        self._folder = shards / source.name
        self._watch = watch
        self._report = SourceReport()
        self._documents = self.read()
        self._count, self._seen, self._ended = 0, False, False

    def read(self) -> Iterator[Document]:
        """The documents once through; those that were seen before are not seen again."""
        watch = None if self._seen else self._watch
        self._count, self._seen, self._ended = 0, True, False
        for document in read_documents(self._source):
            self._count += 1
            if watch is not None:
                watch.read(document)
            yield document
        self._ended = True

    def encoded(self, maker: ShardMaker, workers: Workers, index: DuplicateIndex | None) -> Iterator[Encoded]:
        """The documents as often as the source has passes; those that are duplicates in the first are in none."""
        report = self._report
        report.filters = [FilterReport(part.name) for part in self._source.filters]
        report.filters += [] if index is None else removal_reports()
        judged: list[tuple[list[FilterReport], Kept]] = []
        for number in range(self._source.passes):
            if number:
                shards = shards_again(self._folder)
            else:
                shards = made_shards(self._folder, workers, self._source.name, maker, self._documents)
            for place, shard in enumerate(shards):
                if not number:
                    judged.append(remove_duplicates(shard, index))
                told, kept = judged[place]
                for part, other in zip(report.filters, (*shard.reports, *told), strict=True):
                    part.add(other)
                    if self._watch is not None:
                        self._watch.dropped(part.filter, other.dropped_documents)
                yield from shard.documents(kept)
            report.passes += 1

    def taken(self, document: Encoded) -> Encoded:
        """Count one that the mixture takes."""
        report = self._report
        report.documents += 1
        report.tokens += len(document.ids)
        report.bytes += document.size
        report.distinct += report.passes == 0
        length = 1 << (len(document.ids).bit_length() - 1)
        report.lengths[length] = report.lengths.get(length, 0) + 1
        report.read = max(report.read, document.number + 1)
        if document.file:
            report.files[document.file] = report.files.get(document.file, 0) + 1
        return document

    def reported(self) -> SourceReport:
        """What was taken. Files are read on to their end for it, to be counted, and nothing of them is encoded."""
        if not self._report.documents:
            raise self._source.error("no document that is not blank and not dropped", "some text")
        if not self._source.hub:
            for _ in self._documents:
                pass
        self._report.available = self._count if self._ended else None
        return self._report


def _rows(documents: Iterable[Encoded], settings: PackSettings, count: PackReport) -> Iterator[tuple[Row, ...]]:
    """A row a time, counted: its ids, with prompts its labels too."""
    rows: Iterable[tuple[Row, ...]]
    if settings.prompts:
        rows = answer_rows(((item.ids, item.prompt) for item in documents), settings.length, count)
    else:
        ids = (item.ids for item in documents)
        packed = pack_rows(ids, settings.length, settings.tail, count)
        rows = ((row,) for row in (packed if settings.packed else cut_rows(ids, settings.length, count)))
    for row in rows:
        count.rows += 1
        count.tokens += len(row[0])
        yield row


def _marks(tokenizer: Any, settings: PackSettings) -> tuple[Ids, Ids]:
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    for wanted, index, name in ((settings.begin, begin, "begin"), (True, end, "end")):
        if wanted and index is None:
            raise ConfigurationError(f"tokenizer: found no {name} token, expected one to mark documents with; set it")
    return np.array([begin] if settings.begin else [], dtype=np.int32), np.array([end], dtype=np.int32)


def _key(sources: Sequence[Source], tokenizer: Any, settings: PackSettings, taken: Sequence[Any]) -> str:
    inner = json.loads(tokenizer.backend_tokenizer.to_str())
    for passing in ("truncation", "padding"):
        inner.pop(passing, None)  # of the last call of it; set anew by the next
    whole = {
        "format": _FORMAT,
        "sources": [source_key(source) for source in sources],
        "tokenizer": [inner, tokenizer.bos_token_id, tokenizer.eos_token_id],
        "settings": asdict(settings),
        "taken": list(taken),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
