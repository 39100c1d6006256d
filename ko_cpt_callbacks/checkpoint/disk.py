"""The checkpoints in a run's folder, looked at without following a link: how large they are, and what is odd."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.file import STATE_FILE, opening_failure
from ko_cpt_callbacks.run.log.row import Log
from ko_cpt_callbacks.run.trainer_state import read_state_rows

__all__ = ["OnDisk", "checkpoint_name", "checkpoints_on_disk", "state_in"]

# As the Trainer writes it: checkpoint-007 and checkpoint-7.bak are somebody else's.
_NAME: Final = re.compile(r"checkpoint-(0|[1-9][0-9]{0,17})")
_FOREIGN: Final = re.compile(rf"{keys.FOLDER}|checkpoint-[0-9]+")
"""Inside a checkpoint: another run is."""


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A checkpoint's folder.

    Args:
        step: As its name says.
        size: Bytes of its files.
        written: When the newest of them was written, seconds since the epoch.
        identity: Device and number of the folder itself.
        oddity: Why it is left alone: ``link``, ``no-folder``, ``holds-link``, ``holds-special``, ``other-device``,
            ``holds-run``, ``unfinished`` (no ``trainer_state.json``, which the Trainer writes last) or ``unreadable``;
            empty where nothing is odd.
    """

    step: int
    size: int = 0
    written: float = 0.0
    identity: tuple[int, int] = (0, 0)
    oddity: str = ""


def checkpoint_name(step: int) -> str:
    """The name of a checkpoint's folder.

    >>> checkpoint_name(40)
    'checkpoint-40'
    """
    return f"checkpoint-{step}"


def checkpoints_on_disk(folder: Path) -> tuple[OnDisk, ...]:
    """The checkpoints in a run's folder, by step.

    Raises:
        UnreadableRunError: If the folder cannot be listed.
    """
    try:
        names = [found for entry in os.scandir(folder) if (found := _NAME.fullmatch(entry.name))]
    except OSError as error:
        raise UnreadableRunError(f"{folder}: {opening_failure(error)}") from None
    return tuple(sorted((_look(folder / name[0], int(name[1])) for name in names), key=lambda one: one.step))


def state_in(folder: Path, step: int) -> Log | None:
    """The Trainer's state in a checkpoint; ``None`` where there is none that is of its step."""
    try:
        state = read_state_rows(folder / checkpoint_name(step) / STATE_FILE)
    except (UnreadableRunError, OSError):
        return None
    return state if state.global_step == step else None


def _look(path: Path, step: int) -> OnDisk:
    try:
        own = path.lstat()
        identity = (own.st_dev, own.st_ino)
        if not stat.S_ISDIR(own.st_mode):
            return OnDisk(step, identity=identity, oddity="link" if stat.S_ISLNK(own.st_mode) else "no-folder")
        size, written, oddity = 0, own.st_mtime, "unfinished"
        for name, found in _walk(path):
            written = max(written, found.st_mtime)
            mode = found.st_mode
            if stat.S_ISREG(mode):
                size += found.st_size
            if name == STATE_FILE and stat.S_ISREG(mode) and oddity == "unfinished":
                oddity = ""
            odd = _odd(name.rpartition("/")[2], found, own.st_dev)
            oddity = odd or oddity
    except OSError:
        return OnDisk(step, oddity="unreadable")
    return OnDisk(step, size, written, identity, oddity)


def _odd(name: str, found: os.stat_result, device: int) -> str:
    mode = found.st_mode
    if stat.S_ISLNK(mode):
        return "holds-link"
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return "holds-special"
    if found.st_dev != device:
        return "other-device"
    return "holds-run" if stat.S_ISDIR(mode) and _FOREIGN.fullmatch(name) else ""


def _walk(path: Path, inside: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Everything in a folder, by its name from there; no link is followed."""
    for entry in os.scandir(path):
        name, found = f"{inside}{entry.name}", entry.stat(follow_symlinks=False)
        yield name, found
        if stat.S_ISDIR(found.st_mode):
            yield from _walk(Path(entry.path), f"{name}/")
