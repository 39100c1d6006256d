"""The fields of a protocol buffer message, without its schema: enough for the few messages that are read here."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, TypeAlias

__all__ = ["Damaged", "Value", "fields", "number", "text"]

Value: TypeAlias = "int | bytes"
_FIXED: Final = {1: 8, 5: 4}
_LONGEST: Final = 10


class Damaged(ValueError):
    """Bytes that are no message."""


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Number and value of each field: an integer, or the bytes of a text, a message or a fixed-width number.

    Raises:
        Damaged: If the bytes are no message.
    """
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
    """A field as text.

    Raises:
        Damaged: If it is none.
    """
    if isinstance(value, int):
        raise Damaged("an integer, expected a text")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Damaged("bytes that are not UTF-8, expected a text") from None


def number(value: Value) -> float:
    """A field of four or eight bytes as a floating point number.

    Raises:
        Damaged: If it is none.
    """
    if isinstance(value, int) or len(value) not in (4, 8):
        raise Damaged("expected a floating point number")
    found: float = struct.unpack("<f" if len(value) == 4 else "<d", value)[0]
    return found
