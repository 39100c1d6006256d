"""A path that a user has (a run folder, a checkpoint, a file) to the rows of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.observation import Observation
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.readers.rows import observations_of
from ko_cpt_callbacks.readers.rows_file import live_rows, read_rows
from ko_cpt_callbacks.readers.trainer_state import read_trainer_state

__all__ = ["Run", "Source", "read_run"]

_STATE_FILE: Final = "trainer_state.json"


class Source(StrEnum):
    """What the rows of a run were read from."""

    ROWS = "rows"
    """Our own ``rows.jsonl``: everything that was observed."""
    TRAINER_STATE = "trainer_state"
    """The Trainer's state or metrics file: what the Trainer logged."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it was found: the file it was read from, of which kind, and the rows that count."""

    path: Path
    source: Source
    rows: tuple[Mapping[str, Any], ...]

    def observations(self) -> tuple[Observation, ...]:
        """The rows as observations, ready for the monitor."""
        return observations_of(self.rows)


def _file(path: Path) -> Run:
    if path.suffix == ".jsonl":
        return Run(path, Source.ROWS, tuple(live_rows(read_rows(path))))
    return Run(path, Source.TRAINER_STATE, tuple(read_trainer_state(path)))


def _checkpoints(folder: Path) -> list[Path]:
    """The state files of a run's checkpoints, latest last."""
    numbered = []
    for child in folder.glob("checkpoint-*"):
        number = child.name.removeprefix("checkpoint-")
        if number.isdecimal() and (child / _STATE_FILE).is_file():
            numbered.append((int(number), child / _STATE_FILE))
    return [state for _, state in sorted(numbered)]


def read_run(path: str | Path) -> Run:
    """The run at a path.

    Args:
        path: A ``rows.jsonl`` or ``trainer_state.json``; or a folder, where our own rows are taken first,
            then the folder's state file, then that of its latest checkpoint.

    Raises:
        UnreadableRunError: If nothing there can be read; the text says where, what was found, what to name.
    """
    path = Path(path)
    if not path.exists():
        raise UnreadableRunError(f"{path}: no such file or folder")
    if not path.is_dir():
        return _file(path)
    candidates = [path / keys.FOLDER / keys.ROWS_FILE, path / keys.ROWS_FILE, path / _STATE_FILE]
    for candidate in [*candidates, *reversed(_checkpoints(path))]:
        if candidate.is_file():
            return _file(candidate)
    within = sorted(
        child.name
        for child in path.iterdir()
        if (child / keys.FOLDER / keys.ROWS_FILE).is_file() or (child / _STATE_FILE).is_file() or _run_like(child)
    )
    if within:
        raise UnreadableRunError(f"{path}: several folders of runs ({', '.join(within[:5])}); name one of them")
    raise UnreadableRunError(
        f"{path}: no {keys.FOLDER}/{keys.ROWS_FILE}, no {_STATE_FILE} and no checkpoint with one; "
        "name the output_dir of a Trainer"
    )


def _run_like(folder: Path) -> bool:
    return folder.is_dir() and bool(_checkpoints(folder))
