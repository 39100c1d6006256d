"""From the tensors of one evaluation batch to the sums of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ko_cpt_callbacks.errors import error_text
from ko_cpt_callbacks.hf.measure.evidence import LossEvidence
from ko_cpt_callbacks.hf.measure.model_output import Alignment
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE
from ko_cpt_callbacks.hf.tokenizer.reading import TokenBytesUnavailable
from ko_cpt_callbacks.hf.tokenizer.token_bytes import TokenBytes, build_token_bytes, row_byte_lengths, row_text
from ko_cpt_callbacks.metrics.row_sums import HASH_WORDS, OPENS, READ, SEVERAL, SPECIAL_SCORED, RowSums


class TokenTable:
    """What is known of the bytes behind token ids; a large vocabulary takes a moment to read.

    Args:
        rank: Index of this process, for the rows' data-set order.
        alignment: How the model's logits and labels belong together; None where that is not known.
    """

    def __init__(self, rank: int, alignment: Alignment | None = None) -> None:
        self._rank = rank
        self.alignment = alignment
        self._tokenizer: Any = None
        self._read = False
        self._table: TokenBytes | None = None
        self._absent: str | None = None

    def use(self, tokenizer: Any) -> None:
        """Read ``tokenizer`` from now on; None leaves things as they are."""
        if tokenizer is not None and tokenizer is not self._tokenizer:
            self._tokenizer, self._read = tokenizer, False

    @property
    def table(self) -> TokenBytes | None:
        """The table, or None where the tokenizer is not understood."""
        if not self._read:
            self._read, self._table, self._absent = True, None, None
            try:
                self._table = build_token_bytes(self._tokenizer)
            except TokenBytesUnavailable as absent:
                self._absent = absent.reason
            except Exception as error:  # whatever it is, it must not make this rank differ from the others
                self._absent = f"the tokenizer could not be read: {error_text(error)}"
        return self._table

    def absent(self) -> str | None:
        """Why bytes are not counted for this model; None when they are."""
        if self.alignment in ("masked", "seq2seq"):
            return f"a {self.alignment} model does not score the text token after token"
        return None if self.table is not None else self._absent

    def reader(self) -> RowReader:
        """What reduces the batches of this model."""
        return RowReader(self.table, self._rank, self.absent())

    def facts(self) -> dict[str, Any]:
        """The tokenizer as ``run.json`` describes it."""
        table = self.table
        return {
            "class": None if self._tokenizer is None else type(self._tokenizer).__name__,
            "vocabulary": None if table is None else len(table.lengths),
            "hash": None if table is None else table.tokenizer_hash,
            "bytes": None if table is None else table.kind,
            "bytes_absent": self.absent(),
            "note": None if table is None else table.note,
        }


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One evaluation batch as it waits for its reduction, tensors still on the device.

    Attributes:
        evidence: Per-position losses and labels; (rows, length).
        input_ids: Token ids of the text; (rows, length), or None (``inputs_embeds``): then the labels are the text.
        attention_mask: 1 where the row has a token; (rows, length), or None: everywhere.
        starts: True where a document begins in a packed line; (rows, length), or None: every line is one.
        batch: Number of the batch in this evaluation on this rank.
    """

    evidence: LossEvidence
    input_ids: Tensor | None
    attention_mask: Tensor | None
    starts: Tensor | None
    batch: int


