"""What of an earlier record still holds when training begins again, and what a Trainer's state has beyond its end.

A record stops early where its writes failed until the process died, or where its file was lost. The state of a
checkpoint that stands there for another reason is recognized: another run's has other numbers at the steps that both
have, and what an earlier attempt left is in the record, superseded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.file import STATE_FILE
from ko_cpt_callbacks.run.fold import RECORD_BEHIND
from ko_cpt_callbacks.run.log.row import Log
from ko_cpt_callbacks.run.rows import NONFINITE, line_of, live_rows, own_rows
from ko_cpt_callbacks.run.trainer_state import read_state_rows

__all__ = [
    "Record", "agree", "checkpoint_states", "identity", "last_attempt", "later_state", "numbers_of",
    "plan_attempt",
]  # fmt: skip


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
    log_history = own_rows(log_history)
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


_CHECKPOINT: Final = "checkpoint-"
_LOGGED: Final = (keys.KIND_TRAIN, keys.KIND_EVAL, keys.KIND_END)


def later_state(record: Path, lines: Sequence[Mapping[str, Any]]) -> Log | None:
    """What the states beside a record know after its end: a set-up row that says so, then their rows.

    Args:
        record: The ``rows.jsonl``.
        lines: All of its lines.

    Returns:
        None where they know nothing more.
    """
    folder = record.absolute().parent
    folder = folder.parent if folder.name == keys.FOLDER else folder
    found = None
    for state in (folder / STATE_FILE, _latest(folder)):
        if state is not None and state.is_file():
            more = _beyond(state.relative_to(folder).as_posix(), _read(state), lines)
            if more is not None and (found is None or _last(more.rows) > _last(found.rows)):
                found = more
    return found


def checkpoint_states(folder: Path) -> list[Path]:
    """The state files of a run's checkpoints, latest last."""
    numbered = []
    for child in folder.glob(f"{_CHECKPOINT}*"):
        number = child.name.removeprefix(_CHECKPOINT)
        if number.isdecimal() and (child / STATE_FILE).is_file():
            numbered.append((int(number), child / STATE_FILE))
    return [state for _, state in sorted(numbered)]


def _latest(folder: Path) -> Path | None:
    try:
        return next(reversed(checkpoint_states(folder)), None)
    except OSError:
        return None


def _read(path: Path) -> Log:
    try:
        return read_state_rows(path)
    except (UnreadableRunError, OSError):  # the record stands, whatever became of the state
        return Log([])


def _beyond(name: str, state: Log, lines: Sequence[Mapping[str, Any]]) -> Log | None:
    live = [line for line in live_rows(lines) if line.get(keys.KIND) in _LOGGED]
    end = _last(live)
    theirs = [line for row in own_rows(state.rows) for line in line_of(row, last_attempt(lines))]
    known = {str(identity(line)) for line in live}
    later = [line for line in theirs if _step(line) >= end and str(identity(line)) not in known]
    if not later:
        return None
    ours, restored = numbers_of(live), numbers_of(theirs)
    common = ours.keys() & restored.keys()
    if (live and not common) or not all(agree(ours[one], restored[one]) for one in common):
        return None
    if all(_superseded(line, lines) for line in later):
        return None
    note = {
        keys.KIND: keys.KIND_SETUP,
        keys.ATTEMPT: last_attempt(lines),
        keys.STEP: end,
        keys.KIND_SETUP: RECORD_BEHIND,
        "record_step": end,
        "state_step": _last(later),
        "rows": len(later),
        "file": name,
    }
    return Log([note, *later], state.planned_steps)


def _superseded(line: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a record has a row of a state already: it is what a resume gave up."""
    same = [other for other in lines if identity(other) == identity(line)]
    numbers = [found for side in ([line], same) for found in numbers_of(side).values()]
    return bool(same) and (len(numbers) < 2 or agree(*numbers))


def _last(lines: Sequence[Mapping[str, Any]]) -> int:
    return max(map(_step, lines), default=0)


def _step(line: Mapping[str, Any]) -> int:
    step = line.get(keys.STEP)
    return step if isinstance(step, int) else 0
