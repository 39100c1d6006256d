"""How far the rows of a set have moved since its evaluation before: what only the pairing of rows can tell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.compare.pairing import paired_with
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.run.folder import eval_rows_path, read_eval_rows
from ko_cpt_callbacks.run.progress import Summary

__all__ = ["RowChange"]

_LAST: Final = "last rows "
"""Before the step and the set of the rows, among what the ranks exchange."""


class RowChange:
    """The last rows of every set; the same on every rank.

    Args:
        record: The run's ``ko_cpt`` folder.
    """

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
        """The standard error of an evaluation's change, keyed for its row; empty where there is none on the same rows.

        Args:
            prefix: The evaluation's prefix.
            step: Its optimizer step.
            rows: Its per-row sums, over all ranks; None where there are none.
        """
        if rows is None or not np.isfinite(rows.nll).all():
            return {}
        earlier = tuple(one for one in self._held.get(prefix, ()) if one[0] < step)[-1:]
        self._held[prefix] = (*earlier, (step, rows))
        se = paired_with(earlier[0][1], rows, same_tokenizer=True).se if earlier else None
        return {} if se is None else {keys.key(prefix, keys.EXACT_LOSS_CHANGE_SE): se}
