"""Logs that are text: tables, LLaMA-Factory's ``trainer_log.jsonl``, whose names are its own, and printed dicts.

Tables are Lightning's ``metrics.csv``, what W&B exports, and any log that somebody saved as CSV. Among the lines that a
training printed are the Trainer's dicts, and the bar of progress, which knows the step.
"""

from __future__ import annotations

import ast
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.file import beside, clip, read_bytes, read_text
from ko_cpt_callbacks.run.log.row import (
    CALL_NAMES,
    STEP_NAMES,
    Log,
    LogNote,
    trainer_log,
    trainer_row,
    trainer_rows,
)
from ko_cpt_callbacks.run.observation import count_from_one
from ko_cpt_callbacks.run.rows import eval_prefixes, is_closing, number_in, whole_number

__all__ = ["FILE", "llamafactory_log", "of_llamafactory", "printed_log", "read_printed", "read_table"]

_DELIMITERS: Final = ",;\t"
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
    step = next((name for name in (*STEP_NAMES, *CALL_NAMES) if name in names), None)
    if step is None:
        raise UnreadableRunError(f"{path}:1: found {_columns(names)}; {_EXPECTED}")
    names, note = _one_run(names)
    twice = next((name for name, count in Counter(names).items() if name and count > 1), None)
    if twice is not None:
        raise UnreadableRunError(f"{path}:1: found the column {clip(twice)} twice; {_EXPECTED}")
    rows = [row for row in trainer_rows(_rows(path, names, lines)) if len(row) > 1]
    if not rows:
        raise UnreadableRunError(f"{path}: found no row with a step and a number; {_EXPECTED}")
    calls = _CALLS if step in CALL_NAMES and not any("global_step" in name for name in names) else None
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
            planned = count_from_one(total) or planned
    return trainer_log(rows, planned, _OF_LLAMAFACTORY)


_DICT: Final = re.compile(r"\{\s*['\"][^{}\r\n]{1,20000}\}")
# A bar without a description: "Map: 100%|…" is none of the Trainer's.
_BAR: Final = re.compile(r"(?:^|[\r\n]|\x1b\[[A-Z0-9]*)[ ]{0,3}\d{1,3}%\|[^|\r\n]*\|\s*(\d{1,12})/(\d{1,12}) \[")
_STATE: Final = re.compile(r"\s*[{\[]\s*(?:\"|$)")
_WORDS: Final = {"nan": math.nan, "inf": math.inf, "NaN": math.nan, "Infinity": math.inf}
_ROUNDED: Final = LogNote("log-printed-digits")
_FROM_EPOCHS: Final = LogNote("log-epochs")
_COUNTED: Final = LogNote("log-counted")
_SEVERAL: Final = LogNote("log-several-trainings")


@dataclass(frozen=True, slots=True)
class _Printed:
    """A dict, and the bar's counts around it: the last before it, the first after it."""

    row: dict[str, Any]
    before: tuple[int, int] | None = None
    after: tuple[int, int] | None = None


def read_printed(path: Path) -> Log | None:
    """The rows of a captured output; ``None`` for JSON, which may be a state under another name.

    Raises:
        UnreadableRunError: If no dict of the Trainer is in it.
    """
    text = read_bytes(path).decode("utf-8", "replace").removeprefix("\ufeff")
    if _STATE.match(text):
        return None
    log = printed_log(text)
    if log is None and not path.suffix:
        return None
    if log is None:
        raise UnreadableRunError(
            f"{path}: found no line like {{'loss': 2.5, 'epoch': 0.1}}, expected a training's output; {beside(path)}"
        )
    return log


def printed_log(text: str) -> Log | None:
    """The log that a text holds; ``None`` where it holds no row of a Trainer."""
    trainings = _trainings(_printed(text))
    if not trainings:
        return None
    found = trainings[-1]
    steps, planned, note = _steps(found)
    rows = [{**item.row, keys.STEP: step} for item, step in zip(found, steps, strict=True)]
    return trainer_log(rows, planned, note, _SEVERAL if len(trainings) > 1 else None, _ROUNDED)


