"""LLaMA-Factory's ``trainer_log.jsonl``: a line a row, under names of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.run.log.row import Log, LogNote, trainer_log, trainer_row

__all__ = ["FILE", "llamafactory_log", "of_llamafactory"]

FILE: Final = "trainer_log.jsonl"
_STEP: Final = "current_steps"
_PLANNED: Final = "total_steps"
_NAMES: Final = {
    "lr": keys.LEARNING_RATE,
    "reward": "reward",
    "accuracy": "rewards/accuracies",
    "total_tokens": keys.INPUT_TOKENS[1],
}
_LACKS: Final = LogNote("log-llamafactory")


def of_llamafactory(row: Mapping[str, Any]) -> bool:
    """Whether a line is one of this file."""
    return _STEP in row and _PLANNED in row


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
        row = trainer_row({**values, keys.STEP: values.pop(_STEP, None)})
        if row is not None:
            rows.append(row)
            planned = total if isinstance(total, int) and not isinstance(total, bool) and total > 0 else planned
    return trainer_log(rows, planned, _LACKS)
