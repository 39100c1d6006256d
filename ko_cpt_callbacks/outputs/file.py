"""Files that are whole at every moment: written beside their place, then renamed into it."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

_TEMPORARY: Final = re.compile(r"\..+\.(\d+)\.tmp")
# A name longer than this leaves no room for what is added to it while it is written (255 bytes on most systems).
_LONG_NAME: Final = 200
# No write of ours takes an hour: a half-written file older than that is a dead process's. Chosen, not measured.
_STALE_SECONDS: Final = 3600.0
# Beyond the largest float: such an integer is no count and no loss, and Python refuses to print a long one.
_MOST_BITS: Final = 1024


def write_whole(path: Path, payload: bytes) -> None:
    """Put ``payload`` at ``path`` so that a reader, or a kill at any moment, sees the old file or the new one.

    Raises:
        OSError: If it cannot be written, or a device or a pipe is there: the new file would take its place.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "found no regular file, expected one or none", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = path.name.encode("utf-8", "surrogatepass")
    name = path.name if len(encoded) <= _LONG_NAME else hashlib.sha256(encoded).hexdigest()[:16]
    temporary = path.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(payload)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale(folder: Path, *, alone: bool) -> None:
    """Delete what killed processes left half-written in a folder by `write_whole`; nothing else.

    Args:
        folder: The folder; those in it are left alone.
        alone: Whether no other process can be writing there (its lock is held). Otherwise only what is old goes.
    """
    try:
        found = [item for item in folder.iterdir() if _TEMPORARY.fullmatch(item.name)]
    except OSError:
        return
    for item in found:
        own = item.name.endswith(f".{os.getpid()}.tmp")  # of another thread of this process
        try:
            if not own and item.is_file() and (alone or time.time() - item.stat().st_mtime > _STALE_SECONDS):
                item.unlink()
        except OSError:
            continue


def append_line(path: Path, line: bytes, *, again: bool = False) -> None:
    """Append one line in a single write, so that a kill leaves all of it or nothing.

    Half a line that a crash or a full disk left behind all the same is cut off first: the new line must not be glued
    to it.

    Args:
        path: The file.
        line: The line, with its end.
        again: It was tried before and failed: a file that ends with it already is left alone (a network file system
            may tell of a failure that was none).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Windows turns "\n" into "\r\n" without O_BINARY, and has no os.pread.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if again and _end(descriptor, size, len(line)) == line:
            return
        if _end(descriptor, size, 1) not in (b"", b"\n"):
            os.ftruncate(descriptor, path.read_bytes().rfind(b"\n") + 1)
        written = os.write(descriptor, line)
        if written != len(line):
            raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes could be written", str(path))
    finally:
        os.close(descriptor)


def _end(descriptor: int, size: int, count: int) -> bytes:
    """The last bytes of a file; fewer where it is shorter."""
    os.lseek(descriptor, max(0, size - count), os.SEEK_SET)
    return os.read(descriptor, min(size, count))


def json_text(value: Any) -> str:
    """Strict JSON on one line; NaN and infinities as the strings ``NaN``, ``Infinity``, ``-Infinity``.

    Half of a surrogate pair, which no file can hold, becomes its escape, which JSON reads back.
    """
    return _encodable(json.dumps(strict(value), ensure_ascii=False, allow_nan=False))


def json_page(value: Any) -> str:
    """The same over several lines, for a file that people read."""
    return _encodable(json.dumps(strict(value), ensure_ascii=False, allow_nan=False, indent=2)) + "\n"


def json_lines(values: Iterable[Mapping[str, Any]]) -> bytes:
    """One line of strict JSON per value."""
    return "".join(f"{json_text(value)}\n" for value in values).encode()


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def strict(value: Any) -> Any:
    """``value`` in the types of strict JSON; what JSON has no type for becomes its text."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"{'-' * (value < 0)}Infinity"
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity"
    if isinstance(value, Mapping):
        return {_text(name): strict(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((strict(item) for item in value), key=str)
    item = getattr(value, "item", None)  # numpy and torch scalars
    if callable(item) and getattr(value, "ndim", 1) == 0:
        return strict(item())
    return _text(value)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # an object's own text is its own affair; the row is kept
        return f"<{type(value).__name__}>"
