"""One run at a time in a folder: a second one, or a resume while the first still trains, would mix their records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.outputs.file import remove_stale
from ko_cpt_callbacks.outputs.lock import FolderLock, Hold


@contextmanager
def locked(folder: Path, run: Path) -> Iterator[None]:
    """While it lasts, no other process gets here; the system lets go of it when this one ends, however it ends.

    What killed processes left half-written there is removed. Where there are no such locks (some network file systems)
    nothing is locked.

    Args:
        folder: Where the lock's file is put.
        run: The run's folder, for the error.

    Raises:
        ConfigurationError: If another process has it, or the folder cannot be written to.
    """
    lock = FolderLock(folder)
    try:
        hold = lock.take()
    except OSError as error:
        raise ConfigurationError(
            f"{run}: found a place that cannot be written to ({error.strerror}), expected a folder for the run; name "
            "another one with --output"
        ) from None
    try:
        if hold is Hold.OTHER:
            raise ConfigurationError(
                f"{run}: found a run that is still in progress there (process {lock.holder()})"
                ", expected none; wait for its end or stop it, then go on with --resume"
            )
        remove_stale(folder, alone=hold is Hold.OURS)
        yield
    finally:
        lock.release()
