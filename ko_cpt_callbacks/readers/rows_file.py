"""``rows.jsonl``, this package's own record of a run, to rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.readers.text_file import BOM, clip, decoded, read_bytes

__all__ = ["live_rows", "read_rows"]


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Every line of a ``rows.jsonl``, superseded ones included.

    A last line that was cut off (the run was killed while writing) is left out: whoever wrote it had not
    finished the row. A damaged line before the last is an error: rows after it would be judged without it.

    Raises:
        UnreadableRunError: If the file cannot be opened, or a line before the last is not a JSON object.
    """
    path = Path(path)
    # Bytes first: a line may be cut off inside a letter of three bytes. Only "\n" ends a line: splitlines() would also
    # cut at U+2028 inside a string.
    whole, _, cut = read_bytes(path).removeprefix(BOM).rpartition(b"\n")
    lines = [*decoded(path, whole).split("\n"), cut.decode("utf-8", "replace")]
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(row)
        elif number < len(lines):
            raise UnreadableRunError(
                f"{path}:{number}: not a JSON object: {clip(line.strip())}; expected one row a line "
                f"({len(rows):,} before it whole); remove the line to judge the run without it"
            )
    return rows


def live_rows(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that count: none superseded by a resume, and lone evaluations only where nothing was trained.

    An ``evaluate()`` in the folder of a trained run is written at step 0 or at the last step; it says
    something of the model, nothing of how training went.
    """
    counting = [row for row in rows if row.get(keys.SUPERSEDED) is not True]
    if any(row.get(keys.KIND) == keys.KIND_TRAIN for row in counting):
        return [row for row in counting if row.get(keys.MODE) != keys.MODE_EVALUATE]
    return counting
