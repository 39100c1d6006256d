"""Logs with a line a row: tables saved as CSV, and LLaMA-Factory's ``trainer_log.jsonl``, whose names are its own.

Tables are Lightning's ``metrics.csv``, what W&B exports, and any log that somebody saved as CSV.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.file import clip, read_text
from ko_cpt_callbacks.run.log.row import Log, LogNote, trainer_log, trainer_row, trainer_rows
from ko_cpt_callbacks.run.rows import number_in

__all__ = ["FILE", "llamafactory_log", "of_llamafactory", "read_table"]

_DELIMITERS: Final = ",;\t"
_STEPS: Final = ("step", "_step", "Step", "global_step", "train/global_step", "trainer/global_step")
# A chart of W&B shows a value of a run as "run - name", with the least and greatest of what it drew together.
_OF_RUN: Final = re.compile(r"(.+) - (\S+?)(__MIN|__MAX)?")
_EXPECTED: Final = "expected a table with a column step (or _step, Step, train/global_step) and losses"
_LACKS: Final = LogNote("log-no-text")
_CALLS: Final = LogNote("log-calls")


def read_table(path: Path) -> Log:
    """The rows of a table with a step column.

    Raises:
        UnreadableRunError: If it is no such table.
    """
    text = read_text(path)
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise UnreadableRunError(f"{path}: no table ({error}); {_EXPECTED}") from None
    names = [name.strip() for name in lines[0]] if lines else []
    step = next((name for name in _STEPS if name in names), None)
    if step is None:
        raise UnreadableRunError(f"{path}:1: found {_columns(names)}; {_EXPECTED}")
    names, note = _one_run(names)
    twice = next((name for name, count in Counter(names).items() if name and count > 1), None)
    if twice is not None:
        raise UnreadableRunError(f"{path}:1: found the column {clip(twice)} twice; {_EXPECTED}")
    rows = [row for row in trainer_rows(_rows(path, names, lines)) if len(row) > 1]
    if not rows:
        raise UnreadableRunError(f"{path}: found no row with a step and a number; {_EXPECTED}")
    calls = _CALLS if step in ("Step", "_step") and not any("global_step" in name for name in names) else None
    # A chart's table has a line where any of its curves has a point, and not always in order.
    return trainer_log(rows, None, calls, note, _LACKS)


def _columns(names: Sequence[str]) -> str:
    if not any(names):
        return "an empty line"
    more = f" and {len(names) - 4} more columns" if len(names) > 4 else ""
    return ", ".join(clip(name) for name in names[:4]) + more


def _one_run(names: Sequence[str]) -> tuple[list[str], LogNote | None]:
    """The columns of the run that has most of them, without its name; the others' are emptied."""
    parts = [_OF_RUN.fullmatch(name) for name in names]
    runs = Counter(part[1] for part in parts if part and not part[3])
    if not runs:
        return list(names), None
    (run, _), *others = runs.most_common()
    bare = [
        name if part is None else part[2] if part[1] == run and not part[3] else ""
        for name, part in zip(names, parts, strict=True)
    ]
    return bare, LogNote("log-one-of-runs", {"run": run, "runs": len(runs)}) if others else None


def _rows(path: Path, names: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines[1:], start=2):
        if len(line) > len(names):
            raise UnreadableRunError(
                f"{path}:{number}: found {len(line)} cells, expected {len(names)} as in the first line; {_EXPECTED}"
            )
        # A last line that is short was being written.
        cells = {name: number_in(cell) for name, cell in zip(names, line, strict=False) if name}
        yield {name: value for name, value in cells.items() if value is not None}


FILE: Final = "trainer_log.jsonl"
"""LLaMA-Factory's."""
_AT: Final = "current_steps"
_PLANNED: Final = "total_steps"
_NAMES: Final = {
    "lr": keys.LEARNING_RATE,
    "reward": "reward",
    "accuracy": "rewards/accuracies",
    "total_tokens": keys.INPUT_TOKENS[1],
}
_OF_LLAMAFACTORY: Final = LogNote("log-llamafactory")


def of_llamafactory(row: Mapping[str, Any]) -> bool:
    """Whether a line is one of this file."""
    return _AT in row and _PLANNED in row


def llamafactory_log(lines: Iterable[Mapping[str, Any]]) -> Log:
    """The log that the lines of the file make."""
    planned = None
    rows = []
    for line in lines:
        # A line of an evaluation of a named set, or the closing one, has nothing but its place.
        if not any(name in line for name in (keys.LOSS, "eval_loss", "predict_loss")):
            continue
        values = {_NAMES.get(name, name): value for name, value in line.items() if value is not None}
        total = values.pop(_PLANNED, None)
        row = trainer_row({**values, keys.STEP: values.pop(_AT, None)})
        if row is not None:
            rows.append(row)
            planned = total if isinstance(total, int) and not isinstance(total, bool) and total > 0 else planned
    return trainer_log(rows, planned, _OF_LLAMAFACTORY)
