"""A finished or running Trainer's ``trainer_state.json``, or one of its metrics files, to rows."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError, near_miss
from ko_cpt_callbacks.run.file import BOM, STATE_FILE, beside, clip, name_of, read_text
from ko_cpt_callbacks.run.log.row import Log
from ko_cpt_callbacks.run.rows import is_closing

__all__ = ["read_state_rows"]

_LOG_HISTORY: Final = "log_history"
_MAX_STEPS: Final = "max_steps"
_GLOBAL_STEP: Final = "global_step"
_CALLBACKS: Final = "stateful_callbacks"
_PATIENCE: Final = "early_stopping_patience"
_BEST: Final = "best_model_checkpoint"
_METRICS_KEY: Final = re.compile(rf"[^/]+_{keys.RUNTIME}")
_EXPECTED: Final = f'expected a {STATE_FILE} (an object with the list "{_LOG_HISTORY}")'
_SHOWN_KEYS: Final = 4
_SEPARATOR: Final = re.compile(r"[\s,:\[\]{}]")
# How a state is closed after its last whole row, so that it is JSON again.
_CLOSING: Final = "]}"
# A key that only this kind of file has -> what the file is.
_OTHER_FILES: Final = {
    "train/loss": "a tracker's summary",
    "_wandb": "a tracker's summary",
    "watch": "this package's run.json, which holds no rows",
    "architectures": "a model's config.json",
    "model_type": "a model's config.json",
    "peft_type": "a PEFT adapter's config",
    "added_tokens": "a tokenizer",
    "tokenizer_class": "a tokenizer's config",
    "weight_map": "an index of weights",
}


def read_state_rows(path: str | Path) -> Log:
    """The rows of a Trainer's state file, and how long the run was to be.

    A metrics file (``all_results.json``, ``eval_results.json``) is read too, as a single row of step 0: its
    numbers are the Trainer's, but it does not know the step.

    Args:
        path: ``trainer_state.json``, whatever it is called.

    Returns:
        ``log_history`` as it is, NaN and infinities as floats; empty where nothing was logged. Entries that are
        no rows are left out. ``max_steps`` is the whole run's, in a checkpoint of a run that was killed too; a
        resume with another length overwrites it, so that it is the last one's.

    Raises:
        UnreadableRunError: If the file is missing, a Git-LFS pointer, cut off or otherwise no JSON (the text
            says how many rows could still be read, and how), or not a Trainer's state.
    """
    path = Path(path)
    text = read_text(path)
    if not text.strip():
        raise UnreadableRunError(f"{path}: found an empty file; {_EXPECTED}; {beside(path)}")
    try:
        state = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableRunError(f"{path}{_damage(error, text)}; {_EXPECTED}{_rescue(path, text)}") from None
    if not isinstance(state, dict):
        raise UnreadableRunError(f"{path}: found {name_of(state)} as the whole file; {_EXPECTED}; {beside(path)}")
    if _LOG_HISTORY not in state:
        if any(_METRICS_KEY.fullmatch(name) for name in state):
            return Log([{**state, keys.STEP: state.get(keys.STEP, 0)}])
        raise UnreadableRunError(f"{path}: not a Trainer's state (found: {_found(state)}); {_EXPECTED}; {beside(path)}")
    rows = _rows(path, state[_LOG_HISTORY])
    best = state.get(_BEST)
    planned, reached = _planned(state.get(_MAX_STEPS)), _planned(state.get(_GLOBAL_STEP))
    early = planned is not None and reached is not None and reached < planned
    by = _ended_by(state.get(_CALLBACKS), rows, reached) if early else None
    return Log(rows, planned, (), reached, best if isinstance(best, str) else None, by)


def _ended_by(stored: object, rows: list[dict[str, Any]], step: int | None) -> str | None:
    """What ended a run at this step, before its planned last one; None where nothing shows that it was to end.

    The Trainer's closing row follows a training that left its loop by itself; a checkpoint keeps the state of the
    Trainer's control, and of an early-stopping callback how often it was patient.
    """
    callbacks = stored if isinstance(stored, dict) else {}
    asked = any(args.get("should_training_stop") is True for args, _ in _states(callbacks.get("TrainerControl")))
    if not asked and not any(is_closing(row) and row.get(keys.STEP) == step for row in rows):
        return None
    for name, found in callbacks.items():
        for args, attributes in _states(found):
            patience, counter = args.get(_PATIENCE), attributes.get(f"{_PATIENCE}_counter")
            if isinstance(patience, int) and isinstance(counter, int) and counter >= patience:
                return str(name)
    return "should_training_stop"


def _states(stored: object) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Arguments and attributes of a callback, or of each of several of one class."""
    for one in stored if isinstance(stored, list) else [stored]:
        if isinstance(one, dict):
            args, attributes = one.get("args"), one.get("attributes")
            yield (args if isinstance(args, dict) else {}), (attributes if isinstance(attributes, dict) else {})


