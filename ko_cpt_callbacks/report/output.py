"""The report of a live run: written beside its record when the run is over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.run.output import Output

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

    def row(self, row: Mapping[str, Any]) -> None:
        """Write the page where the run is over."""
        kind = row.get(keys.KIND)
        self._ended = kind == keys.KIND_END or (self._ended and kind == keys.KIND_EVAL)
        if self._ended:
            from ko_cpt_callbacks.report.page import REPORT_FILE, write_report  # only for who wants a page

            write_report([str(self._folder / keys.ROWS_FILE)], self._folder / REPORT_FILE, language=self._language)
