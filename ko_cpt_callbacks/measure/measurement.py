"""A model measured: documents in, numbers by set and language out, and the paired difference of two models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.compare.pairing import paired_with
from ko_cpt_callbacks.compare.value import Paired
from ko_cpt_callbacks.hf.measure.measurement import Measurement
from ko_cpt_callbacks.hf.publication import evaluation_entries
from ko_cpt_callbacks.measure.document import PARTS, DocumentSums, SplitBy, row_sums
from ko_cpt_callbacks.measure.text import MeasuredText
from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.metrics.uncertainty import ratio_estimate

__all__ = ["MeasuredModel", "MeasuredSet", "measured_model"]

_LN2: Final = math.log(2.0)


@dataclass(frozen=True, slots=True)
class MeasuredSet:
    """One set of documents, or all of one language, under one model.

    Attributes:
        name: The set's, or the language's.
        documents: In the text's order.
        entries: The numbers of its row without a prefix: ``bits_per_byte`` and so on, and why one is absent.
        rows: Per-document sums, as the rows of an evaluation.
        total: Whether it is all of a language.
    """

    name: str
    documents: tuple[DocumentSums, ...]
    entries: Mapping[str, Any]
    rows: RowSums
    total: bool = False

    def number(self, key: str) -> float | None:
        """One of the entries; None where it is absent, or no finite number."""
        value = self.entries.get(key)
        return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None

    @property
    def bytes_per_token(self) -> float | None:
        """UTF-8 bytes of text that a token stands for; None where they are not known."""
        tokens, size = self.number(keys.TOKENS), self.number(keys.BYTES)
        return size / tokens if tokens and size else None

    @property
    def tokens_per_character(self) -> float | None:
        """Tokens that a character becomes; None without a token."""
        tokens, characters = self.number(keys.TOKENS), sum(item.characters for item in self.documents)
        return tokens / characters if tokens and characters else None

    def parts(self, by: SplitBy) -> dict[str, tuple[float, int]]:
        """Bits and bytes by part, in the order of `PARTS`: their bits add up to the set's; empty: not known."""
        found: dict[str, tuple[float, int]] = {}
        for name in PARTS[by]:
            sums = [item.parts[by][name] for item in self.documents if name in item.parts.get(by, {})]
            if sums:
                found[name] = (math.fsum(nats for nats, _ in sums) / _LN2, sum(size for _, size in sums))
        return found

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        parts = {
            by: {name: {"bits": bits, "bytes": size} for name, (bits, size) in self.parts(by).items()} for by in SplitBy
        }
        return {
            "set": self.name,
            "documents": len(self.documents),
            **self.entries,
            "bytes_per_token": self.bytes_per_token,
            "tokens_per_character": self.tokens_per_character,
            "parts": {by: sums for by, sums in parts.items() if sums},
        }


@dataclass(frozen=True, slots=True)
class MeasuredModel:
    """A model under a text.

    Attributes:
        name: As the user named it.
        facts: How it was measured: window, context, prefix, text; why bytes are not counted.
        sets: Totals of languages first.
        changed: Documents whose tokens stand for another number of bytes than the text has.
    """

    name: str
    facts: Mapping[str, Any]
    sets: tuple[MeasuredSet, ...]
    changed: int

    def against(self, other: MeasuredModel) -> dict[str, Paired]:
        """By set: its bits per byte less those of another model on the same documents, or why there is no number."""
        theirs = {item.name: item.rows for item in other.sets}
        return {
            item.name: paired_with(theirs[item.name], item.rows, same_tokenizer=False)
            for item in self.sets
            if item.name in theirs
        }

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "model": self.name,
            **self.facts,
            "changed_documents": self.changed,
            "sets": [item.as_dict() for item in self.sets],
        }


def measured_model(
    name: str,
    text: MeasuredText,
    documents: Iterable[DocumentSums],
    facts: Mapping[str, Any],
) -> MeasuredModel:
    """The numbers that documents come to.

    Args:
        name: The model, as the user named it.
        text: What was measured; every document of it is among the sums.
        documents: Their sums, in any order.
        facts: How they were measured, ``bytes_absent`` among it: why bytes are not counted; None when they are.
    """
    bytes_absent: str | None = facts["bytes_absent"]
    sums = {(item.set, item.id): item for item in documents}
    by_set = {item.name: [sums[item.name, one.id] for one in item.documents] for item in text.sets}
    sets = [_set(item.name, by_set[item.name], bytes_absent) for item in text.sets]
    totals = [
        _set(
            language,
            [one for item in text.sets if item.language == language for one in by_set[item.name]],
            bytes_absent,
            total=True,
        )
        for language in text.languages
    ]
    changed = sum(0 <= one.bytes != one.text_bytes for one in sums.values())
    return MeasuredModel(name, facts, (*totals, *sets), changed)


def _set(name: str, documents: Sequence[DocumentSums], bytes_absent: str | None, *, total: bool = False) -> MeasuredSet:
    rows = row_sums(documents)
    broken = sum(not math.isfinite(item.nll) for item in documents)
    measured = Measurement(
        rows=rows, nll=0.0, tokens=0, nonfinite_batches=broken, batches=len(rows), evidence="logits", reason=None,
        unit="utf8" if bytes_absent is None else "ids", bytes_absent=bytes_absent,
    )  # fmt: skip
    numbers, texts = evaluation_entries("", measured)
    entries: dict[str, Any] = {key.removeprefix("_"): value for key, value in {**numbers, **texts}.items()}
    if total:
        # So many documents of each set are in the text: how far sets are apart is no error of their total.
        strata = [item.set for item in documents if item.hash]
        sizes = {keys.EXACT_LOSS_SE: rows.tokens, keys.BITS_PER_BYTE_SE: rows.bytes * _LN2}
        entries |= {key: ratio_estimate(rows.nll, size, strata).se for key, size in sizes.items() if key in entries}
    return MeasuredSet(name, tuple(documents), entries, rows, total)
