"""TensorBoard's event files: records of a length, an event (a protocol buffer), and a checksum of each."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.log.protobuf import Damaged, Value, fields, number, text
from ko_cpt_callbacks.run.log.row import Log, LogNote, Point, planned_in, rows_of_points, trainer_log

__all__ = ["EVENTS", "read_events"]

EVENTS: Final = "events.out.tfevents."
_LACKS: Final = LogNote("log-seven-digits")
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
    return trainer_log(rows_of_points(scalars), _planned(points), _LACKS)


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
    for place, record in _records(file):
        try:
            yield from _scalars(record)
        except (Damaged, RecursionError) as error:
            raise _damaged(file, place, str(error)) from None


def _records(file: Path) -> Iterator[tuple[int, bytes]]:
    """Place and bytes of each whole record; one that is cut off at the end was being written."""
    data = file.read_bytes()
    place = 0
    while place + 12 <= len(data):
        head, check = data[place : place + 8], struct.unpack_from("<I", data, place + 8)[0]
        if _checksum(head) != check:
            raise _damaged(file, place, "the checksum of a length")
        end = place + 12 + struct.unpack("<Q", head)[0]
        if end + 4 > len(data):
            return
        record = data[place + 12 : end]
        if _checksum(record) != struct.unpack_from("<I", data, end)[0]:
            raise _damaged(file, place, "the checksum of an event")
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


def _damaged(file: Path, place: int, what: str) -> UnreadableRunError:
    return UnreadableRunError(
        f"{file}: damaged at byte {place:,} ({what}); expected TensorBoard's events; name another log of this run"
    )
