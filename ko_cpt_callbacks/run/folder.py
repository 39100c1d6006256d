"""The run folder ``<output_dir>/ko_cpt/``: what a later reader needs, and nothing else.

A write that fails is done again at the next event, in its order. Of the files written here, ``eval_rows/`` is read
back here too; nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import logging
import os
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.run.file import (
    append_line,
    json_lines,
    json_page,
    opening_failure,
    other_kind,
    remove_stale,
    write_whole,
)
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.lock import FolderLock, FolderWriter
from ko_cpt_callbacks.run.output import Output

__all__ = ["MAX_BYTES", "RUN_FORMAT", "Backlog", "RunFolder", "eval_rows_path", "read_eval_rows"]

_log = logging.getLogger("ko_cpt_callbacks")

RUN_FORMAT: Final = 1
"""Of ``run.json``; raised when an older reader would read it wrongly."""
MAX_BYTES: Final = 1 << 30
"""A file of sums larger than this is not read: about 13 million rows. Chosen, not measured."""
# Lines kept for a disk that stays full: some 200,000 rows. Chosen, not measured.
_MOST_BYTES: Final = 64 << 20


class RunFolder(Output):
    """Writes ``run.json``, ``rows.jsonl``, ``findings.jsonl`` and ``eval_rows/<set>-<step>.npz``.

    A write that fails is done again at the next event. While training lasts no other process writes here: the folder is
    locked from its beginning to its last row, and otherwise for as long as an event takes.

    Args:
        output_dir: The Trainer's ``output_dir``.
        language: Language of the findings' sentences.
    """

    name = "files"

    def __init__(self, output_dir: Path, language: str) -> None:
        self.path: Path = output_dir / keys.FOLDER
        self._language = language
        self._backlog = Backlog()
        self._lock = FolderLock(self.path)
        self._keeps = True
        self._unlocked_told = False

    def claim(self) -> str | None:
        """Make sure that no other process writes here, without waiting.

        Returns:
            The process that does, as it names itself; None where none does, or it cannot be known.
        """
        try:
            hold = self._lock.take()
        except OSError:  # the writes themselves tell why nothing can be written, and are tried again
            return None
        if hold is FolderWriter.OTHER:
            return self._lock.holder()
        if hold is FolderWriter.NO_LOCKS and not self._unlocked_told:
            self._unlocked_told = True
            _log.warning(
                "%s cannot be locked on this file system: two runs with this output_dir at the same time would mix "
                "their records.",
                self.path,
            )
        return None

    def begin(self, run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], findings: Sequence[Finding]) -> None:
        """Write all three files anew."""
        self._keeps = True
        with self._alone():
            for folder in (self.path, self.path / keys.EVAL_ROWS_FOLDER):
                remove_stale(folder, alone=self._lock.held)
            self._backlog.put(self.path / keys.RUN_FILE, json_page(run).encode())
            self._backlog.put(self.path / keys.ROWS_FILE, json_lines(rows))
            lines = json_lines(finding.as_dict(self._language) for finding in findings)
            self._backlog.put(self.path / keys.FINDINGS_FILE, lines)

    def row(self, row: Mapping[str, Any]) -> None:
        """Append the row."""
        # After its last row a training may be resumed, or evaluated, by another process while this one lives.
        if row.get(keys.KIND) == keys.KIND_END or row.get(keys.MODE) == keys.MODE_EVALUATE:
            self._keeps = False
        with self._alone():
            self._backlog.append(self.path / keys.ROWS_FILE, json_lines([row]))

    def finding(self, finding: Finding) -> None:
        """Append the finding."""
        with self._alone():
            line = json_lines([finding.as_dict(self._language)])
            self._backlog.append(self.path / keys.FINDINGS_FILE, line)

    def eval_rows(self, prefix: str, step: int, rows: RowSums) -> None:
        """Write the arrays ``nll``, ``tokens``, ``bytes``, ``hash``, ``order``."""
        with self._alone():
            self._backlog.put_if_room(eval_rows_path(self.path, prefix, step), rows.to_payload())

    def run(self, run: Mapping[str, Any]) -> None:
        """Write ``run.json``."""
        with self._alone():
            self._backlog.put(self.path / keys.RUN_FILE, json_page(run).encode())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other process writes here.

        Raises:
            RuntimeError: If one does, which came while this one did not hold the folder.
        """
        other = self.claim()
        if other is not None:
            raise RuntimeError(f"{self.path}: another process ({other}) writes there")
        try:
            yield
        finally:
            if not self._keeps:
                self._lock.release()


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

    The first failure of a kind is reported once, and once that everything of it was written after all.

    Args:
        most_bytes: How much is kept for files that cannot be written.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._owed: dict[Path, _Owed] = {}
        # By the system's number: the same trouble with several files is reported once.
        self._failing: dict[Path, int] = {}
        self._left_out = False

    def put(self, path: Path, payload: bytes) -> None:
        """Write a file anew, in place of everything that it was owed."""
        self._owed[path] = _Owed(whole=payload)
        self.pay()

    def put_if_room(self, path: Path, payload: bytes) -> None:
        """Write a file that the record is whole without; where too much is owed it is left out, which is reported."""
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


def eval_rows_path(record: Path, split: str, step: int) -> Path:
    """Where the sums of an evaluation are in a run's ``ko_cpt`` folder, whether or not they are there."""
    return record / keys.EVAL_ROWS_FOLDER / keys.eval_rows_file(split, step)


def read_eval_rows(path: str | Path) -> RowSums:
    """The per-row sums in a file.

    Raises:
        UnreadableRunError: If it cannot be opened, is larger than `MAX_BYTES`, is compressed (this package writes
            it as it is, and a compressed one may unpack to any size), or holds other arrays.
    """
    path = Path(path)
    try:
        if kind := other_kind(path):
            raise UnreadableRunError(f"{path}: found {kind}, expected a file of per-row sums; move it away")
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableRunError(f"{path}: found {path.stat().st_size:,} bytes, expected at most {MAX_BYTES:,}")
        with zipfile.ZipFile(path) as archive:
            packed = [item.filename for item in archive.infolist() if item.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise UnreadableRunError(f"{path}: found compressed arrays, expected those that this package writes")
        return RowSums.from_payload(path.read_bytes())
    except OSError as error:
        raise UnreadableRunError(f"{path}: {opening_failure(error)}") from None
    except UnreadableRunError:
        raise
    except Exception as error:  # zipfile and numpy raise a dozen kinds for damaged bytes, another dozen next year
        raise UnreadableRunError(
            f"{path}: found no per-row sums ({type(error).__name__}: {error}), expected the arrays nll, tokens, bytes, "
            "hash and order; move it away to go on without it"
        ) from None
