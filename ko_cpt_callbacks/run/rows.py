"""Rows of ``log_history`` or of ``rows.jsonl``, this package's own record of a run, to observations.

A row is read for the keys it knows; trackers, TRL and others add their own, and those are left alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from numbers import Real
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.file import BOM, clip, decoded, read_bytes
from ko_cpt_callbacks.run.kind import kind_of_keys
from ko_cpt_callbacks.run.observation import (
    EndObservation,
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
)

__all__ = [
    "EVALUATION", "NONFINITE", "eval_prefixes", "is_closing", "line_of", "live_rows", "number_in", "observations",
    "observations_of", "own_rows", "read_rows", "timed_prefixes", "whole_number",
]  # fmt: skip

NONFINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_WORDS: Final = {"nan": math.nan, "infinity": math.inf, "-infinity": -math.inf, "inf": math.inf, "-inf": -math.inf}
_AS_TEXT: Final = re.compile(r"\s*[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,4})?\s*", re.ASCII)
_RUNTIME: Final = f"_{keys.RUNTIME}"
_LOSS: Final = f"_{keys.LOSS}"
_EXACT_LOSS: Final = f"_{keys.EXACT_LOSS}"
# What sets are called: the Trainer's `eval` and `test`, and other tools' names.
EVALUATION: Final = re.compile(r"(eval|evaluation|test|val|valid|validation|dev|held_?out|predict)_")
_TRAIN_LOSS: Final = keys.key(keys.TRAIN_PREFIX, keys.LOSS)
_TRAIN_RUNTIME: Final = keys.key(keys.TRAIN_PREFIX, keys.RUNTIME)
_ENVELOPE: Final = frozenset(
    {keys.KIND, keys.KIND_SETUP, keys.ATTEMPT, keys.SUPERSEDED, keys.MODE, keys.STEP, keys.EPOCH}
)


def number_in(text: str) -> float | None:
    """The number that a text is, NaN and infinities among them; None for any other text.

    >>> number_in("2.5e-1"), number_in("nan"), number_in("1_000")
    (0.25, nan, None)
    """
    return float(text) if _AS_TEXT.fullmatch(text) else _WORDS.get(text.strip().lower())


def _number(value: object) -> float | None:
    """A value as a number, also where it is a text (``"2.5"``, ``"NaN"``); no truth value, no other text."""
    if isinstance(value, str):
        return number_in(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1e308: no count or loss is that large
        return math.inf


def whole_number(value: object) -> int | None:
    """A value as a whole number, not negative. JSON writers may have made it ``10.0``; a text is none."""
    number = None if isinstance(value, str) else _number(value)
    if number is None or not math.isfinite(number) or number < 0 or not number.is_integer():
        return None
    return int(number)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def timed_prefixes(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The prefixes of the evaluations whose ``<prefix>_runtime`` is in a row: the Trainer writes one with each.

    A runtime with nothing else under its prefix is somebody's stopwatch.
    """
    timed = [name.removesuffix(_RUNTIME) for name in row if name.endswith(_RUNTIME)]
    return tuple(
        prefix
        for prefix in timed
        if prefix not in ("", keys.TRAIN_PREFIX)
        and any(name.startswith(f"{prefix}_") and name != f"{prefix}{_RUNTIME}" for name in row)
    )


