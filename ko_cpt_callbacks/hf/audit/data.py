"""Rows of the data sets, a bounded number of them: are evaluation rows in the training set, and is it the same set?

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

__all__ = ["data_mistakes", "training_facts"]

# All chosen, not measured: enough that 1 % of a set in common is seen, few enough for less than a second.
_TRAIN_ROWS: Final = 20_000
_EVAL_ROWS: Final = 2_000
_SECONDS: Final = 0.75
_EVAL_SHARE: Final = 0.4
_CHUNK: Final = 64

# Rows of the training set that are hashed for its facts, evenly spread, the first and the last among them: at fixed
# places of the set, since a resume goes on in the middle of an epoch. Chosen, not measured.
_HASHED_ROWS: Final = 32

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
    read = _reader(dataset, column)
    return None if read is None else lambda places: [_digest(value) for value in read(places)]


def _digest(value: Any) -> bytes | None:
    if isinstance(value, str):
        return blake2b(value.encode(), digest_size=16).digest() if len(value) >= _MIN_CHARACTERS else None
    if isinstance(value, torch.Tensor) and value.device.type != "cpu":
        return None  # to look at it would wait for the device
    if value is None or len(value) < _MIN_TOKENS:
        return None
    return blake2b(_bytes(value), digest_size=16).digest()


def training_facts(dataset: Any) -> dict[str, Any]:
    """How many rows a training set has and a hash of some; empty where they cannot be read.

    Args:
        dataset: The training set; None where it is not known.
    """
    try:
        count = len(dataset)
    except (TypeError, NotImplementedError):
        return {}
    most = min(count, _HASHED_ROWS)
    places = sorted({round(index * (count - 1) / max(most - 1, 1)) for index in range(most)})
    columns: dict[str, list[Any]] = {}
    for name in ("input_ids", "labels", "text"):
        read = _reader(dataset, name)
        values = [] if read is None else read(places)
        if values and all(map(_readable, values)):
            columns[name] = values
    if not columns:
        return {}
    digest = blake2b(digest_size=8)
    for row in zip(*columns.values(), strict=True):
        for name, value in zip(columns, row, strict=True):
            data = value.encode() if isinstance(value, str) else _bytes(value)
            digest.update(f"{name} {len(data)} ".encode() + data)
    return {"training_rows": count, "training_data": digest.hexdigest()}


def _bytes(numbers: Any) -> bytes:
    return np.asarray(numbers, dtype="<i8").tobytes()


def _readable(value: Any) -> bool:
    """A text, or numbers that can be looked at without waiting for a device."""
    if isinstance(value, torch.Tensor):
        return value.device.type == "cpu" and not value.is_floating_point()
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iub"
    return isinstance(value, str) or (isinstance(value, (list, tuple)) and all(type(item) is int for item in value))


def _reader(dataset: Any, column: str) -> Callable[[Sequence[int]], list[Any]] | None:
    """Values of a column by the indices of rows; None where they cannot be read, or not without running code."""
    if type(dataset) is torch.utils.data.Subset:
        inner, indices = _reader(dataset.dataset, column), dataset.indices
        return None if inner is None else lambda places: inner([int(indices[place]) for place in places])
    if getattr(type(dataset), "__getitem__", None) in (list.__getitem__, tuple.__getitem__):
        known = bool(dataset) and _value(dataset[0], column) is not None
        return (lambda places: [_value(dataset[place], column) for place in places]) if known else None
    library = sys.modules.get("datasets")
    if library is None or type(dataset) is not library.Dataset or not len(dataset):
        return None
    if column not in dataset.column_names or dataset.format["type"] == "custom":
        return None
    plain = dataset.with_format("arrow", columns=[column])
    return lambda places: _arrow_values(plain[list(places)].column(column))


def _value(row: Any, column: str) -> Any:
    values = row.data if isinstance(row, BatchEncoding) else row
    return values.get(column) if type(values) is dict else None


def _arrow_values(column: Any) -> list[Any]:
    """Values of a column of an Arrow table; of token ids without a Python object per token."""
    found: list[Any] = []
    for chunk in column.chunks:
        ids = chunk.flatten().to_numpy(zero_copy_only=False) if hasattr(chunk, "value_lengths") else None
        if ids is None or ids.dtype.kind not in "iu":
            found.extend(chunk.to_pylist())
        elif len(chunk):
            ends = np.cumsum(chunk.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
            found.extend(np.split(ids, ends[:-1]))
    return found
