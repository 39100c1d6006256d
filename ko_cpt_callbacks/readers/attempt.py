"""What of an earlier record still holds when training begins, anew or from a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.readers.rows import NONFINITE, LogHabits, eval_prefixes, is_closing
from ko_cpt_callbacks.readers.rows_file import live_rows

__all__ = ["Record", "agree", "identity", "last_attempt", "line_of", "numbers_of", "plan_attempt"]


@dataclass(frozen=True, slots=True)
class Record:
    """The lines of ``rows.jsonl`` as they should stand when an attempt begins.

    Attributes:
        lines: Every line, superseded ones marked; none is ever dropped.
        live: Those that count, in the order they are folded.
        foreign: Where the record was another run's: how many lines were superseded for that (``rows``), and the first
            step that both know and not with the same numbers (``first_step``; None: they have no step in common).
    """

    lines: tuple[dict[str, Any], ...]
    live: tuple[dict[str, Any], ...]
    foreign: Mapping[str, Any] | None = None


# Numbers of one row in two files of one run are the same; what rounds it on its way (float32) moves it by less.
# Chosen, not measured.
_SAME: Final = 1e-6
_TRAINED: Final = (keys.LOSS, keys.GRAD_NORM, keys.LEARNING_RATE)
# Of rows that a record did not see itself but took from a checkpoint.
_BEFORE_THE_RECORD: Final = 0


def last_attempt(lines: Iterable[Mapping[str, Any]]) -> int:
    """The highest attempt in a record; 0 in an empty one."""
    numbers = [line.get(keys.ATTEMPT) for line in lines]
    return max((number for number in numbers if isinstance(number, int)), default=0)


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


def plan_attempt(
    earlier: Sequence[Mapping[str, Any]],
    log_history: Sequence[Mapping[str, Any]],
    start_step: int,
    session_attempt: int | None,
) -> Record:
    """The record with which an attempt begins.

    Rows beyond the step a run resumes from never happened as far as the resumed run is concerned: they are marked
    superseded and kept; so is the row that ended an earlier attempt. So is, from the first step on whose numbers the
    checkpoint has otherwise, a record that is another run's; all of it where no row agrees. Rows that the checkpoint
    knows and the record does not (the callback was added later, or the folder was lost) are taken from the checkpoint,
    as attempt 0.

    Args:
        earlier: Lines of the existing ``rows.jsonl``; empty where there is none.
        log_history: The rows restored from the checkpoint; empty for a fresh start.
        start_step: Step training begins from; 0 for a fresh start.
        session_attempt: The attempt under which this process already evaluated before training, if it did: those
            evaluations are the start of a fresh run.
    """
    lines = [dict(line) for line in earlier]
    for line in lines:
        if line.get(keys.SUPERSEDED) is True:
            continue
        step = line.get(keys.STEP)
        own = session_attempt is not None and line.get(keys.ATTEMPT) == session_attempt
        if own and start_step == 0:
            line.pop(keys.MODE, None)
        elif (
            start_step == 0
            or line.get(keys.MODE) == keys.MODE_EVALUATE
            or line.get(keys.KIND) == keys.KIND_END
            or not isinstance(step, int)
            or step > start_step
        ):
            line[keys.SUPERSEDED] = True
    habits = LogHabits.of(log_history)
    log_history = [row for row in log_history if habits.own(row)]
    foreign = _supersede_foreign(lines, log_history, start_step)
    live = [dict(line) for line in live_rows(lines)]
    known = {identity(line) for line in live}
    missing = [
        line
        for row in log_history
        for line in line_of(row, _BEFORE_THE_RECORD)
        if line[keys.KIND] != keys.KIND_END
        and identity(line) not in known
        and int(row.get(keys.STEP) or 0) <= start_step
    ]
    if missing:
        # Both are in order of time; a stable sort by step keeps a step's training row before its evaluations.
        live = sorted([*live, *missing], key=lambda line: int(line.get(keys.STEP) or 0))
        lines = [line for line in lines if line.get(keys.SUPERSEDED) is True] + live
    return Record(lines=tuple(lines), live=tuple(live), foreign=foreign)


def _supersede_foreign(
    lines: Sequence[dict[str, Any]], log_history: Sequence[Mapping[str, Any]], start_step: int
) -> dict[str, Any] | None:
    """Mark what of a record belongs to another run than the checkpoint; what to say of it."""
    ours = numbers_of(line for line in lines if line.get(keys.SUPERSEDED) is not True)
    restored = [line for row in log_history for line in line_of(row, _BEFORE_THE_RECORD)]
    theirs = {known: found for known, found in numbers_of(restored).items() if known[2] <= start_step}
    common = ours.keys() & theirs.keys()
    differing = {known for known in common if not agree(ours[known], theirs[known])}
    trained = all(any(kind == keys.KIND_TRAIN for kind, _, _ in side) for side in (ours, theirs))
    # One run logs the same steps into both; without one in common they are two.
    if not differing and (common or not trained):
        return None
    first = min((step for _, _, step in differing), default=None)
    begin = 0 if first is None or not common - differing else first
    count = 0
    for line in lines:
        if line.get(keys.SUPERSEDED) is not True and int(line.get(keys.STEP) or 0) >= begin:
            line[keys.SUPERSEDED] = True
            count += 1
    return {"rows": count, "first_step": first}


def numbers_of(lines: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """What the Trainer logged in lines of a record, by kind, set and step; a step may be evaluated twice.

    Of a training row its loss, gradient norm and learning rate (two runs may begin with the same loss), of an
    evaluation its loss; rows without a loss are left out.
    """
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for line in lines:
        kind, split, step = identity(line)
        if kind not in (keys.KIND_TRAIN, keys.KIND_EVAL) or not isinstance(step, int):
            continue
        names = _TRAINED if kind == keys.KIND_TRAIN else (keys.key(str(split), keys.LOSS),)
        if line.get(names[0]) is not None:
            numbers = {name: line[name] for name in names if line.get(name) is not None}
            found.setdefault((kind, str(split), step), []).append(numbers)
    return found


def agree(some: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> bool:
    """Whether one of some rows' numbers are those of one of the others, as far as both have them."""
    return any(all(_same(one[name], other[name]) for name in one.keys() & other) for one in some for other in others)


def _same(one: Any, other: Any) -> bool:
    # NaN and infinities are texts in a record, and may be floats in a state.
    one, other = (NONFINITE.get(value, value) if isinstance(value, str) else value for value in (one, other))
    if not isinstance(one, (int, float)) or not isinstance(other, (int, float)):
        return bool(one == other)
    try:
        return math.isclose(one, other, rel_tol=_SAME) or (math.isnan(one) and math.isnan(other))
    except OverflowError:  # an integer beyond every float
        return bool(one == other)


def identity(line: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """What a line says it is: kind, set and step."""
    return line.get(keys.KIND), line.get(keys.SPLIT), line.get(keys.STEP)
