"""One run at a time in a folder: a second one, or a resume while the first still trains, would mix their records."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ko_cpt_callbacks.errors import ConfigurationError

_FILE: Final = ".lock"
_HELD: Final = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)


@contextmanager
def locked(folder: Path, run: Path) -> Iterator[None]:
    """While it lasts, no other process gets here; the system lets go of it when this one ends, however it ends.

    Where there are no such locks (Windows, some network file systems) nothing is locked.

    Args:
        folder: Where the lock's file is put.
        run: The run's folder, for the error.

    Raises:
        ConfigurationError: If another process has it, or the folder cannot be written to.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        file = (folder / _FILE).open("a+", encoding="ascii")
    except OSError as error:
        raise ConfigurationError(
            f"{run}: found a place that cannot be written to ({error.strerror}), expected a folder for the run; name "
            "another one with --output"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                file.seek(0)
                raise ConfigurationError(
                    f"{run}: found a run that is still in progress there (process {file.read(20).strip() or 'unknown'})"
                    ", expected none; wait for its end or stop it, then go on with --resume"
                ) from None
        else:
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield
