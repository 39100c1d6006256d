"""A labelled run: the rows of a Trainer's log, and what has to be said of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

__all__ = ["INFO_CODES", "LabelledRun", "cut", "finished", "state", "write"]

Row = dict[str, Any]

INFO_CODES = frozenset({"plateau", "not-enough-data"})
"""Codes of which a note is all that is asked for."""


@dataclass(frozen=True)
class LabelledRun:
    """Rows and their label.

    Args:
        name: ``<kind>/<number>``, unique within a suite.
        kind: ``<code>/<variant>`` of a fault, ``healthy/<variant>`` otherwise.
        rows: As in ``log_history``.
        expected: Per code the first and the last step at which it has to be said.
        allowed: Codes that may be said as well, at any severity.
        task: ``cpt``, ``sft`` or ``other``.
        healthy: Nothing may be said of it above info, except ``allowed``.
        max_steps: Planned optimizer steps.
        num_train_epochs: Planned epochs.
        size: How strong the fault is, in the unit of its kind; 0 where it has none.
        onset: The step at which the fault begins, from which a delay is counted; None for a healthy run.
        least: Per expected code the least severity that counts; where absent ``warning``, ``info`` for `INFO_CODES`.
        either: Per expected code others that count as it, where the log bears more than one reading.
    """

    name: str
    kind: str
    rows: list[Row]
    expected: dict[str, tuple[int, int]] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()
    task: str = "cpt"
    healthy: bool = True
    max_steps: int = 0
    num_train_epochs: int = 1
    size: float = 0.0
    onset: int | None = None
    least: Mapping[str, str] = field(default_factory=dict)
    either: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def counting(self, code: str) -> frozenset[str]:
        """Codes that count as ``code``: itself, and what `either` has beside it."""
        return self.either.get(code, frozenset()) | {code}

    def needed(self, code: str) -> str:
        """The least severity at which ``code`` counts as found."""
        return self.least.get(code, "info" if code in INFO_CODES else "warning")


def cut(run: LabelledRun, row: int) -> LabelledRun:
    """The run as it was after its first ``row`` rows; expectations that end later are left out."""
    rows = run.rows[:row]
    last = max((one["step"] for one in rows), default=-1)
    expected = {code: window for code, window in run.expected.items() if window[1] <= last}
    return replace(run, rows=rows, expected=expected)


def finished(run: LabelledRun) -> LabelledRun:
    """The run with the Trainer's last row, as every training that is not killed writes it."""
    if not run.rows or ("train_runtime" in run.rows[-1] and "loss" not in run.rows[-1]):
        return run
    end = {"step": run.rows[-1]["step"], "train_loss": 2.0, "train_runtime": 1234.5}
    return replace(run, rows=[*run.rows, end])


def state(run: LabelledRun) -> dict[str, Any]:
    """The run as the Trainer's state file has it."""
    last = max((row["step"] for row in run.rows), default=0)
    epochs = [row["epoch"] for row in run.rows if isinstance(row.get("epoch"), (int, float))]
    return {
        "best_metric": None,
        "best_model_checkpoint": None,
        "epoch": next((e for e in reversed(epochs) if math.isfinite(e)), 0.0),
        "global_step": last,
        "is_local_process_zero": True,
        "is_world_process_zero": True,
        "log_history": run.rows,
        "max_steps": run.max_steps,
        "num_train_epochs": run.num_train_epochs,
        "total_flos": 0.0,
        "trial_name": None,
        "trial_params": None,
    }


def write(run: LabelledRun, path: Path) -> Path:
    """``trainer_state.json`` at ``path``, with bare NaN literals as the Trainer writes them."""
    path.write_text(json.dumps(state(run)), encoding="utf-8")
    return path
