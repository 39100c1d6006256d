"""What became of a recipe's texts, as one file: ``data/report.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks.run.file import write_whole
from ko_cpt_callbacks.training.data.reading import BadInputs
from ko_cpt_callbacks.training.data.rows import PackedRows

REPORT_FILE: Final = "report.json"
_FORMAT: Final = 1


def write_data_report(folder: Path, mixed: PackedRows, sets: Mapping[str, PackedRows], bad: BadInputs | None) -> None:
    """Write the report of rows.

    Documents, bytes and tokens that were kept and dropped, by source and filter with examples, duplicates of what is
    evaluated on among them (``held-out-duplicates``); bytes a token; how many documents are how long; the mixture by
    tokens and bytes; what could not be read.

    Args:
        folder: Of the rows.
        mixed: What is trained on.
        sets: What is evaluated on, by name.
        bad: What was left out because it cannot be read; None where that was refused.
    """
    report: dict[str, Any] = {
        "format": _FORMAT,
        "train": _part(mixed),
        "eval": {name: _part(part) for name, part in sets.items()},
        "bad": {"rows": 0 if bad is None else sum(bad.files.values()), **({} if bad is None else asdict(bad))},
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
    return {**rows.report, "rows_folder": rows.folder.name, "mixture": mixture}


def bad_lines(bad: BadInputs) -> Iterator[str]:
    """What could not be read: a line a file, with the first of its places."""
    for file, count in sorted(bad.files.items()):
        first = next((entry for entry in bad.listed if entry.file == file), None)
        where = "" if first is None else f" (first {first.place}: {first.reason})"
        yield f"  {file}: {count:,} left out, which cannot be read{where}"
