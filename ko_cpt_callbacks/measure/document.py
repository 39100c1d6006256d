"""What one document came to under a model, as a line of a file; all of them together as the sums of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from ko_cpt_callbacks.hf.measure.evidence import LossEvidence
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE
from ko_cpt_callbacks.hf.measure.row_reader import BatchRecord, TokenTable
from ko_cpt_callbacks.hf.tokenizer.token_bytes import row_byte_lengths, row_text
from ko_cpt_callbacks.measure.part import PartSums, Sharing, part_sums
from ko_cpt_callbacks.metrics.row_sums import HASH_WORDS, RowSums
from ko_cpt_callbacks.training.data.encode import Document

__all__ = ["CAUSAL", "DocumentReader", "DocumentSums", "row_sums"]

CAUSAL: Final = "causal"
"""How the logits of a measured model and its labels belong together."""


@dataclass(frozen=True, slots=True)
class DocumentSums:
    """One document under one model.

    Attributes:
        set: Its set's name.
        id: Its own.
        nll: Summed loss of its scored tokens, nats.
        tokens: Those tokens.
        bytes: UTF-8 bytes that they stand for; -1 where they are not known.
        hash: Of its text, as an evaluation's row has it; hexadecimal digits.
        flags: Of its row (`metrics.row_sums`).
        text_bytes: UTF-8 bytes of the document as it was given.
        characters: Its characters.
        parts: Nats and bytes by script, position and vocabulary.
    """

    set: str
    id: str
    nll: float
    tokens: int
    bytes: int
    hash: str
    flags: int
    text_bytes: int
    characters: int
    parts: Mapping[Sharing, PartSums]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        named = {name: getattr(self, name) for name in DocumentSums.__slots__}
        parts = {by: {name: list(one) for name, one in sums.items()} for by, sums in self.parts.items()}
        return {**named, "parts": parts}

    @classmethod
    def of(cls, line: dict[str, Any]) -> DocumentSums:
        """The inverse of `as_dict`; numbers that JSON has no word for come as their text.

        Raises:
            ValueError, TypeError, KeyError: If the line is another's.
        """
        parts = {
            Sharing(by): {str(name): (float(nats), int(size)) for name, (nats, size) in sums.items()}
            for by, sums in line["parts"].items()
        }
        return cls(**{**line, "nll": float(line["nll"]), "parts": parts})


class DocumentReader:
    """Sums up documents as the callback sums up the rows of an evaluation.

    Args:
        table: Bytes of the token ids.
        prefix: The token in front of a text; None where the tokenizer has none.
        old_rows: Rows of the old vocabulary; None where it is not known.
    """

    def __init__(self, table: TokenTable, prefix: int | None, old_rows: int | None = None) -> None:
        self._table, self._reader = table.table, table.reader(CAUSAL)
        self._front = [] if prefix is None else [prefix]
        self._old_rows = old_rows

    def read(self, set: str, document: Document, ids: Sequence[int], nll: NDArray[np.float64]) -> DocumentSums:
        """The sums of a document.

        Args:
            set: Its set's name.
            document: What it says.
            ids: Its token ids, without the one in front.
            nll: Their losses, NaN where one is not scored.
        """
        whole = torch.tensor([[*self._front, *ids]], dtype=torch.long)
        labels = whole.clone()
        labels[0, : len(self._front)] = IGNORE
        labels[0, len(self._front) :][torch.from_numpy(np.isnan(nll))] = IGNORE
        losses = torch.zeros(whole.shape, dtype=torch.float64)
        losses[0, len(self._front) :] = torch.from_numpy(np.where(np.isnan(nll), 0.0, nll))
        evidence = LossEvidence("logits", nll=losses, labels=labels)
        rows = self._reader.read(BatchRecord(evidence, whole, None, None, 0), None)
        found = len(rows) > 0
        return DocumentSums(
            set=set,
            id=document.id,
            nll=float(rows.nll[0]) if found else 0.0,
            tokens=int(rows.tokens[0]) if found else 0,
            bytes=int(rows.bytes[0]) if found else 0,
            hash=rows.hash[0].astype("<u8").tobytes().hex() if found else "",
            flags=int(rows.flags[0]) if found else 0,
            text_bytes=document.size,
            characters=len(document.text),
            parts=self._parts(whole.numpy()[0], nll) if found else {},
        )

    def _parts(self, whole: NDArray[Any], nll: NDArray[np.float64]) -> dict[Sharing, PartSums]:
        ids = whole[len(self._front) :]
        if self._table is None:
            return part_sums(nll, np.full(len(nll), -1), b"", ids, self._old_rows)
        lengths = row_byte_lengths(self._table, whole)[len(self._front) :]
        return part_sums(nll, lengths, row_text(self._table, whole), ids, self._old_rows)


def row_sums(documents: Sequence[DocumentSums]) -> RowSums:
    """Documents as the rows of an evaluation, in their order; those without a token are none."""
    kept = [item for item in documents if item.hash]
    return RowSums(
        nll=np.array([item.nll for item in kept], dtype=np.float64),
        tokens=np.array([item.tokens for item in kept], dtype=np.int64),
        bytes=np.array([item.bytes for item in kept], dtype=np.int64),
        hash=np.frombuffer(b"".join(bytes.fromhex(item.hash) for item in kept), dtype="<u8").reshape(-1, HASH_WORDS),
        order=np.array([(0, 0, at) for at in range(len(kept))], dtype=np.int64).reshape(-1, 3),
        flags=np.array([item.flags for item in kept], dtype=np.uint8),
    )
