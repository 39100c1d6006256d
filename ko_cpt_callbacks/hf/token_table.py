"""The byte table of a Trainer's tokenizer, built once and on first use."""

from __future__ import annotations

from typing import Any

from ko_cpt_callbacks.hf.evidence import Alignment
from ko_cpt_callbacks.hf.row_reader import RowReader
from ko_cpt_callbacks.hf.token_bytes import TokenBytes, TokenBytesUnavailable, build_token_bytes


class TokenTable:
    """What is known of the bytes behind token ids; a large vocabulary takes a moment to read.

    Args:
        rank: Index of this process, for the rows' data-set order.
    """

    def __init__(self, rank: int) -> None:
        self._rank = rank
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
                self._absent = f"the tokenizer could not be read: {type(error).__name__}: {error}"
        return self._table

    def absent(self, alignment: Alignment | None) -> str | None:
        """Why bytes are not counted for a model of this alignment; None when they are."""
        if alignment in ("masked", "seq2seq"):
            return f"a {alignment} model does not score the text token after token"
        return None if self.table is not None else self._absent

    def reader(self, alignment: Alignment | None) -> RowReader:
        """What reduces the batches of a model of this alignment."""
        absent = self.absent(alignment)
        return RowReader(self.table, count_bytes=absent is None, rank=self._rank, bytes_absent=absent)

    def facts(self, alignment: Alignment | None) -> dict[str, Any]:
        """The tokenizer as ``run.json`` describes it."""
        table = self.table
        return {
            "class": None if self._tokenizer is None else type(self._tokenizer).__name__,
            "vocabulary": None if table is None else len(table.lengths),
            "hash": None if table is None else table.tokenizer_hash,
            "bytes": None if table is None else table.kind,
            "bytes_absent": self.absent(alignment),
            "note": None if table is None else table.note,
        }
