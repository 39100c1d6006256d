"""Other tools' names and points to rows as the Trainer logs them."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.run.rows import EVALUATION, whole_number

__all__ = [
    "CALL_NAMES", "STEP_NAMES", "Log", "LogNote", "Point", "planned_in", "rows_of_points", "trainer_log", "trainer_row",
    "trainer_rows",
]  # fmt: skip

# (name, value, step), in the order in which they were logged.
Point: TypeAlias = tuple[str, Any, int]

STEP_NAMES: Final = ("train/global_step", "trainer/global_step", "global_step", "step")
# W&B's and trackio's own counter of calls, where no optimizer step stands beside it.
CALL_NAMES: Final = ("_step", "Step")
_TRAIN_PART: Final = re.compile(r"(?:train|training)/")
_SET_PART: Final = re.compile(r"(eval|test|val|valid|validation|dev)/")
_RUNTIME: Final = f"_{keys.RUNTIME}"
_CLOSING: Final = re.compile(
    r"train_(?:runtime|loss|samples_per_second|steps_per_second|tokens_per_second)$|total_flos$"
)
_RATES: Final = re.compile(r"lr$|lr-\w+(?:/pg1)?$")
# Lightning names a training loss itself; of its two forms, that of the step.
_OWN_LOSSES: Final = ("train_loss_step", "train_loss")


@dataclass(frozen=True, slots=True)
class LogNote:
    """What a reader has to know of a log, as a line of ``[page]`` in the catalogue with its values."""

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Log:
    """What a Trainer's state, or another tool's log, holds; what it does not say is ``None``.

    Args:
        rows: Rows as the Trainer logs them, in their order.
        planned_steps: The last step that the run was to have.
        notes: What a reader has to know of it: what it does not hold, what else was there.
        global_step: The step that a state stands at.
        best_checkpoint: Path of its best checkpoint.
        ended_by: What asked the run to end before its planned last step: a callback's class, or
            ``should_training_stop`` where no callback that is known says so.
    """

    rows: Sequence[Mapping[str, Any]]
    planned_steps: int | None = None
    notes: tuple[LogNote, ...] = ()
    global_step: int | None = None
    best_checkpoint: str | None = None
    ended_by: str | None = None


def trainer_name(name: str) -> str:
    """The Trainer's name of a value that a tracker shows under another one.

    >>> trainer_name("train/loss"), trainer_name("eval/ko_loss"), trainer_name("lr-AdamW")
    ('loss', 'eval_ko_loss', 'learning_rate')
    """
    if train := _TRAIN_PART.match(name):
        name = name[train.end() :]
    elif part := _SET_PART.match(name):
        name = f"{part[1]}_{name[part.end() :]}"
    return keys.LEARNING_RATE if _RATES.match(name) else name


def trainer_row(values: Mapping[str, Any], step: int | None = None) -> dict[str, Any] | None:
    """A row with the Trainer's names; ``None`` where no step is known, neither as ``step`` nor among the values."""
    if step is None:
        given = (whole_number(values.get(name)) for name in (*STEP_NAMES, *CALL_NAMES))
        step = next((value for value in given if value is not None), None)
    if step is None:
        return None
    named = {trainer_name(name): value for name, value in values.items() if name not in (*STEP_NAMES, *CALL_NAMES)}
    return {**named, keys.STEP: step}


def trainer_rows(logged: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a tool that counts its calls: what was logged without an optimizer step, where others have one, is out.

    The counter is another one: such a row would stand at a step at which it was not logged.
    """
    values = list(logged)
    stepped = [one for one in values if any(whole_number(one.get(name)) is not None for name in STEP_NAMES)]
    other = _shadowed({name for one in values for name in one})
    own = ({name: value for name, value in one.items() if name not in other} for one in stepped or values)
    return [row for one in own if (row := trainer_row(one)) is not None]


def _shadowed(names: Collection[str]) -> set[str]:
    """Names that are the Trainer's already, where a tracker has its value under another: ``loss`` by ``train/loss``."""
    return {trainer_name(name) for name in names if trainer_name(name) != name} & set(names)


def rows_of_points(points: Sequence[Point]) -> Iterator[dict[str, Any]]:
    """Rows from values that were logged one by one: a row ends where its step or its kind does, or a name comes again.

    A training row, the evaluation of a set and the closing row of one step are rows of their own, as the Trainer logs
    them.
    """
    other = _shadowed({name for name, *_ in points})
    named = [(trainer_name(name), value, step) for name, value, step in points if name not in other]
    prefixes = sorted({name.removesuffix(_RUNTIME) for name, _, _ in named if name.endswith(_RUNTIME)}, key=len)
    row: dict[str, Any] = {}
    kind = ""
    for name, value, step in named:
        own = _kind(name, prefixes)
        if row and (row[keys.STEP] != step or name in row or (own and kind and own != kind)):
            yield row
            row, kind = {}, ""
        kind = own or kind
        row.update({keys.STEP: step, name: value})
    if row:
        yield row


def _kind(name: str, prefixes: Sequence[str]) -> str:
    """Of which row a value is: of a set's evaluation, of the closing row, of training; empty: of any (the epoch)."""
    if name == keys.EPOCH:
        return ""
    if _CLOSING.match(name):
        return keys.KIND_END
    if EVALUATION.match(name):
        return next((prefix for prefix in reversed(prefixes) if name.startswith(f"{prefix}_")), keys.KIND_EVAL)
    return keys.KIND_TRAIN


def trainer_log(rows: Iterable[Mapping[str, Any]], planned_steps: int | None = None, *notes: LogNote | None) -> Log:
    """The log that rows make: a loss under a tool's own name is the Trainer's, and what a resume trained again counts.

    Rows have the Trainer's names and a step each; a note that is ``None`` is left out.
    """
    kept = [dict(row) for row in rows]
    if not any(keys.LOSS in row or f"{keys.TRAIN_PREFIX}_{keys.RUNTIME}" in row for row in kept):
        own = next((name for name in _OWN_LOSSES if any(name in row for row in kept)), None)
        for row in kept:
            if own in row:
                row[keys.LOSS] = row.pop(own)
            for name in _OWN_LOSSES:  # the mean over an epoch is no loss of a step
                row.pop(name, None)
    again = math.inf
    for row in reversed(kept):
        trained = keys.LOSS in row
        row[keys.SUPERSEDED] = row[keys.STEP] >= again if trained else row[keys.STEP] > again
        if trained:
            again = min(again, row[keys.STEP])
    counting = tuple(row for row in kept if not row.pop(keys.SUPERSEDED))
    lost = len(kept) - len(counting)
    back = LogNote("log-resumed", {"rows": lost}) if lost else None
    return Log(counting, planned_steps, tuple(note for note in (*notes, back) if note is not None))


def planned_in(config: Mapping[str, Any]) -> int | None:
    """The planned steps in the arguments that a tracker kept; ``None`` where they plan epochs."""
    value = config.get("max_steps")
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    return whole_number(value) or None