class RowReader:
    """Reduces batches to row sums on the CPU.

    Args:
        table: Bytes per token id, or None when the tokenizer is not understood: then rows are identified by
            their token ids and carry no bytes.
        rank: Index of this process, for the rows' data-set order.
        bytes_absent: Why there is no table, or bytes mean nothing for this kind of model; None when they are counted.
    """

    def __init__(self, table: TokenBytes | None, rank: int, bytes_absent: str | None = None) -> None:
        self.unit = "ids" if table is None else "utf8"
        self.bytes_absent = bytes_absent
        self._table = table
        self._rank = rank

    def read(self, record: BatchRecord, rows_kept: int | None) -> RowSums:
        """Sums of the batch's rows.

        Args:
            record: The batch.
            rows_kept: How many of the first lines (where there is one line: of its documents) belong to the data
                set; the others repeat rows from its start to fill the last distributed batch. None: all.
        """
        evidence = record.evidence
        assert evidence.nll is not None and evidence.labels is not None
        nll = evidence.nll.to("cpu", torch.float64).numpy()
        labels = _array(evidence.labels)
        ids = labels if record.input_ids is None else _array(record.input_ids)
        mask = ids != IGNORE
        if record.attention_mask is not None:
            mask &= _array(record.attention_mask) != 0
        parts = self._parts(record, *ids.shape)
        if rows_kept is not None:
            parts = parts[:rows_kept] if len(ids) == 1 else [part for part in parts if part[0] < rows_kept]
        sums = [
            self._row(nll[row, part], labels[row, part], ids[row, part], mask[row, part], record.input_ids is not None)
            for row, part in parts
        ]
        kept = [(at, row) for at, row in enumerate(sums) if row is not None]
        if not kept:
            return RowSums.empty()
        values = [row for _, row in kept]
        return RowSums(
            nll=np.array([row[0] for row in values], dtype=np.float64),
            tokens=np.array([row[1] for row in values], dtype=np.int64),
            bytes=np.array([row[2] for row in values], dtype=np.int64),
            hash=np.frombuffer(b"".join(row[3] for row in values), dtype="<u8").reshape(-1, HASH_WORDS),
            order=np.array([(record.batch, self._rank, at) for at, _ in kept], dtype=np.int64),
            flags=np.array([row[4] for row in values], dtype=np.uint8),
        )

    @staticmethod
    def _parts(record: BatchRecord, rows: int, length: int) -> list[tuple[int, slice]]:
        """Line and place of every document."""
        if record.starts is None:
            return [(row, slice(0, length)) for row in range(rows)]
        starts = _array(record.starts)
        begins = [[int(at) for at in np.flatnonzero(starts[row])] for row in range(rows)]
        return [
            (row, slice(begin, end))
            for row, line in enumerate(begins)
            for begin, end in zip(line, [*line[1:], length], strict=True)
        ]

    def _row(
        self,
        nll: NDArray[np.float64],
        labels: NDArray[Any],
        ids: NDArray[Any],
        mask: NDArray[np.bool_],
        has_text: bool,
    ) -> tuple[float, int, int, bytes, int] | None:
        scored = labels != IGNORE
        tokens = int(scored.sum())
        text_ids = ids[mask]
        text = self._text(text_ids)
        # Without a target and with one token at most it is padding, where each pad may begin anew, or as empty as that.
        if not tokens and (not text or len(text_ids) == 1):
            return None
        aligned = bool(mask[scored].all()) and np.array_equal(labels[scored], ids[scored])
        return (
            float(nll[scored].sum()),
            tokens,
            self._scored_bytes(labels, ids, mask, scored, aligned),
            blake2b(text, digest_size=8 * HASH_WORDS).digest(),
            # Shifted labels do not say which token is scored, and labels alone not what stands before the first.
            self._flags(ids, mask, scored) if aligned and has_text else 0,
        )

    def _flags(self, ids: NDArray[Any], mask: NDArray[np.bool_], scored: NDArray[np.bool_]) -> int:
        """What kind of row it is, for comparisons across tokenizers; 0 where special tokens are not known."""
        if self._table is None:
            return 0
        known = (ids >= 0) & (ids < len(self._table.special))
        special = self._table.special[np.where(known, ids, 0)] & known & mask
        text = np.flatnonzero(mask & ~special)
        flags = READ
        if len(text):
            flags |= OPENS if scored[text[0]] else 0
            flags |= SEVERAL if special[text[0] : text[-1]].any() else 0
        return flags | (SPECIAL_SCORED if (special & scored).any() else 0)

    def _text(self, ids: NDArray[Any]) -> bytes:
        if self._table is None:
            return np.ascontiguousarray(ids, dtype="<i8").tobytes()
        return row_text(self._table, ids)

    def _scored_bytes(
        self,
        labels: NDArray[Any],
        ids: NDArray[Any],
        mask: NDArray[np.bool_],
        scored: NDArray[np.bool_],
        aligned: bool,
    ) -> int:
        """UTF-8 bytes of the targets; -1 when one of them has no known bytes, or bytes are not counted."""
        if self._table is None or self.bytes_absent is not None:
            return -1
        if aligned:
            lengths = np.zeros(len(ids), dtype=np.int64)
            lengths[mask] = row_byte_lengths(self._table, ids[mask])
            found = lengths[scored]
        else:
            wanted = labels[scored]
            known = (wanted >= 0) & (wanted < len(self._table.lengths))
            found = np.where(known, self._table.lengths[np.where(known, wanted, 0)], -1)
        return -1 if bool((found < 0).any()) else int(found.sum())


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.to("cpu").numpy()
    return array
