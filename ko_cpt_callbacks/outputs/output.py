"""What every output can be told. An output shows or stores; it judges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ko_cpt_callbacks.core.finding import Finding
from ko_cpt_callbacks.metrics.row_sums import RowSums


class Output:
    """Base of all outputs; override what is of interest. Called on the main process only.

    An output that raises is reported once and not called again: the run goes on.
    """

    name = "output"

    def begin(self, run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], findings: Sequence[Finding]) -> None:
        """The record is (re)established.

        Args:
            run: What ``run.json`` says.
            rows: Every line of ``rows.jsonl`` up to now, superseded ones marked.
            findings: What the fold over the valid rows gives.
        """

    def row(self, row: Mapping[str, Any]) -> None:
        """One more line of ``rows.jsonl``."""

    def eval_rows(self, prefix: str, step: int, rows: RowSums) -> None:
        """Per-row sums of one evaluation."""

    def finding(self, finding: Finding) -> None:
        """One more finding."""

    def run(self, run: Mapping[str, Any]) -> None:
        """``run.json`` says something new."""
