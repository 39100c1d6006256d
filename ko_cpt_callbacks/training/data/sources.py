"""Documents from files, from the package or from the hub, one after the other: a corpus is never held in memory.

In the order of the files and of what is in them. Nothing is shuffled here: rows are, by the Trainer, once they are
packed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Literal

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.bundle import bundled_text
from ko_cpt_callbacks.recipe.text_files import format_of
from ko_cpt_callbacks.training.data.encode import Document
from ko_cpt_callbacks.training.data.filters import Filter
from ko_cpt_callbacks.training.data.reading import BadInputs, Texts, identity, read_file, texts_of
from ko_cpt_callbacks.training.hub import hub_rows

# Where an article of a declaration or a statute begins.
_ARTICLE: Final = re.compile(r"Article \d+$|제 ?\d+ ?조")


def read_pieces(name: str) -> dict[str, str]:
    """The pieces of a bundled text by id, in order: what stays in one part, a story or an article with its paragraphs.

    Args:
        name: The file's name; ``.jsonl`` has a piece a line, another is cut before every article.
    """
    text = bundled_text(name)
    if name.endswith(".jsonl"):
        return {entry["id"]: entry["text"] for entry in map(json.loads, filter(None, text.splitlines()))}
    # Without the language, so that translations of one text are held out together.
    work = name.partition("_")[2].rpartition(".")[0]
    parts: list[list[str]] = [[]]
    for line in filter(None, text.splitlines()):
        if _ARTICLE.match(line):
            parts.append([])
        parts[-1].append(line)
    return {f"{work}-{number:03}": "\n".join(lines) for number, lines in enumerate(parts) if lines}


def held_out_pieces(pieces: Mapping[str, str], share: float) -> set[str]:
    """The ids of the pieces that are held out, in an order that only their ids decide.

    Args:
        pieces: All pieces of a file.
        share: The least share to hold out, of the bytes and of the pieces; between 0 and 1.
    """
    sizes = {id: len(text.encode()) for id, text in pieces.items()}
    bytes_wanted, pieces_wanted = share * sum(sizes.values()), share * len(pieces)
    chosen: set[str] = set()
    size = 0
    for id in sorted(pieces, key=lambda id: hashlib.sha256(id.encode()).digest()):
        if size >= bytes_wanted and len(chosen) >= pieces_wanted:
            break
        chosen.add(id)
        size += sizes[id]
    return chosen


def is_held_out(text: str, share: float) -> bool:
    """Whether a text of a large corpus is held out: a hash of it decides, so that nothing has to be counted before.

    Of few texts it may be rather more or less than the share, from 0 to 1.
    """
    return int.from_bytes(_text_digest(text)[:8]) < share * 2**64


def _text_digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


Unit = Literal["line", "paragraph", "file"]
Part = Literal["all", "train", "held-out"]


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
        bad: Where what cannot be read in the files is noted, and left out; None to refuse it.
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
    bad: BadInputs | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.hub and self.hub.count("/") != 1:
            # Without an owner it could be the name of a format, and files of this folder would be read.
            raise self.error(f"the hub id {self.hub!r}", "owner/name")

    def error(self, found: str, expected: str) -> ConfigurationError:
        """What is wrong with this source."""
        return ConfigurationError(f"source {self.name}: found {found}, expected {expected}")


def read_documents(source: Source) -> Iterator[Document]:
    """The documents of a source, once through; blank ones are left out.

    Raises:
        ConfigurationError: If a file, what is wanted of the hub or the column is not there, or it holds something
            else than text; if the hub does not answer, after it was asked again and again.
    """
    found = _bundled(source) if source.bundled else _read(source)
    if source.part != "all" and not source.bundled:
        found = _parted(source, found)
    if source.limit is not None:
        found = islice(found, source.limit) if source.hub else _drawn(found, source.limit)
    if source.part == "all" and source.limit is None and not source.bundled:
        yield from found  # numbered already
        return
    for number, document in enumerate(found):
        yield document._replace(number=number)


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


def identities(sources: Sequence[Source]) -> list[tuple[int, ...]]:
    """What changes where a file of some sources does."""
    return [identity(path) for source in sources for path in source.files]


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
        held_out = held_out_pieces(pieces, source.held_out)
        for id, whole in pieces.items():
            if source.part == "all" or (id in held_out) == (source.part == "held-out"):
                half = len(whole) // 2 if source.prompt else 0
                yield Document(f"{source.name}/{id}", whole[half:], len(whole[half:].encode()), whole[:half], name)


def _parted(source: Source, documents: Iterable[Document]) -> Iterator[Document]:
    for document in documents:
        # The prompt belongs to it: one question with two answers is on one side too.
        out = is_held_out(document.prompt or document.text, source.held_out)
        if out == (source.part == "held-out"):
            yield document


def _read(source: Source) -> Iterator[Document]:
    place = number = 0
    for file, rows in _streams(source):
        for text, size, prompt in rows:
            if text and not text.isspace():
                yield Document(f"{source.name}/{place}", text, size, prompt, file, number)
                number += 1
            place += 1


def _streams(source: Source) -> Iterator[tuple[str, Iterable[Texts]]]:
    """The source file after file: its name, and what is in each row."""
    if source.hub:
        rows = (texts_of(source, row, source.column) for row in hub_rows(source))
        yield "", ((text, len(text.encode()), prompt) for text, prompt in rows)
        return
    for path in source.files:
        if not path.is_file():
            raise source.error(f"no file {path}", "a file that can be read")
        if path.stat().st_size:
            yield f"{path.parent.name}/{path.name}", read_file(source, path)


def _digest(source: Source, path: Path) -> str:
    if not path.is_file():  # a pipe would be waited for
        raise source.error(f"no file {path}", "a file that can be read")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise source.error(f"{path} ({error.strerror})", "a file that can be read") from None
