"""``run.json`` to what a run watches, and why it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ko_cpt_callbacks.compare.reference import read_baseline
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.file import read_text
from ko_cpt_callbacks.watch.recorded import FIX
from ko_cpt_callbacks.watch.spec import WatchSpec

__all__ = ["RecordedRun", "read_recorded_run"]


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """What a ``run.json`` says.

    Args:
        spec: What was watched; it may have codes and limits that this version does not.
        stop: ``code``, ``step``, ``short`` and ``detail`` of the finding that asked the run to stop; None where none
            did.
    """

    spec: WatchSpec
    stop: Mapping[str, Any] | None = None


def read_recorded_run(path: str | Path) -> RecordedRun:
    """Read a ``run.json``.

    Raises:
        UnreadableRunError: If the file is damaged, of another version, or says something that cannot be watched.
    """
    path = Path(path)
    try:
        run = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnreadableRunError):
            raise
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UnreadableRunError(f"{path}{line}: JSON cut off or damaged; expected a run.json; {FIX}") from None
    return RecordedRun(WatchSpec.from_run_json(run, str(path), read_baseline), _stop(run.get("stop")))


def _stop(value: object) -> Mapping[str, Any] | None:
    if not isinstance(value, dict) or not isinstance(value.get("code"), str):
        return None
    step, message = value.get("step"), value.get("message")  # message: earlier versions have one sentence
    short, detail = value.get("short", message), value.get("detail", message)
    return {
        "code": value["code"],
        "step": step if isinstance(step, int) and not isinstance(step, bool) else None,
        "short": short if isinstance(short, str) else "",
        "detail": detail if isinstance(detail, str) else "",
    }
