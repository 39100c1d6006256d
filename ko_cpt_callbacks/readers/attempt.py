"""What of an earlier record still holds when training begins, anew or from a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.readers.rows import LogHabits, eval_prefixes, is_closing
from ko_cpt_callbacks.readers.rows_file import live_rows

__all__ = ["Record", "agree", "identity", "last_attempt", "line_of", "losses_of", "plan_attempt"]


@dataclass(frozen=True, slots=True)
class Record:
    """The lines of ``rows.jsonl`` as they should stand when an attempt begins.

    Attributes:
        lines: Every line, superseded ones marked; none is ever dropped.
        live: Those that count, in the order they are folded.
        foreign: Where the record was another run's: how many lines were superseded for that (``rows``), and the first
            step of which both know a loss and not the same one (``first_step``; None: they have no step in common).
    """

    lines: tuple[dict[str, Any], ...]
    live: tuple[dict[str, Any], ...]
    foreign: Mapping[str, Any] | None = None


# Losses of one row in two files of one run are the same number; what rounds it on its way (float32) moves it by less.
# Chosen, not measured.
_SAME: Final = 1e-6
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
    superseded and kept; so is the row that ended an earlier attempt. So is, from the first step on whose loss the
    checkpoint has otherwise, a record that is another run's; all of it where no loss agrees. Rows that the checkpoint
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
    ours = losses_of(line for line in lines if line.get(keys.SUPERSEDED) is not True)
    restored = [line for row in log_history for line in line_of(row, _BEFORE_THE_RECORD)]
    theirs = {known: found for known, found in losses_of(restored).items() if known[2] <= start_step}
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


def losses_of(lines: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, int], list[Any]]:
    """The Trainer's own losses in lines of a record, by kind, set and step; a step may be evaluated twice."""
    found: dict[tuple[str, str, int], list[Any]] = {}
    for line in lines:
        kind, split, step = identity(line)
        name = keys.LOSS if kind == keys.KIND_TRAIN else keys.key(str(split), keys.LOSS)
        if kind in (keys.KIND_TRAIN, keys.KIND_EVAL) and isinstance(step, int) and line.get(name) is not None:
            found.setdefault((kind, str(split), step), []).append(line[name])
    return found


def agree(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether one of some losses is one of the others."""
    return any(_same(one, other) for one in some for other in others)


def _same(one: Any, other: Any) -> bool:
    numbers = isinstance(one, (int, float)) and isinstance(other, (int, float))
    if not numbers:
        return bool(one == other)  # NaN and infinities are texts in a record, and may be floats in a state
    try:
        return math.isclose(one, other, rel_tol=_SAME) or (math.isnan(one) and math.isnan(other))
    except OverflowError:  # an integer beyond every float
        return bool(one == other)


def identity(line: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """What a line says it is: kind, set and step."""
    return line.get(keys.KIND), line.get(keys.SPLIT), line.get(keys.STEP)