def _printed(text: str) -> Iterator[_Printed]:
    bars = [(match.start(), (int(match[1]), int(match[2]))) for match in _BAR.finditer(text)]
    place = 0
    for match in _DICT.finditer(text):
        row = _row(match[0])
        if row is None or not (keys.LOSS in row or eval_prefixes(row) or is_closing(row)):
            continue
        while place < len(bars) and bars[place][0] < match.start():
            place += 1
        before = bars[place - 1][1] if place else None
        yield _Printed(row, before, bars[place][1] if place < len(bars) else None)


def _row(text: str) -> dict[str, Any] | None:
    """A printed dict of plain values; numbers that were printed as texts are numbers."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not isinstance(tree, ast.Dict):
        return None
    found: dict[str, Any] = {}
    for name, node in zip(tree.keys, tree.values, strict=True):
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            return None
        sign = 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            sign, node = -1, node.operand
        if isinstance(node, ast.Name) and node.id in _WORDS:
            found[name.value] = sign * _WORDS[node.id]
        elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and sign == -1:
            found[name.value] = -node.value
        elif isinstance(node, ast.Constant):
            number = number_in(node.value) if isinstance(node.value, str) else None
            found[name.value] = node.value if number is None else number
    return found


def _trainings(printed: Iterator[_Printed]) -> list[list[_Printed]]:
    """The trainings of an output: one begins where a training row follows a closing one."""
    trainings: list[list[_Printed]] = []
    closed = True
    for item in printed:
        if closed and (not trainings or keys.LOSS in item.row):
            trainings.append([])
            closed = False
        trainings[-1].append(item)
        closed = closed or is_closing(item.row)
    return trainings


def _steps(printed: Sequence[_Printed]) -> tuple[list[int], int | None, LogNote | None]:
    """The step of each row, the planned steps where the bar says them, and what is to be known of it."""
    given = [step for item in printed if (step := whole_number(item.row.get(keys.STEP))) is not None]
    if len(given) == len(printed):
        return given, None, None
    total = _total(printed)
    for found, note in ((_from_bar(printed, total), None), (_from_epochs(printed, total), _FROM_EPOCHS)):
        if found is not None:
            return found, total, note
    counted, steps = 0, []
    for item in printed:
        counted += keys.LOSS in item.row
        steps.append(counted)
    return steps, None, _COUNTED


def _total(printed: Sequence[_Printed]) -> int | None:
    """The bar's planned steps: those of the bar that is drawn anew below the first training row."""
    first = next((item for item in printed if keys.LOSS in item.row), None)
    bar = first and (first.after or first.before)
    return bar[1] if bar else None


def _from_bar(printed: Sequence[_Printed], total: int | None) -> list[int] | None:
    """Steps as the bar shows them below each row, which is drawn anew at once; None where that is no order of steps.

    Output and bar come by two ways: where the first was buffered, the bar's counts say nothing of its rows.
    """
    steps: list[int] = []
    for item in printed:
        bars = [bar for bar in (item.after, item.before) if bar and bar[1] == total]
        if not bars:
            return None
        steps.append(bars[0][0])
    return steps if _rising(printed, steps) else None


def _from_epochs(printed: Sequence[_Printed], total: int | None) -> list[int] | None:
    """Steps by the share of the epochs of a finished run."""
    whole = printed[-1].row.get(keys.EPOCH) if is_closing(printed[-1].row) else None
    epochs = [item.row.get(keys.EPOCH) for item in printed]
    if total is None or not isinstance(whole, (int, float)) or not 0 < whole < math.inf:
        return None
    if not all(isinstance(epoch, (int, float)) and 0 <= epoch <= whole for epoch in epochs):
        return None
    steps = [round(total * epoch / whole) for epoch in epochs if epoch is not None]
    return steps if _rising(printed, steps) else None


def _rising(printed: Sequence[_Printed], steps: Sequence[int]) -> bool:
    trained = [step for item, step in zip(printed, steps, strict=True) if keys.LOSS in item.row]
    return all(a < b for a, b in pairwise(trained)) and all(a <= b for a, b in pairwise(steps))
