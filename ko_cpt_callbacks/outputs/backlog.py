"""What a folder still owes its files: a write that fails is done again at the next event, in its order."""

from __future__ import annotations

import errno
import logging
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ko_cpt_callbacks.outputs.file import append_line, write_whole

__all__ = ["Backlog"]

_log = logging.getLogger("ko_cpt_callbacks")

# Lines kept for a disk that stays full: some 200,000 rows. Chosen, not measured.
_MOST_BYTES: Final = 64 << 20


@dataclass
class _Owed:
    """What one file is owed: all of it anew, then lines at its end."""

    whole: bytes | None = None
    lines: deque[bytes] = field(default_factory=deque)
    size: int = 0
    """Bytes of the lines."""
    tried: bool = False
    """Whether the first line was tried before."""


class Backlog:
    """Writes files of one folder; what cannot be written is kept and tried again.

    The first failure of a kind is told once, and once that everything of it was written after all.

    Args:
        most_bytes: How much is kept for files that cannot be written.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._owed: dict[Path, _Owed] = {}
        # By the system's number: the same trouble with several files is told once.
        self._failing: dict[Path, int] = {}
        self._left_out = False

    def put(self, path: Path, payload: bytes) -> None:
        """Write a file anew, in place of everything that it was owed."""
        self._owed[path] = _Owed(whole=payload)
        self.pay()

    def put_if_room(self, path: Path, payload: bytes) -> None:
        """Write a file that the record is whole without; where too much is owed it is left out, which is told."""
        owed = sum(len(item.whole or b"") + item.size for other, item in self._owed.items() if other != path)
        if not self._failing or owed + len(payload) <= self._most_bytes:
            self.put(path, payload)
        elif not self._left_out:
            self._left_out = True
            _log.warning("%s is left out: too much waits to be written; training goes on.", path)

    def append(self, path: Path, line: bytes) -> None:
        """Append a line to a file.

        Raises:
            RuntimeError: If more is owed than is kept: the record ends where it is, whole up to there.
        """
        owed = self._owed.setdefault(path, _Owed())
        owed.lines.append(line)
        owed.size += len(line)
        self.pay()
        if owed.size > self._most_bytes:
            raise RuntimeError(f"{path}: {len(owed.lines):,} lines could not be written, more than are kept")

    def pay(self) -> None:
        """Write whatever is owed and can be written now."""
        before = set(self._failing.values())
        for path, owed in list(self._owed.items()):
            try:
                self._pay(path, owed)
            except OSError as error:
                self._tell(path, error)
            else:
                del self._owed[path]
                self._failing.pop(path, None)
        for number in sorted(before - set(self._failing.values())):
            _log.warning("What could not be written (%s) is written now; nothing is missing.", os.strerror(number))

    @staticmethod
    def _pay(path: Path, owed: _Owed) -> None:
        if owed.whole is not None:
            write_whole(path, owed.whole)
            owed.whole = None
        # One by one: half a line at the end is cut off before the next, and no whole one is written twice.
        while owed.lines:
            again, owed.tried = owed.tried, True
            append_line(path, owed.lines[0], again=again)
            owed.size -= len(owed.lines.popleft())
            owed.tried = False

    def _tell(self, path: Path, error: OSError) -> None:
        # A file where a folder should be is the one for the folder itself, and the other for what is in it.
        number = errno.ENOTDIR if error.errno == errno.EEXIST else error.errno or errno.EIO
        known = number in self._failing.values()
        self._failing[path] = number
        if not known:
            _log.warning(
                "%s could not be written (%s); training goes on, and what is missing is written as soon as it can be.",
                path,
                error.strerror or error,
            )
