"""What one evaluation came to: each rank's part as bytes, and all parts together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ko_cpt_callbacks.core.row_sums import RowSums
from ko_cpt_callbacks.hf.padding import PaddingCounts, add_padding


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one evaluation came to, over all ranks.

    Attributes:
        rows: Sums of every row; None for ``loss`` evidence or when there is no exact loss.
        no_rows: For ``loss`` evidence: why there are no sums per row.
        counts: For ``loss`` evidence: tokens, bytes and hash of every row, losses 0; else None.
        nll: Summed negative log-likelihood (nats) for ``loss`` evidence.
        tokens: Target tokens for ``loss`` evidence.
        nonfinite_batches: Batches whose loss was NaN or infinite.
        batches: Batches seen, over all ranks.
        evidence: The kind of evidence, None when there was none.
        reason: Why there is no exact loss; None when there is one.
        unit: What the rows' hashes were taken of, ``utf8`` (text) or ``ids``; None where ranks differ.
        bytes_absent: Why bytes are not counted on some rank; None when they are on all.
        padding: Pads among the labels of the first batch; None where nobody looked.
    """

    rows: RowSums | None
    nll: float
    tokens: int
    nonfinite_batches: int
    batches: int
    evidence: str | None
    reason: str | None
    unit: str | None = None
    bytes_absent: str | None = None
    padding: PaddingCounts | None = None
    counts: RowSums | None = None
    no_rows: str | None = None


def pack(head: Mapping[str, Any], rows: RowSums) -> bytes:
    """One rank's part: its sums as JSON, its rows as arrays."""
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + rows.to_payload()


def merge(payloads: Sequence[bytes]) -> Measurement:
    """All parts, in rank order; the same bytes give the same measurement on every rank."""
    parts = [_unpack(payload) for payload in payloads]
    heads = [head for head, _ in parts]
    reason = next((head["reason"] for head in heads if head["reason"]), None)
    kinds = sorted({head["evidence"] for head in heads if head["evidence"]})
    if reason is None and len(kinds) > 1:
        reason = f"the ranks had different evidence: {' and '.join(kinds)}"
    evidence = kinds[0] if kinds else None
    sums = None if reason is not None else RowSums.concatenate([rows for _, rows in parts])
    whole = evidence != "loss"
    units = {head["unit"] for head in heads if head["unit"]}
    return Measurement(
        rows=sums if whole else None,
        nll=sum(head["nll"] for head in heads),
        tokens=sum(head["tokens"] for head in heads),
        nonfinite_batches=sum(head["nonfinite"] for head in heads),
        batches=sum(head["batches"] for head in heads),
        evidence=evidence,
        reason=reason,
        unit=units.pop() if len(units) == 1 else None,
        bytes_absent=next((head["bytes_absent"] for head in heads if head["bytes_absent"]), None),
        padding=add_padding([head["padding"] for head in heads]),
        counts=None if whole else sums,
        no_rows=next((head["no_rows"] for head in heads if head["no_rows"]), None),
    )


def _unpack(payload: bytes) -> tuple[dict[str, Any], RowSums]:
    size = int.from_bytes(payload[:8], "little")
    return json.loads(payload[8 : 8 + size]), RowSums.from_payload(payload[8 + size :])
