"""``outputs=["findings-csv"]``: findings as a table that a spreadsheet opens."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ko_cpt_callbacks import Finding, Output

HEADER = ("code", "severity", "step", "split")


class FindingsCsv(Output):
    """Writes ``findings.csv``: a line a finding.

    Args:
        output_dir: The run's folder.
    """

    name = "findings-csv"

    def __init__(self, output_dir: Path) -> None:
        self._path = output_dir / "findings.csv"

    def begin(self, run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], findings: Sequence[Finding]) -> None:
        """Begin the file anew, with the findings that still hold after a resume."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([HEADER, *map(_row, findings)])

    def finding(self, finding: Finding) -> None:
        """Add a line."""
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(_row(finding))


def _row(finding: Finding) -> tuple[Any, ...]:
    return finding.code, finding.severity.value, finding.step, finding.split
