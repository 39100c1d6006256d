"""What becomes of a recipe's texts: which rows the stages take, what was kept and left out, in lines and in one file.

With one seed and one set of rows every stage would see the same ones in the same order, and what no stage reaches
would never be seen. How much of each source is trained on, and how often, is known before the first step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.run.file import write_whole
from ko_cpt_callbacks.signal.limits import CORPUS_USED
from ko_cpt_callbacks.training.data.reading import BadInput, BadInputs
from ko_cpt_callbacks.training.data.rows import PackedRows

REPORT_FILE: Final = "report.json"
_FORMAT: Final = 1
_FILES_SHOWN: Final = 6  # of an evaluation set's files, in its line


def needed_rows(arguments: Any) -> int | None:
    """Rows that a training takes, over all its processes; None where it goes by epochs through whatever there is."""
    if arguments.max_steps <= 0:
        return None
    rows = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    return int(arguments.max_steps * rows * arguments.world_size)


def stage_rows(needed: Mapping[str, int | None], name: str, rows: int) -> Sequence[int]:
    """The places of a stage's rows.

    Args:
        needed: What each stage takes, in order; None: all there are.
        name: The stage.
        rows: How many there are; after the last comes the first again.

    Returns:
        As many as it takes, each once; all in order where it takes as many as there are, or more.
    """
    wanted = needed[name]
    if wanted is None or wanted >= rows:
        return range(rows)
    before = list(needed)[: list(needed).index(name)]
    start = sum(needed[stage] or 0 for stage in before) % rows
    end = start + wanted
    return range(start, end) if end <= rows else [*range(start, rows), *range(end - rows)]


@dataclass(frozen=True, slots=True)
class SourceUse:
    """How much of a source the stages train on.

    Attributes:
        name: Of the source.
        share: Of the mixture's tokens, from 0 to 1.
        read: Documents up to the last one that is in the rows, in one pass and before filters.
        available: All documents of one pass, before filters; None where they were not counted (a data set of the hub).
        passes: How often the stages go over the documents that are in the rows, on average.
        bytes: UTF-8 bytes of one pass, as far as documents were counted, reckoned from those in the rows; None where
            they were not.
    """

    name: str
    share: float
    read: int
    available: int | None
    passes: float
    bytes: int | None = None

    @property
    def used(self) -> float | None:
        """Share of the documents that the mixture reaches, from 0 to 1; None where they were not counted."""
        return None if not self.available else self.read / self.available


def source_uses(rows: PackedRows, wanted: float) -> tuple[SourceUse, ...]:
    """The use of each source.

    Args:
        rows: The mixture.
        wanted: Rows that all stages take together; a repeated row counts each time.
    """
    sources: Mapping[str, Any] = rows.report["sources"]
    tokens = sum(entry["tokens"] for entry in sources.values())
    times = wanted / rows.report["rows"]
    return tuple(
        SourceUse(
            name,
            entry["tokens"] / tokens,
            entry["read"],
            entry["available"],
            times * entry["documents"] / entry["distinct"],
            None if entry["available"] is None else round(entry["bytes"] / entry["documents"] * entry["available"]),
        )
        for name, entry in sources.items()
    )


def use_notes(uses: Sequence[SourceUse]) -> Iterator[dict[str, Any]]:
    """A set-up row a source, distinguished by its set: whether something is odd about it, rules decide.

    ``shortest`` are the sources that are used up. Where none is, the mixture ended because the stages take no more.
    ``corpus_bytes`` are those of all sources; None where one was not counted.
    """
    shortest = [use.name for use in uses if use.used is not None and use.used >= CORPUS_USED]
    sizes = [use.bytes for use in uses if use.bytes is not None]
    whole = sum(sizes) if len(sizes) == len(uses) else None
    for use in uses:
        counts = {"read": use.read, "available": use.available, "passes": use.passes, "corpus_bytes": whole}
        yield {keys.SPLIT: use.name, "source": use.name, "share": use.share, **counts, "shortest": shortest}


def use_lines(uses: Sequence[SourceUse]) -> Iterator[str]:
    """A line a source."""
    for use in uses:
        documents = f"{use.read:,}" if use.available is None else f"{use.read:,} of {use.available:,}"
        yield f"  {use.name}: {use.share:.1%} of the tokens, {documents} documents, {use.passes:.2g} passes"


def evaluation_line(name: str, rows: PackedRows) -> str:
    """What an evaluation set holds: its documents, by file where there are several."""
    entry = next(iter(rows.report["sources"].values()))
    files: Mapping[str, int] = entry["files"]
    line = f"  eval {name}: {entry['documents']:,} documents, {rows.report['rows']:,} rows, {entry['bytes']:,} bytes"
    if len(files) < 2:
        return line
    most = sorted(files.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{count:,} of {file}" for file, count in most[:_FILES_SHOWN])
    return f"{line} ({listed}{', …' if len(most) > _FILES_SHOWN else ''})"


def row_lines(rows: PackedRows) -> Iterator[str]:
    """What became of the documents, a line a source, and what filters dropped."""
    report: Mapping[str, Any] = rows.report
    for name, entry in report["sources"].items():
        yield f"  {name}: {entry['documents']:,} documents, {entry['bytes']:,} bytes, {entry['tokens']:,} tokens"
        for part in entry["filters"]:
            line = f"    {part['filter']} dropped {part['dropped_documents']:,} of {part['documents']:,} documents"
            line += f", {part['dropped_bytes']:,} of {part['bytes']:,} bytes"
            shown = "; ".join(f"{item['id']}, {item['reason']}" for item in part["examples"][:2])
            yield f"{line} ({shown})" if shown else line
    line = f"  {report['rows']:,} rows of at most the sequence length, {report['tokens']:,} tokens"
    dropped = report["dropped_tokens"]
    yield line + (f"; {dropped:,} tokens dropped, which filled no row or went beyond one" if dropped else "")


def write_data_report(
    folder: Path, mixed: PackedRows, sets: Mapping[str, PackedRows], fertility: Mapping[str, Any] | None = None
) -> None:
    """Write the report of rows.

    Documents, bytes and tokens that were kept and dropped, by source and filter with examples, duplicates of what is
    evaluated on among them (``held-out-duplicates``); bytes a token; how many documents are how long; the mixture by
    tokens and bytes; what could not be read.

    Args:
        folder: Of the rows.
        mixed: What is trained on.
        sets: What is evaluated on, by name.
        fertility: Of the base's tokenizer and the extended one, on held-out text of a source; None where it was not
            extended.
    """
    bad = left_out([mixed, *sets.values()])
    report: dict[str, Any] = {
        "format": _FORMAT,
        "train": _part(mixed),
        "eval": {name: _part(part) for name, part in sets.items()},
        "fertility": fertility,
        "bad": {"rows": sum(bad.files.values()), **asdict(bad)},
    }
    write_whole(folder / REPORT_FILE, f"{json.dumps(report, ensure_ascii=False, indent=2)}\n".encode())


def _part(rows: PackedRows) -> dict[str, Any]:
    sources: Mapping[str, Any] = rows.report["sources"]
    whole = {name: sum(entry[name] for entry in sources.values()) for name in ("tokens", "bytes")}
    mixture = {
        source: {
            "tokens": entry["tokens"] / whole["tokens"],
            "bytes": entry["bytes"] / whole["bytes"],
            "bytes_per_token": entry["bytes"] / entry["tokens"],
        }
        for source, entry in sources.items()
    }
    own = {name: value for name, value in rows.report.items() if name != "bad"}
    return {**own, "rows_folder": rows.folder.name, "mixture": mixture}


def left_out(made: Iterable[PackedRows]) -> BadInputs:
    """What could not be read when rows were made, in this run or before."""
    found = BadInputs()
    for rows in made:
        told: Mapping[str, Any] = rows.report.get("bad", {"files": {}, "listed": []})
        for entry in told["listed"]:
            found.note(BadInput(**entry), told["files"][entry["file"]])
        for file, count in told["files"].items():  # more than are listed
            found.files[file] = max(count, found.files.get(file, 0))
    return found


def bad_lines(bad: BadInputs) -> Iterator[str]:
    """What could not be read: a line a file, with the first of its places."""
    for file, count in sorted(bad.files.items()):
        first = next((entry for entry in bad.listed if entry.file == file), None)
        where = "" if first is None else f" (first {first.place}: {first.reason})"
        yield f"  {file}: {count:,} left out, which cannot be read{where}"
