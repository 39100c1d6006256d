"""Evaluations of a live run compared row by row: with the baseline's, and with the set's evaluation before.

The first rank reads the rows of both; every rank gets them, and computes the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch import nn

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.compare.baseline import Baseline, stage_values
from ko_cpt_callbacks.compare.pairing import paired_with
from ko_cpt_callbacks.compare.reference import Reference, checked_stage, reference_of
from ko_cpt_callbacks.compare.value import Paired
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.hf.model.trained_parts import read_stage
from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.run.folder import eval_rows_path, read_eval_rows
from ko_cpt_callbacks.run.progress import Summary

__all__ = ["LiveBaseline", "RowChange"]

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

    def files_to_send(self, on_error: Callable[[Exception], None]) -> dict[str, bytes]:
        """The per-row sums of the baseline's evaluations, as the first rank reads them, once, for every rank.

        Args:
            on_error: Called with the exception of an unreadable file; its evaluation is not compared row by row.
        """
        stages = () if self._baseline is None or self._sent else self._baseline.stages
        self._sent = True
        names = dict.fromkeys(value.rows_file for stage in stages for value in stage.values if value.rows_file)
        found: dict[str, bytes] = {}
        for name in names:
            try:
                found[f"{_FILE}{name}"] = read_eval_rows(Path(name)).to_payload()
            except Exception as error:
                on_error(error)
        return found

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


_LAST: Final = "last rows "
"""Before the step and the set of the rows, among what the ranks exchange."""


class RowChange:
    """The last rows of every set; the same on every rank."""

    def __init__(self, record: Path) -> None:
        self._record = record
        # The last evaluation, and the one before: another of the last one's step replaces it.
        self._held: dict[str, tuple[tuple[int, RowSums], ...]] = {}

    def rows_to_send(self, summary: Summary) -> dict[str, bytes]:
        """The last rows of every set of a run that is resumed, as the first rank reads them, for every rank.

        Args:
            summary: What the run had reached; rows that are of another evaluation are left out.
        """
        found: dict[str, bytes] = {}
        for name, split in summary.splits.items():
            last = split.last
            try:
                rows = read_eval_rows(eval_rows_path(self._record, name, last.step))
            except UnreadableRunError:  # without them the next evaluation counts as one on rows of its own
                continue
            exact = last.value if last.metric == keys.EXACT_LOSS else None
            if exact is not None and rows.contradiction(loss=exact, tokens=last.tokens, bytes=last.bytes) is None:
                found[f"{_LAST}{last.step} {name}"] = rows.to_payload()
        return found

    def begin(self, parts: Mapping[str, bytes]) -> None:
        """Training begins, with what :meth:`rows_to_send` gave on the first rank, among other parts."""
        self._held = {}
        for key, payload in parts.items():
            if key.startswith(_LAST):
                step, _, name = key.removeprefix(_LAST).partition(" ")
                self._held[name] = ((int(step), RowSums.from_payload(payload)),)

    def numbers(self, prefix: str, step: int, rows: RowSums | None) -> dict[str, float | int]:
        """The standard error of an evaluation's change, keyed for its row; empty where none before has these rows."""
        if rows is None or not np.isfinite(rows.nll).all():
            return {}
        earlier = tuple(one for one in self._held.get(prefix, ()) if one[0] < step)[-1:]
        self._held[prefix] = (*earlier, (step, rows))
        se = paired_with(earlier[0][1], rows, same_tokenizer=True).se if earlier else None
        return {} if se is None else {keys.key(prefix, keys.EXACT_LOSS_CHANGE_SE): se}
