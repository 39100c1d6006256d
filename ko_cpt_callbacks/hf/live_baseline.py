"""The live side of a comparison: which stage of the baseline a run stands beside, and by how much, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from torch import nn

from ko_cpt_callbacks.compare.baseline import Baseline, stage_values
from ko_cpt_callbacks.compare.pairing import paired_with
from ko_cpt_callbacks.compare.reference import Reference, checked_stage, reference_of
from ko_cpt_callbacks.compare.value import Paired
from ko_cpt_callbacks.hf.model.trained_parts import read_stage
from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.run.folder import read_eval_rows

__all__ = ["LiveBaseline"]

_FILE: Final = "baseline file "
"""Before the name of a file, among what the ranks exchange."""


class LiveBaseline:
    """The baseline of one run.

    Args:
        baseline: What the run is compared with; None: nothing.
        stage: Its stage, or ``auto``: the one that trains what this model trains.

    Raises:
        ConfigurationError: For a stage that the baseline does not have.
    """

    def __init__(self, baseline: Baseline | None, stage: str) -> None:
        self._baseline = baseline
        self._asked = None if baseline is None else checked_stage(baseline, stage)
        self._stage = self._asked
        self._files: dict[str, bytes] = {}
        self._sent = False

    def stage_row(self, model: nn.Module) -> dict[str, Any]:
        """What the ``stage`` row says of ``model``."""
        return stage_values(read_stage(model), self._baseline)

    def compare_with(self, stage_row: Mapping[str, Any]) -> None:
        """From here on the stage that a ``stage`` row names is compared with, unless another was asked for."""
        if self._baseline is not None and self._asked is None:
            self._stage = stage_row["baseline_stage"]

    def rows_files(self, on_error: Callable[[Exception], None]) -> dict[str, bytes]:
        """The per-row sums of the baseline's evaluations by file, as the first rank reads them, for every rank.

        Args:
            on_error: Called with the exception of an unreadable file; its evaluation is not compared row by row.
        """
        stages = () if self._baseline is None else self._baseline.stages
        names = dict.fromkeys(value.rows_file for stage in stages for value in stage.values if value.rows_file)
        found: dict[str, bytes] = {}
        for name in names:
            try:
                found[name] = read_eval_rows(Path(name)).to_payload()
            except Exception as error:
                on_error(error)
        return found

    def files_to_send(self, on_error: Callable[[Exception], None]) -> dict[str, bytes]:
        """:meth:`rows_files` as parts of an exchange; once."""
        if self._sent:
            return {}
        self._sent = True
        return {f"{_FILE}{name}": part for name, part in self.rows_files(on_error).items()}

    def take(self, parts: Mapping[str, bytes]) -> None:
        """What :meth:`files_to_send` gave on the first rank, among other parts."""
        found = {name.removeprefix(_FILE): part for name, part in parts.items() if name.startswith(_FILE)}
        self._files.update(found)

    def difference_row(
        self, split: str, rows: RowSums | None, fingerprint: str | None, tokenizer_hash: str | None
    ) -> dict[str, Any] | None:
        """What the ``baseline-difference`` row says of an evaluation; the same on every rank for the same values.

        Args:
            split: The evaluation's prefix.
            rows: Per-row sums of the evaluation, over all ranks; None where there are none.
            fingerprint: Of their text, as published; None where it is not known.
            tokenizer_hash: Hash of the run's tokenizer; None where it has none.

        Returns:
            The difference in its unit with its standard error, or the reasons why there is none; None where the
            baseline was measured on another text, or has no sums per row.
        """
        baseline = self._baseline
        if baseline is None or rows is None or fingerprint is None:
            return None
        reference = reference_of(baseline, self._stage, set=split, fingerprint=fingerprint)
        if not isinstance(reference, Reference) or reference.rows_file is None:
            return None
        payload = self._files.get(reference.rows_file)
        if reference.fingerprint != fingerprint or not payload:
            return None
        same = tokenizer_hash is not None and tokenizer_hash == baseline.tokenizer_hash
        theirs = RowSums.from_payload(payload)
        found = paired_with(theirs, rows, same)
        if reference.contradicts(theirs):
            found = Paired(found.unit, reasons=("other-rows",))
        said: dict[str, Any] = {"split": split, "baseline": baseline.id, "stage": reference.stage, "unit": found.unit}
        if found.reasons:
            return {**said, "reasons": list(found.reasons)}
        return {**said, "difference": found.difference, "se": found.se, "rows": found.rows}
