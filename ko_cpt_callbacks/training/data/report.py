"""What became of a recipe's texts, as one file: ``data/report.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks.run.file import write_whole
from ko_cpt_callbacks.training.data.reading import BadInput, BadInputs
from ko_cpt_callbacks.training.data.rows import PackedRows

REPORT_FILE: Final = "report.json"
_FORMAT: Final = 1


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
