"""Evaluation rows in the training set: rows of both are hashed and compared, a bounded number of them.

Only rows that can be read without running anyone's code are read: lists, and map-style ``datasets.Dataset`` without
a transform. No random number is drawn and no loader is touched, so the order of training is what it would have been.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import torch
from transformers import BatchEncoding

from ko_cpt_callbacks import keys

__all__ = ["data_mistakes"]

# All chosen, not measured: enough that 1 % of a set in common is seen, few enough for less than a second.
_TRAIN_ROWS: Final = 20_000
_EVAL_ROWS: Final = 2_000
_SECONDS: Final = 0.75
_EVAL_SHARE: Final = 0.4
_CHUNK: Final = 64

# Shorter rows repeat by chance (a heading, a "yes"). Chosen, not measured.
_MIN_TOKENS: Final = 32
_MIN_CHARACTERS: Final = 64

# Visiting rows in steps of the golden ratio spreads them evenly wherever the visit is broken off.
_GOLDEN: Final = 0.6180339887498949

Fetch = Callable[[Sequence[int]], list[bytes | None]]
"""Digests of rows by their indices; None for a row that is too short, or without what is compared."""


def data_mistakes(train: Any, evaluation: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A set-up row per evaluation set of which rows are in the training set.

    Args:
        train: The training set; None where it is not known.
        evaluation: The evaluation sets by the prefix of their rows.
    """
    start = time.monotonic()
    for column in ("input_ids", "text"):
        fetch = _fetch(train, column)
        parts = {name: (part, read) for name, part in evaluation.items() if (read := _fetch(part, column)) is not None}
        if fetch is not None and parts:
            yield from _common(train, fetch, parts, start)
            return


def _common(
    train: Any, fetch: Fetch, parts: Mapping[str, tuple[Any, Fetch]], start: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    looked_for: dict[str, list[bytes]] = {}
    for number, (name, (part, read)) in enumerate(parts.items(), start=1):
        until = start + _SECONDS * _EVAL_SHARE * number / len(parts)
        looked_for[name] = [item for item in _digests(read, len(part), _EVAL_ROWS, until) if item is not None]
    wanted = {item for rows in looked_for.values() for item in rows}
    if not wanted:
        return
    seen, looked = set(), 0
    for item in _digests(fetch, len(train), _TRAIN_ROWS, start + _SECONDS):
        looked += 1
        if item in wanted:
            seen.add(item)
    for name, rows in looked_for.items():
        found = sum(item in seen for item in rows)
        if found:
            counts = {"found": found, "compared": len(rows), "set_rows": len(parts[name][0])}
            yield "eval-in-training", {keys.SPLIT: name, **counts, "train_compared": looked, "train_rows": len(train)}


def _digests(fetch: Fetch, size: int, most: int, until: float) -> Iterator[bytes | None]:
    """Digests of at most ``most`` rows, evenly spread; fewer where the time is up."""
    count = min(size, most)
    stride = next(step for step in range(max(1, round(count * _GOLDEN)), 2 * count + 2) if math.gcd(step, count) == 1)
    visited = [(place * stride % count) * size // count for place in range(count)]
    for begin in range(0, count, _CHUNK):
        yield from fetch(visited[begin : begin + _CHUNK])
        if time.monotonic() > until:
            return


def _fetch(dataset: Any, column: str) -> Fetch | None:
    """How to read ``column`` of a dataset; None where it cannot be read, or not without running someone's code."""
    if type(dataset) is torch.utils.data.Subset:
        inner, indices = _fetch(dataset.dataset, column), dataset.indices
        return None if inner is None else lambda places: inner([int(indices[place]) for place in places])
    if getattr(type(dataset), "__getitem__", None) in (list.__getitem__, tuple.__getitem__):
        known = bool(dataset) and _value(dataset[0], column) is not None
        return (lambda places: [_digest(_value(dataset[place], column)) for place in places]) if known else None
    library = sys.modules.get("datasets")
    if library is None or type(dataset) is not library.Dataset or not len(dataset):
        return None
    if column not in dataset.column_names or dataset.format["type"] == "custom":
        return None
    plain = dataset.with_format("arrow", columns=[column])
    return lambda places: _arrow_digests(plain[list(places)].column(column))


def _value(row: Any, column: str) -> Any:
    values = row.data if isinstance(row, BatchEncoding) else row
    return values.get(column) if type(values) is dict else None


def _digest(value: Any) -> bytes | None:
    if isinstance(value, str):
        return _hash(value.encode()) if len(value) >= _MIN_CHARACTERS else None
    if isinstance(value, torch.Tensor) and value.device.type != "cpu":
        return None  # to look at it would wait for the device
    if value is None or len(value) < _MIN_TOKENS:
        return None
    return _hash(np.asarray(value, dtype="<i8").tobytes())


def _arrow_digests(column: Any) -> list[bytes | None]:
    """The same for a column of an Arrow table, without a Python object per token."""
    found: list[bytes | None] = []
    for chunk in column.chunks:
        if not len(chunk):
            continue
        if not hasattr(chunk, "value_lengths"):  # texts
            found.extend(_digest(text) for text in chunk.to_pylist())
            continue
        ids = chunk.flatten().to_numpy(zero_copy_only=False).astype("<i8")
        ends = np.cumsum(chunk.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
        found.extend(_digest(row) for row in np.split(ids, ends[:-1]))
    return found


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()
