"""The row that a Trainer prints: without our numbers that say nothing, zeros and what has not changed."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any, Final

from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from ko_cpt_callbacks import keys

__all__ = ["print_small_rows"]

_ZERO: Final = (
    keys.NONFINITE_STEPS, keys.NONFINITE_MICRO_BATCHES, keys.TARGETLESS_MICRO_BATCHES, f"_{keys.NONFINITE_BATCHES}",
)  # fmt: skip
"""Ends of the names of counts that are not printed while they are 0."""
_SAME: Final = (f"_{keys.TOKENS}", f"_{keys.ROWS}", f"_{keys.BYTES}")
"""Of sizes of an evaluation set, which are printed once."""


def print_small_rows(callbacks: Iterable[TrainerCallback]) -> None:
    """Give transformers' own printing callbacks smaller rows; trackers, files and the state get every number.

    One row is handed to all callbacks, so the method of these is wrapped; one that somebody else has put there, and a
    callback of another class, are left alone.
    """
    for callback in callbacks:
        if type(callback) in (PrinterCallback, ProgressCallback) and "on_log" not in vars(callback):
            vars(callback)["on_log"] = _SmallRow(callback)


class _SmallRow:
    """A printing callback's ``on_log``; goes with a copy of the callback."""

    def __init__(self, printer: TrainerCallback | None) -> None:
        self._printer = None if printer is None else weakref.ref(printer)
        self._last: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _SmallRow, (None if self._printer is None else self._printer(),)

    def __call__(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> Any:
        printer = None if self._printer is None else self._printer()
        if printer is None:
            return None
        row = self._small(logs) if isinstance(logs, dict) else logs
        whole = None if row is None else dict(row)
        done = type(printer).on_log(printer, args, state, control, logs=row, **kwargs)
        for name in set(whole or ()) - set(row or ()):  # what it takes out, it takes out for those behind it
            logs.pop(name, None)
        return done

    def _small(self, logs: dict[str, Any]) -> dict[str, Any]:
        row = {}
        for name, value in logs.items():
            same = name.endswith(_SAME) and self._last.get(name) == value
            if not same and not (name.endswith(_ZERO) and value == 0):
                row[name] = value
        self._last |= {name: value for name, value in logs.items() if name.endswith(_SAME)}
        return row
