"""The ``run-ID.wandb`` of W&B's local folder: blocks of 32 KiB as in LevelDB's log, protocol buffers inside."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.log.protobuf import Damaged, Value, fields, text
from ko_cpt_callbacks.run.log.row import Log, LogNote, planned_in, trainer_log, trainer_rows
from ko_cpt_callbacks.run.rows import NONFINITE

__all__ = ["read_wandb"]

_HEAD: Final = b":W&B\xe1\xbe\x00"
_BLOCK: Final = 32768
_HEADER: Final = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_HISTORY, _SUMMARY, _CONFIG, _RUN = 2, 3, 5, 17
_RUN_CONFIG: Final = 4
_LACKS: Final = LogNote("log-no-text")
# The Trainer's callback puts its closing row into the summary, not among the rows.
_CLOSING: Final = ("train_runtime", "train_loss")


def read_wandb(path: Path) -> Log:
    """The history of a run, its closing row from its summary, and its planned steps from its configuration.

    Raises:
        UnreadableRunError: If it is not such a file, or a record before the last is damaged.
    """
    data = path.read_bytes()
    if not data.startswith(_HEAD):
        raise UnreadableRunError(f"{path}: found {data[:7]!a} at its start, expected the file of a W&B run")
    history: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    config: dict[str, Any] = {}
    for place, record in _records(path, data):
        try:
            for field, value in fields(record):
                if isinstance(value, int):
                    continue
                if field == _HISTORY:
                    history.append(_items(value))
                elif field == _SUMMARY:
                    summary |= _items(value)
                elif field == _CONFIG:
                    config |= _items(value)
                elif field == _RUN:
                    for inner, part in fields(value):
                        if inner == _RUN_CONFIG and isinstance(part, bytes):
                            config |= _items(part)
        except (Damaged, ValueError, RecursionError) as error:
            raise _damaged(path, place, str(error)) from None
    rows = trainer_rows(history)
    if not rows:
        raise UnreadableRunError(f"{path}: found no row in its history, expected train/loss or eval/loss")
    if _CLOSING[0] in summary and not any(_CLOSING[0] in row for row in rows):
        closing: dict[str, Any] = {name: summary[name] for name in _CLOSING if name in summary}
        rows.append({**closing, keys.STEP: max(row[keys.STEP] for row in rows)})
    return trainer_log(rows, planned_in(config), _LACKS)


def _records(path: Path, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Place and bytes of each whole record; what is cut off at the end was being written."""
    place, joined, start = len(_HEAD), b"", 0
    while place + _HEADER.size <= len(data):
        if (left := _BLOCK - place % _BLOCK) < _HEADER.size:  # the end of a block holds no header
            place += left
            continue
        check, size, kind = _HEADER.unpack_from(data, place)
        body = data[place + _HEADER.size : place + _HEADER.size + size]
        if len(body) < size:
            return
        if not check and not size and not kind:
            if data[place:].strip(b"\x00"):
                raise _damaged(path, place, "zero bytes")
            return
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or zlib.crc32(body, zlib.crc32(bytes([kind]))) != check:
            raise _damaged(path, place, "the checksum of a record")
        if kind in (_FULL, _FIRST):
            joined, start = b"", place
        joined += body
        place += _HEADER.size + size
        if kind in (_FULL, _LAST):
            yield start, joined


def _items(message: bytes) -> dict[str, Any]:
    """The items of a history, summary or configuration: each a name and a value as JSON."""
    return dict(_item(value) for field, value in fields(message) if field == 1 and isinstance(value, bytes))


def _item(message: bytes) -> tuple[str, Any]:
    name, value = "", None
    for field, held in fields(message):
        if field == 1:
            name = text(held)
        elif field == 2:  # a nested name, a part each; a name with a slash is one part
            name = f"{name}.{text(held)}" if name else text(held)
        elif field == 16:
            value = _json(held)
    return name, value


def _json(held: Value) -> Any:
    value = json.loads(text(held))
    return NONFINITE.get(value, value) if isinstance(value, str) else value


def _damaged(path: Path, place: int, what: str) -> UnreadableRunError:
    return UnreadableRunError(
        f"{path}: damaged at byte {place:,} ({what}); expected the file of a W&B run; name another log of this run"
    )
