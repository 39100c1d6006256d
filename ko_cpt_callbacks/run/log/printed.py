"""What a training printed: the Trainer's dicts among other lines, and the bar of progress, which knows the step."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.file import beside, read_bytes
from ko_cpt_callbacks.run.log.row import Log, LogNote, step_of, trainer_log
from ko_cpt_callbacks.run.rows import eval_prefixes, is_closing, number_in

__all__ = ["printed_log", "read_printed"]

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
    given = [step for item in printed if (step := step_of(item.row.get(keys.STEP))) is not None]
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