def eval_prefixes(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The prefixes (``eval``, ``eval_ko``, ``test``) of the evaluations in a row, in the row's order.

    The Trainer writes a ``<prefix>_runtime`` with every evaluation, which is the surest sign: a name that
    ends in ``_loss`` may be anything. Only rows without one are read by their ``<prefix>_loss``, and only where the
    prefix is the name of an evaluation: ``aux_loss`` and ``z_loss`` are parts of a training loss. The Trainer's closing
    row is none of those: what stands beside its ``train_loss`` (TRL's ``aux_loss``, ``policy_loss``) is of training.

    >>> eval_prefixes({"eval_ko_loss": 2.0, "eval_ko_runtime": 1.0, "eval_ko_aux_loss": 0.1, "step": 10})
    ('eval_ko',)
    """
    found = timed_prefixes(row)
    if found or keys.LOSS in row or _TRAIN_LOSS in row or is_closing(row):
        return found
    named = [
        name.removesuffix(_LOSS)
        for name in row
        if name.endswith(_LOSS) and not name.endswith(_EXACT_LOSS) and EVALUATION.match(name)
    ]
    # eval_aux_loss beside eval_loss is a part of that loss, not a set called eval_aux.
    return tuple(p for p in named if not any(p != q and p.startswith(f"{q}_") for q in named))


def is_closing(row: Mapping[str, Any]) -> bool:
    """Whether a row is the Trainer's last.

    Training rows carry ``train_runtime`` too under ``include_num_input_tokens_seen``: those have a loss.
    """
    return _TRAIN_RUNTIME in row and keys.LOSS not in row


def own_rows(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The Trainer's own rows of one log, as far as it shows.

    ``Trainer.log`` is open to everyone: a ``compute_loss`` may log its parts with it, a callback its own evaluation.
    The Trainer's evaluations come with their runtime where any does, and its training rows with their learning rate
    where rows without one stand between them; where they only follow, the log went on without. Lines of ``rows.jsonl``
    say themselves what they are and tell nothing of others.

    >>> own_rows([{"eval_loss": 2.5, "eval_runtime": 1.0, "step": 7}, {"eval_loss": 0.3, "step": 7}])
    [{'eval_loss': 2.5, 'eval_runtime': 1.0, 'step': 7}]
    """
    log = list(rows)
    bare = [row for row in log if keys.KIND not in row]
    timed, rated = any(timed_prefixes(row) for row in bare), _rated_again(bare)

    def own(row: Mapping[str, Any]) -> bool:
        if keys.KIND in row or timed_prefixes(row):
            return True
        if keys.LOSS in row:
            return keys.LEARNING_RATE in row or keys.GRAD_NORM in row or not rated
        prefixes = eval_prefixes(row)
        measured = (keys.key(prefix, suffix) for prefix in prefixes for suffix in keys.EVAL_SUFFIXES)
        return not prefixes or not timed or any(name in row for name in measured)

    return [row for row in log if own(row)]


def _rated_again(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a training row has a learning rate after one that has none."""
    without = False
    for row in rows:
        if keys.LOSS in row and keys.LEARNING_RATE in row:
            if without:
                return True
        elif keys.LOSS in row and keys.GRAD_NORM not in row:
            without = True
    return False


# How a field of an observation is read, by its type. The fields have the names of the row's keys.
_READERS: Final[Mapping[str, Callable[[object], Any]]] = {
    "float | None": _number, "int | None": whole_number, "str | None": _text,
}  # fmt: skip
_OF_TRAINING, _OF_EVALUATION = (
    {one.name: _READERS[str(one.type)] for one in fields(kind) if one.type in _READERS}
    for kind in (TrainObservation, EvalObservation)
)


def _train(row: Mapping[str, Any], step: int) -> TrainObservation:
    values = {name: read(row.get(name)) for name, read in _OF_TRAINING.items()}
    tokens = (whole_number(row.get(name)) for name in keys.INPUT_TOKENS)
    values["input_tokens"] = next((count for count in tokens if count is not None), None)
    return TrainObservation(step, kind=kind_of_keys(tuple(row)), **values)


def _evaluation(row: Mapping[str, Any], step: int, prefix: str) -> EvalObservation:
    values = {name: read(row.get(keys.key(prefix, name))) for name, read in _OF_EVALUATION.items()}
    values[keys.EPOCH] = _number(row.get(keys.EPOCH))
    return EvalObservation(step, split=prefix, kind=kind_of_keys(tuple(row)), **values)


def observations(row: Mapping[str, Any]) -> tuple[Observation, ...]:
    """What a row holds.

    Args:
        row: A dict of ``state.log_history``, or a line of ``rows.jsonl`` (the same keys and a kind).

    Returns:
        None for a row without a usable step, a superseded row, a checkpoint's row, an evaluation made because training
        resumed, and a row of numbers that are none of ours; a row that holds a training loss and evaluations gives one
        observation each.

    >>> observations({"loss": 2.5, "step": 10})[0].loss
    2.5
    """
    step = whole_number(row.get(keys.STEP))
    kind = row.get(keys.KIND)
    if step is None or kind == keys.KIND_CHECKPOINT or row.get(keys.SUPERSEDED) is True:
        return ()
    if kind == keys.KIND_SETUP:
        values = {name: value for name, value in row.items() if name not in _ENVELOPE}
        return (SetupObservation(step, _text(row.get(keys.KIND_SETUP)) or "", values),)
    found: list[Observation] = []
    if keys.LOSS in row:
        found.append(_train(row, step))
    # A run that was never interrupted has no evaluation where this one resumed: it is no point of the curve.
    prefixes = [prefix for prefix in eval_prefixes(row) if row.get(keys.key(prefix, keys.AT_RESUME)) is not True]
    found.extend(_evaluation(row, step, prefix) for prefix in prefixes)
    if kind == keys.KIND_END or is_closing(row):
        found.append(EndObservation(step, _number(row.get(_TRAIN_LOSS))))
    return tuple(found)


def observations_of(rows: Iterable[Mapping[str, Any]]) -> tuple[Observation, ...]:
    """What many rows of one log hold, in their order; rows that are not the Trainer's own hold nothing."""
    return tuple(seen for row in own_rows(rows) for seen in observations(row))


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Every line of a ``rows.jsonl``, superseded ones included.

    A last line that was cut off (the run was killed while writing) is left out: its writer had not
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


def line_of(row: Mapping[str, Any], attempt: int) -> list[dict[str, Any]]:
    """The lines of ``rows.jsonl`` for one row of ``log_history``: one per evaluation or training row in it."""
    envelope = {keys.ATTEMPT: attempt, keys.STEP: row.get(keys.STEP)}
    found: list[dict[str, Any]] = []
    prefixes = eval_prefixes(row)
    if keys.LOSS in row:
        found.append({keys.KIND: keys.KIND_TRAIN, **envelope})
    found.extend({keys.KIND: keys.KIND_EVAL, **envelope, keys.SPLIT: prefix} for prefix in prefixes)
    if not found and is_closing(row):
        found.append({keys.KIND: keys.KIND_END, **envelope})
    # A row with several parts (none of the Trainer's own) would repeat its numbers: they go to the first line.
    return [{**line, **row} if index == 0 else line for index, line in enumerate(found)]
