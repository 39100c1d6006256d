"""Where a record ends before its run did: what the Trainer's own state, beside it, has after that.

A record stops early where its writes failed until the process died, or where its file was lost. The state of a
checkpoint that stands there for another reason is told apart: another run's has other numbers at the steps that both
have, and what an earlier attempt left is in the record, superseded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.readers.attempt import agree, identity, last_attempt, line_of, numbers_of
from ko_cpt_callbacks.readers.rows import LogHabits
from ko_cpt_callbacks.readers.rows_file import live_rows
from ko_cpt_callbacks.readers.text_file import STATE_FILE
from ko_cpt_callbacks.readers.trainer_state import StateRows, read_state_rows
from ko_cpt_callbacks.rules.note.record_behind import RecordBehind

__all__ = ["Beyond", "beyond", "checkpoint_states"]

_CHECKPOINT: Final = "checkpoint-"
_LOGGED: Final = (keys.KIND_TRAIN, keys.KIND_EVAL, keys.KIND_END)


@dataclass(frozen=True, slots=True)
class Beyond:
    """What a state knows after the end of a record.

    Args:
        rows: A set-up row that says so, then the state's rows.
        planned_steps: The last step that the run was to have, as the state says.
    """

    rows: tuple[Mapping[str, Any], ...]
    planned_steps: int | None


def beyond(record: Path, lines: Sequence[Mapping[str, Any]]) -> Beyond | None:
    """What the states beside a record know after its end; None where they know nothing more.

    Args:
        record: The ``rows.jsonl``.
        lines: All of its lines.
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


def _read(path: Path) -> StateRows:
    try:
        return read_state_rows(path)
    except (UnreadableRunError, OSError):  # the record stands, whatever became of the state
        return StateRows([])


def _beyond(name: str, state: StateRows, lines: Sequence[Mapping[str, Any]]) -> Beyond | None:
    live = [line for line in live_rows(lines) if line.get(keys.KIND) in _LOGGED]
    end = _last(live)
    habits = LogHabits.of(state.rows)
    theirs = [line for row in state.rows if habits.own(row) for line in line_of(row, last_attempt(lines))]
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
        keys.KIND_SETUP: RecordBehind().code,
        "record_step": end,
        "state_step": _last(later),
        "rows": len(later),
        "file": name,
    }
    return Beyond((note, *later), state.planned_steps)


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
