"""Keeps everything in lists: for tests, notebooks and programs that act on findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ko_cpt_callbacks.core.finding import Finding
from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.outputs.output import Output


class MemoryOutput(Output):
    """Everything the callback said, in order.

    Attributes:
        runs: Each state of ``run.json``.
        rows: Lines of ``rows.jsonl``.
        findings: Findings.
        evaluations: Per-row sums by (prefix, step).
    """

    name = "memory"

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.findings: list[Finding] = []
        self.evaluations: dict[tuple[str, int], RowSums] = {}

    def begin(self, run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], findings: Sequence[Finding]) -> None:
        """Start over from the established record."""
        self.runs.append(dict(run))
        self.rows = [dict(row) for row in rows]
        self.findings = list(findings)

    def row(self, row: Mapping[str, Any]) -> None:
        """Keep the row."""
        self.rows.append(dict(row))

    def eval_rows(self, prefix: str, step: int, rows: RowSums) -> None:
        """Keep the sums."""
        self.evaluations[prefix, step] = rows

    def finding(self, finding: Finding) -> None:
        """Keep the finding."""
        self.findings.append(finding)

    def run(self, run: Mapping[str, Any]) -> None:
        """Keep the new state."""
        self.runs.append(dict(run))
