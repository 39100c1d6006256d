"""The live side of a comparison: which stage of the baseline a run stands beside, and by how much, row by row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ko_cpt_callbacks.core.baseline import Baseline
from ko_cpt_callbacks.core.comparison_value import Paired
from ko_cpt_callbacks.core.pairing import paired_with
from ko_cpt_callbacks.core.reference import Reference, checked_stage, reference_of
from ko_cpt_callbacks.core.row_sums import RowSums
from ko_cpt_callbacks.core.stage_facts import stage_values
from ko_cpt_callbacks.hf.rank import Ranks
from ko_cpt_callbacks.hf.stage_reading import read_stage
from ko_cpt_callbacks.readers.eval_rows import read_eval_rows

__all__ = ["LiveBaseline"]


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

    def stage_row(self, model: nn.Module) -> dict[str, Any]:
        """What the ``stage`` row says of ``model``; from here on its stage is compared with, unless one was asked."""
        values = stage_values(read_stage(model), self._baseline)
        if self._baseline is not None and self._asked is None:
            self._stage = values["baseline_stage"]
        return values

    def difference_row(
        self,
        split: str,
        rows: RowSums | None,
        fingerprint: str | None,
        tokenizer_hash: str | None,
        ranks: Ranks,
        on_error: Callable[[Exception], None],
    ) -> dict[str, Any] | None:
        """What the ``baseline-difference`` row says of an evaluation; every rank must call it with the same values.

        Args:
            split: The evaluation's prefix.
            rows: Per-row sums of the evaluation, over all ranks; None where there are none.
            fingerprint: Of their text, as published; None where it is not known.
            tokenizer_hash: Hash of the run's tokenizer; None where it has none.
            ranks: The processes that must agree: the first one reads the baseline's file.
            on_error: Told of a file that cannot be read.

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
        if reference.fingerprint != fingerprint:
            return None
        payload = b""
        if ranks.index == 0 or ranks.alone:
            try:
                payload = read_eval_rows(Path(reference.rows_file)).to_payload()
            except Exception as error:  # the other ranks wait for an answer
                on_error(error)
        payload = ranks.from_first(payload)
        if not payload:
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
