"""One writer at a time in a folder. Asking never waits, and the system lets go when the process ends, however it ends.

POSIX record locks rather than ``flock``: a forked child (a data loader's worker that outlives a killed training) does
not inherit them, so that a resume right after a kill finds the folder free.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import IO, Any, Final

__all__ = ["LOCK_FILE", "FolderLock", "FolderWriter", "is_written"]

LOCK_FILE: Final = ".lock"
_HELD: Final = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)
# On Windows a locked byte cannot be read by others: one far behind the process id is locked.
_BYTE: Final = 1 << 30
_PID_BYTES: Final = 20


# C's struct flock: its form, and where in it the kind of lock stands.
_LOCK_LAYOUTS: Final = {"linux": ("hhqqi4x", 0), "darwin": ("qqihh", 3)}


class FolderWriter(Enum):
    """Who writes in a folder."""

    OURS = "ours"
    OTHER = "other"
    """Another process does."""
    NO_LOCKS = "no locks"
    """No one can tell: this file system, or this Python, has no such locks."""


class FolderLock:
    """The right to write in a folder.

    Args:
        folder: Where the lock's file is; made where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.path: Path = folder / LOCK_FILE
        self._file: IO[bytes] | None = None
        self._locks = False

    def take(self) -> FolderWriter:
        """Take it, or make sure that it is still held: one that was lost meanwhile is taken again.

        Raises:
            OSError: If the lock's file cannot be opened: no right to write there, or no room.
        """
        if self._file is not None and _is_gone(self._file):
            self.release()
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("r+b" if self.path.exists() else "a+b", buffering=0)
        try:
            if not _lock(self._file):
                return FolderWriter.NO_LOCKS
        except OSError as error:
            held = error.errno in _HELD
            # Windows refuses a second handle of the same process too.
            ours = held and self.holder() == str(os.getpid())
            self.release()
            return FolderWriter.OURS if ours else FolderWriter.OTHER if held else FolderWriter.NO_LOCKS
        if not self._locks:
            self._locks = True
            self._sign(self._file)
        return FolderWriter.OURS

    @staticmethod
    def _sign(file: IO[bytes]) -> None:
        """Leave the process id for those who ask; whatever else somebody keeps under this name, or behind it, stays."""
        with suppress(OSError):  # no room for a few digits: the lock holds without them
            file.seek(0)
            if file.read(_PID_BYTES + 1).strip().isdigit() or not os.fstat(file.fileno()).st_size:
                file.truncate(0)
                file.seek(0)
                file.write(str(os.getpid()).encode())

    @property
    def held(self) -> bool:
        """Whether this process keeps others away."""
        return self._locks

    def release(self) -> None:
        """Let go of it; nothing where it is not held."""
        file, self._file, self._locks = self._file, None, False
        if file is not None:
            with suppress(OSError):  # closed for the system all the same
                file.close()

    def holder(self) -> str:
        """The process that took it last, as it wrote it; ``unknown`` where it did not."""
        try:
            with _asking(self.path) as descriptor:
                os.lseek(descriptor, 0, os.SEEK_SET)
                found = os.read(descriptor, _PID_BYTES).decode("ascii", "replace").strip()
                return found if found.isdigit() else "unknown"
        except OSError:
            return "unknown"


def is_written(folder: Path) -> bool:
    """Whether another process holds the right to write in a folder now; False where that cannot be known.

    The lock is asked about, never taken: a training that begins at that moment must find it free.
    """
    layout = _LOCK_LAYOUTS.get(sys.platform)
    try:
        import fcntl

        if layout is None:
            return False
        form, kind_at = layout
        values = [0] * 5
        values[kind_at] = fcntl.F_WRLCK
        with _asking(folder / LOCK_FILE) as descriptor:
            found = fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(form, *values))
        return bool(struct.unpack(form, found)[kind_at] != fcntl.F_UNLCK)
    except (ImportError, OSError, struct.error):
        return False


@contextmanager
def _asking(path: Path) -> Iterator[int]:
    """The lock's file to be asked: by the descriptor that this process has on it, where it has one.

    A process that closes any descriptor of a file gives up all its locks on it: a notebook that looks at the folder in
    which it trains would let others write there.
    """
    own = _descriptor_of(path)
    if own is not None:
        yield own
        return
    with path.open("rb") as stream:
        yield stream.fileno()


def _descriptor_of(path: Path) -> int | None:
    wanted = path.stat()
    try:
        names = os.listdir("/dev/fd")
    except OSError:  # no such place: nothing is known of this process's files
        return None
    for name in names:
        with suppress(OSError, ValueError):  # closed meanwhile: that of the listing itself
            if os.path.samestat(os.fstat(int(name)), wanted):
                return int(name)
    return None


def _is_gone(file: IO[bytes]) -> bool:
    """Whether the file was deleted: a lock on it keeps no one away any more."""
    try:
        return os.fstat(file.fileno()).st_nlink == 0
    except OSError:
        return True


def _lock(file: IO[bytes]) -> bool:
    """Lock the file; False where this Python has no locks.

    Raises:
        OSError: If it is locked (`_HELD`), or cannot be here.
    """
    try:
        import fcntl
    except ImportError:
        return _lock_on_windows(file)
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True


def _lock_on_windows(file: IO[bytes]) -> bool:
    try:
        import msvcrt
    except ImportError:
        return False
    windows: Any = msvcrt  # its functions are not typed elsewhere
    file.seek(_BYTE)
    windows.locking(file.fileno(), windows.LK_NBLCK, 1)
    return True
