"""The run folder ``<output_dir>/ko_cpt/``: what a later reader needs, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.finding import Finding
from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.outputs.backlog import Backlog
from ko_cpt_callbacks.outputs.file import json_lines, json_page, remove_stale
from ko_cpt_callbacks.outputs.lock import FolderLock, Hold
from ko_cpt_callbacks.outputs.output import Output

_log = logging.getLogger("ko_cpt_callbacks")


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
        self.path = output_dir / keys.FOLDER
        self._language = language
        self._backlog = Backlog()
        self._lock = FolderLock(self.path)
        self._keeps = True
        self._unlocked_told = False

    def claim(self) -> str | None:
        """Make sure that no other process writes here, without waiting.

        Returns:
            The process that does, as it names itself; None where none does, or nobody can tell.
        """
        try:
            hold = self._lock.take()
        except OSError:  # the writes themselves tell why nothing can be written, and are tried again
            return None
        if hold is Hold.OTHER:
            return self._lock.holder()
        if hold is Hold.NO_LOCKS and not self._unlocked_told:
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
            path = self.path / keys.EVAL_ROWS_FOLDER / keys.eval_rows_file(prefix, step)
            self._backlog.put_if_room(path, rows.to_payload())

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
