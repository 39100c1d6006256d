"""The run folder ``<output_dir>/ko_cpt/``: what a later reader needs, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.finding import Finding
from ko_cpt_callbacks.core.row_sums import RowSums
from ko_cpt_callbacks.outputs.file import append_line, json_lines, strict, write_whole
from ko_cpt_callbacks.outputs.output import Output


class RunFolder(Output):
    """Writes ``run.json``, ``rows.jsonl``, ``findings.jsonl`` and ``eval_rows/<set>-<step>.npz``.

    Args:
        output_dir: The Trainer's ``output_dir``.
        language: Language of the findings' sentences.
    """

    name = "files"

    def __init__(self, output_dir: Path, language: str) -> None:
        self.path = output_dir / keys.FOLDER
        self._language = language

    def begin(self, run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], findings: Sequence[Finding]) -> None:
        """Write all three files anew."""
        self.run(run)
        write_whole(self.path / keys.ROWS_FILE, json_lines(rows))
        write_whole(
            self.path / keys.FINDINGS_FILE, json_lines(finding.as_dict(self._language) for finding in findings)
        )

    def row(self, row: Mapping[str, Any]) -> None:
        """Append the row."""
        append_line(self.path / keys.ROWS_FILE, json_lines([row]))

    def finding(self, finding: Finding) -> None:
        """Append the finding."""
        append_line(self.path / keys.FINDINGS_FILE, json_lines([finding.as_dict(self._language)]))

    def eval_rows(self, prefix: str, step: int, rows: RowSums) -> None:
        """Write the arrays ``nll``, ``tokens``, ``bytes``, ``hash``, ``order``."""
        write_whole(self.path / keys.EVAL_ROWS_FOLDER / keys.eval_rows_file(prefix, step), rows.to_payload())

    def run(self, run: Mapping[str, Any]) -> None:
        """Write ``run.json``."""
        import json

        text = json.dumps(strict(run), ensure_ascii=False, allow_nan=False, indent=2)
        write_whole(self.path / keys.RUN_FILE, f"{text}\n".encode())
