"""Logs of protocol buffers. They are read without their libraries, and nothing in them is run.

TensorBoard's event files are records of a length, an event, and a checksum of each. The ``run-ID.wandb`` of W&B's local
folder is blocks of 32 KiB as in LevelDB's log.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.log.row import Log, LogNote, Point, planned_in, rows_of_points, trainer_log, trainer_rows
from ko_cpt_callbacks.run.rows import NONFINITE

__all__ = ["EVENTS", "Damaged", "Value", "fields", "number", "read_events", "read_wandb", "text"]

Value: TypeAlias = "int | bytes"
_FIXED: Final = {1: 8, 5: 4}
_LONGEST: Final = 10


class Damaged(ValueError):
    """Bytes that are no message, or a field that is of another type: what reads them raises it."""


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Number and value of each field: an integer, or the bytes of a text, a message or a fixed-width number."""
    place = 0
    while place < len(message):
        tag, place = _integer(message, place)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, place = _integer(message, place)
            yield number, value
            continue
        if kind == 2:
            size, place = _integer(message, place)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise Damaged(f"a field of wire type {kind}")
        if place + size > len(message):
            raise Damaged("a field that ends after its message")
        yield number, message[place : place + size]
        place += size


def _integer(message: bytes, place: int) -> tuple[int, int]:
    value = 0
    for index in range(_LONGEST):
        if place >= len(message):
            raise Damaged("an integer that is cut off")
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, place
    raise Damaged("an integer of more than ten bytes")


def text(value: Value) -> str:
    """A field as text."""
    if isinstance(value, int):
        raise Damaged("an integer, expected a text")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Damaged("bytes that are not UTF-8, expected a text") from None


def number(value: Value) -> float:
    """A field of four or eight bytes as a floating point number."""
    if isinstance(value, int) or len(value) not in (4, 8):
        raise Damaged("expected a floating point number")
    found: float = struct.unpack("<f" if len(value) == 4 else "<d", value)[0]
    return found


EVENTS: Final = "events.out.tfevents."
_OF_EVENTS: Final = "TensorBoard's events"
_SEVEN_DIGITS: Final = LogNote("log-seven-digits")
_ARGUMENTS: Final = "args/text_summary"
_FLOAT, _DOUBLE, _STRING = 1, 2, 7  # of TensorFlow's DataType
_MASK: Final = 0xA282EAD8


def _table() -> tuple[int, ...]:
    """Of CRC-32C (Castagnoli), the checksum of these files."""
    rows = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        rows.append(value)
    return tuple(rows)


_CRC: Final = _table()


def read_events(path: Path) -> Log:
    """The scalars of a run: of one event file, or of all that stand in a folder (a resume begins a new one).

    Raises:
        UnreadableRunError: If a record before the last is damaged, or no event file of scalars is there.
    """
    files = sorted(path.glob(f"*{EVENTS}*")) if path.is_dir() else [path]
    points = [point for file in files for point in _points(file)]
    scalars = [point for point in points if point[0] != _ARGUMENTS]
    if not scalars:
        raise UnreadableRunError(f"{path}: found no scalar in its events, expected train/loss or eval/loss")
    return trainer_log(rows_of_points(scalars), _planned(points), _SEVEN_DIGITS)


def _planned(points: Sequence[Point]) -> int | None:
    """The planned steps in the arguments that the Trainer's callback writes as a text."""
    for name, value, _ in points:
        try:
            arguments = json.loads(value) if name == _ARGUMENTS else None
        except (ValueError, RecursionError):
            continue
        if isinstance(arguments, dict):
            return planned_in(arguments)
    return None


def _points(file: Path) -> Iterator[Point]:
    for place, record in _events(file):
        try:
            yield from _scalars(record)
        except (Damaged, RecursionError) as error:
            raise _damaged(file, place, str(error), _OF_EVENTS) from None


def _events(file: Path) -> Iterator[tuple[int, bytes]]:
    """Place and bytes of each whole record; one that is cut off at the end was being written."""
    data = file.read_bytes()
    place = 0
    while place + 12 <= len(data):
        head, check = data[place : place + 8], struct.unpack_from("<I", data, place + 8)[0]
        if _checksum(head) != check:
            raise _damaged(file, place, "the checksum of a length", _OF_EVENTS)
        end = place + 12 + struct.unpack("<Q", head)[0]
        if end + 4 > len(data):
            return
        record = data[place + 12 : end]
        if _checksum(record) != struct.unpack_from("<I", data, end)[0]:
            raise _damaged(file, place, "the checksum of an event", _OF_EVENTS)
        yield place, record
        place = end + 4


def _checksum(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRC[(value ^ byte) & 0xFF] ^ (value >> 8)
    value ^= 0xFFFFFFFF
    return (((value >> 15) | (value << 17)) + _MASK) & 0xFFFFFFFF


def _scalars(event: bytes) -> Iterator[Point]:
    parts = dict(fields(event))
    step, summary = parts.get(2, 0), parts.get(5)
    if isinstance(summary, int) or not isinstance(step, int) or summary is None:
        return
    for field, value in fields(summary):
        if field != 1 or isinstance(value, int):
            continue
        shown = dict(fields(value))
        found = _value(shown)
        if found is not None and 1 in shown:
            yield text(shown[1]), found, step


def _value(shown: dict[int, Value]) -> float | str | None:
    """A value of a summary: the older ``simple_value``, or a tensor with one number, or one text."""
    if 2 in shown:
        return number(shown[2])
    tensor = shown.get(8)
    if not isinstance(tensor, bytes):
        return None
    parts: dict[int, Any] = dict(fields(tensor))
    if parts.get(1) == _STRING:
        return text(parts[8]) if isinstance(parts.get(8), bytes) and text(shown.get(1, b"")) == _ARGUMENTS else None
    if parts.get(1) not in (_FLOAT, _DOUBLE):
        return None
    held = parts.get(4) or parts.get(5) or parts.get(6)
    return number(held) if isinstance(held, bytes) and len(held) in (4, 8) else None


_HEAD: Final = b":W&B\xe1\xbe\x00"
_BLOCK: Final = 32768
_HEADER: Final = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_HISTORY, _SUMMARY, _CONFIG, _RUN = 2, 3, 5, 17
_RUN_CONFIG: Final = 4
_OF_WANDB: Final = "the file of a W&B run"
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
        raise UnreadableRunError(f"{path}: found {data[:7]!a} at its start, expected {_OF_WANDB}")
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
            raise _damaged(path, place, str(error), _OF_WANDB) from None
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
                raise _damaged(path, place, "zero bytes", _OF_WANDB)
            return
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or zlib.crc32(body, zlib.crc32(bytes([kind]))) != check:
            raise _damaged(path, place, "the checksum of a record", _OF_WANDB)
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


def _damaged(path: Path, place: int, what: str, expected: str) -> UnreadableRunError:
    return UnreadableRunError(
        f"{path}: damaged at byte {place:,} ({what}); expected {expected}; name another log of this run"
    )
