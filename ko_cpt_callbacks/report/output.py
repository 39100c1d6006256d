"""The report of a live run: written beside its record when the run is over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.run.facts import RunFacts
from ko_cpt_callbacks.run.output import Output
from ko_cpt_callbacks.run.progress import Summary

__all__ = ["ReportOutput"]


class ReportOutput(Output):
    """Writes ``ko_cpt/report.html`` from the run's own files, at its end and after every evaluation that follows.

    A run that is killed has none: ``ko-cpt report`` makes it.

    Args:
        output_dir: The run's; its record is read, so ``files`` has to be among the outputs.
        language: Of the page.
    """

    name = "report"

    def __init__(self, output_dir: Path, language: str) -> None:
        self._folder = output_dir / keys.FOLDER
        self._language = language
        self._ended = False

    def close(self, summary: Summary, facts: RunFacts) -> None:
        """Write the page; why a run ended early stands in the last row of its training."""
        self._ended = True
        self._write()

    def row(self, row: Mapping[str, Any]) -> None:
        """Write the page anew with an evaluation after the end."""
        self._ended = self._ended and row.get(keys.KIND) != keys.KIND_TRAIN
        if self._ended and row.get(keys.KIND) == keys.KIND_EVAL:
            self._write()

    def _write(self) -> None:
        from ko_cpt_callbacks.report.page import REPORT_FILE, write_report  # only for who wants a page

        write_report([str(self._folder / keys.ROWS_FILE)], self._folder / REPORT_FILE, language=self._language)