def _planned(value: object) -> int | None:
    """A count of steps; a Trainer writes 0 or -1 where it does not know the planned ones yet."""
    if not isinstance(value, (int, float)) or not _is_step(value) or not 0 < value < math.inf:
        return None
    return int(value)


def _rows(path: Path, history: object) -> list[dict[str, Any]]:
    if not isinstance(history, list):
        raise UnreadableRunError(
            f'{path}: found {name_of(history)} under "{_LOG_HISTORY}", expected a list of rows; {beside(path)}'
        )
    rows = [row for row in history if isinstance(row, dict)]
    if history and not rows:
        raise UnreadableRunError(
            f'{path}: found {name_of(history[0])} as the first entry of "{_LOG_HISTORY}" and no row in any of its '
            f"{len(history):,}, expected objects; {beside(path)}"
        )
    if rows and not any(_is_step(row.get(keys.STEP)) for row in rows):
        value = rows[0].get(keys.STEP)
        found = f'"{keys.STEP}" {clip(value)}' if keys.STEP in rows[0] else f'no "{keys.STEP}"'
        raise UnreadableRunError(
            f'{path}: found {found} in the first row of "{_LOG_HISTORY}" and a usable step in none of its '
            f"{len(rows):,}, expected whole numbers from 0; {beside(path)}"
        )
    return rows


def _is_step(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 and value == value // 1


def _found(state: Mapping[str, Any]) -> str:
    """The keys of an object that is no state, and what it probably is."""
    if not state:
        return "an object without keys"
    shown = ", ".join(clip(name).strip("'\"") for name in list(state)[:_SHOWN_KEYS])
    more = f" and {len(state) - _SHOWN_KEYS} more" if len(state) > _SHOWN_KEYS else ""
    kind = next((kind for name, kind in _OTHER_FILES.items() if name in state), None)
    near = near_miss(_LOG_HISTORY, [name for name in state if len(name) < 100])
    hint = f": {kind}" if kind else "" if near is None else f"; did {clip(near)} mean {_LOG_HISTORY!r}?"
    return f"{shown}{more}{hint}"


def _damage(error: Exception, text: str) -> str:
    """Where the text stops being JSON and how: cut off at its end, followed by more, or damaged within."""
    if isinstance(error, RecursionError):
        return ": JSON nested too deep"
    if not isinstance(error, json.JSONDecodeError):
        return ": JSON with a number of too many digits"
    if error.msg.startswith("Extra data"):
        return f":{error.lineno}: JSON ends here and more text follows"
    # Half a number or word is an error at its first odd character; then nothing follows it.
    cut = error.msg.startswith("Unterminated string") or not _SEPARATOR.search(text, error.pos, len(text.rstrip()))
    return f":{error.lineno}: JSON cut off" if cut else f":{error.lineno}: JSON damaged ({error.msg})"


def _whole_rows(text: str) -> Iterator[tuple[Any, int]]:
    """The step of each log row that can still be read at the start of a damaged state, and where the row ends."""
    start = re.search(rf'"{_LOG_HISTORY}"\s*:\s*\[', text)
    decoder, position = json.JSONDecoder(), None if start is None else start.end()
    while position is not None and (row := re.compile(r"[\s,]*(?={)").match(text, position)):
        try:
            found, position = decoder.raw_decode(text, row.end())
        except (ValueError, RecursionError):
            return
        yield found.get(keys.STEP), position


def _rescue(path: Path, text: str) -> str:
    """How many rows are whole, and a command that makes a readable file of them where there is one."""
    whole = list(_whole_rows(text))
    if not whole:
        return f"; no log row could be read; {beside(path)}"
    step, end = whole[-1]
    said = f"; its first {len(whole):,} log {'row is' if len(whole) == 1 else 'rows are'} whole"
    if _is_step(step):
        said += f" (up to step {int(step):,})"
    kept = text[:end]
    try:
        json.loads(kept + _CLOSING)
    except (ValueError, RecursionError):
        return said
    if not path.is_file():  # a pipe cannot be read twice
        return said
    size = len(kept.encode()) + _bom_bytes(path)
    return f"{said}: (head -c {size} {shlex.quote(str(path))}; echo '{_CLOSING}') > whole.json; ko-cpt check whole.json"


def _bom_bytes(path: Path) -> int:
    """Bytes of the byte order mark that `read_text` left out."""
    with path.open("rb") as stream:
        return len(BOM) if stream.read(len(BOM)) == BOM else 0
