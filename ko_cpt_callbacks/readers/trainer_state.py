"""A finished or running Trainer's ``trainer_state.json``, or one of its metrics files, to rows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError

__all__ = ["count_readable_rows", "read_text", "read_trainer_state"]

_LOG_HISTORY: Final = "log_history"
_LFS_FIRST_LINE: Final = "version https://git-lfs.github.com/spec/"
_METRICS_KEY: Final = re.compile(rf"[^/]+_{keys.RUNTIME}")
_EXPECTED: Final = f'expected a trainer_state.json (an object with "{_LOG_HISTORY}")'


def read_text(path: Path) -> str:
    """The UTF-8 text of a file of a run.

    Raises:
        UnreadableRunError: If it cannot be opened, is not UTF-8 text, or is a Git-LFS pointer.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableRunError(f"{path}: not UTF-8 text (byte {error.start}); {_EXPECTED}") from None
    except OSError as error:
        raise UnreadableRunError(f"{path}: cannot be opened: {error.strerror or error}") from None
    if text.startswith(_LFS_FIRST_LINE):
        raise UnreadableRunError(
            f"{path}: a Git-LFS pointer, not the file itself; fetch it with `git lfs pull` and try again"
        )
    return text


def count_readable_rows(text: str) -> int:
    """How many rows of ``log_history`` are whole in a state file that was cut off."""
    start = re.search(rf'"{_LOG_HISTORY}"\s*:\s*\[', text)
    if start is None:
        return 0
    decoder, position, rows = json.JSONDecoder(), start.end(), 0
    gap = re.compile(r"[\s,]*")
    while True:
        spaces = gap.match(text, position)
        position = spaces.end() if spaces else position
        if not text.startswith("{", position):
            return rows
        try:
            _, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return rows
        rows += 1


def read_trainer_state(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a Trainer's state file.

    A metrics file (``all_results.json``, ``eval_results.json``) is read too, as a single row of step 0: its
    numbers are the Trainer's, but it does not know the step.

    Args:
        path: ``trainer_state.json``, whatever it is called.

    Returns:
        ``log_history`` as it is, NaN and infinities as floats; empty where nothing was logged.

    Raises:
        UnreadableRunError: If the file is missing, a Git-LFS pointer, cut off or otherwise no JSON (the text
            says how many rows could still be read), or not a Trainer's state.
    """
    path = Path(path)
    text = read_text(path)
    try:
        state = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "too deep or too large"
        rows = count_readable_rows(text)
        kept = f"; its first {rows} log rows could still be read" if rows else "; no log row could be read"
        raise UnreadableRunError(f"{path}: JSON cut off or damaged ({where}){kept}; {_EXPECTED}") from None
    if not isinstance(state, dict):
        raise UnreadableRunError(f"{path}: holds a JSON {type(state).__name__}; {_EXPECTED}")
    history = state.get(_LOG_HISTORY)
    if history is None:
        if any(_METRICS_KEY.fullmatch(name) for name in state):
            return [{**state, keys.STEP: state.get(keys.STEP, 0)}]
        shown = ", ".join(list(state)[:4]) or "nothing"
        raise UnreadableRunError(f"{path}: not a Trainer's state (found: {shown}); {_EXPECTED}")
    if not isinstance(history, list):
        raise UnreadableRunError(
            f'{path}: "{_LOG_HISTORY}" is a JSON {type(history).__name__}, a list of rows was expected'
        )
    return [row for row in history if isinstance(row, dict)]
