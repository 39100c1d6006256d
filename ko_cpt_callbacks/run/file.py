"""Files of a run: read as text, written whole.

A file is written beside its place, then renamed into it, so that it is whole at every moment. One that is something
else than expected gives one clear line. Nothing is ever unpickled: weights and pickled arguments are refused by their
first bytes, before anything larger is read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks.errors import UnreadableRunError

__all__ = [
    "BOM", "STATE_FILE", "append_line", "beside", "clip", "decoded", "json_lines", "json_page", "json_text",
    "name_of", "opening_failure", "other_kind", "read_bytes", "read_json", "read_text", "remove_stale", "strict",
    "write_whole", "writing_failure",
]  # fmt: skip

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
        raise OSError(errno.EINVAL, "no regular file", str(path))
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
        line: With its end.
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


STATE_FILE: Final = "trainer_state.json"
BOM: Final = b"\xef\xbb\xbf"

_HEAD: Final = 4096
_SHOWN: Final = 40
_LFS_FIRST_LINE: Final = b"version https://git-lfs.github.com/spec/"
_HTML: Final = (b"<!doctype html", b"<html")
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_COMPRESSED: Final = {b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}
_PICKLED: Final = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".safetensors")
_NAME_IT: Final = f"name a Trainer's output_dir, checkpoint or {STATE_FILE}"


def clip(value: object, limit: int = _SHOWN) -> str:
    r"""A value of a file as an error shows it: on one line, without control characters, and short.

    >>> clip("a\nb")
    "'a\\nb'"
    """
    shown = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def name_of(value: object) -> str:
    """The JSON name of a value's type: ``object``, ``list``, ``text``, ``number``, ``true or false``, ``null``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}
    return names.get(type(value), type(value).__name__)


def read_text(path: Path) -> str:
    """The UTF-8 text of a file of a run; a byte order mark is left out.

    Raises:
        UnreadableRunError: As `read_bytes`, and if it is not UTF-8.
    """
    return decoded(path, read_bytes(path))


def read_json(path: Path, what: str, fix: str) -> Any:
    """What the JSON of a file of a run says.

    Args:
        path: The file.
        what: What it should be, for the error: ``a run.json``.
        fix: What to do where it is damaged.

    Raises:
        UnreadableRunError: As `read_text`, and if it is no whole JSON; names the line.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UnreadableRunError(f"{path}{line}: JSON cut off or damaged; expected {what}; {fix}") from None


def read_bytes(path: Path) -> bytes:
    """What is in a file of a run that should be text.

    Raises:
        UnreadableRunError: If it cannot be opened, or is not text: a device, a Git-LFS pointer, a compressed or
            binary file, UTF-16, a web page. The text says which, and what to do.
    """
    try:
        if kind := other_kind(path):
            raise UnreadableRunError(f"{path}: found {kind}, expected a file; {_NAME_IT}")
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
            _refuse_other(path, head)
            return head + stream.read()
    except OSError as error:
        raise UnreadableRunError(f"{path}: {opening_failure(error)}") from None


def decoded(path: Path, data: bytes) -> str:
    """The text of bytes that were read from a file; a byte order mark is left out.

    Raises:
        UnreadableRunError: If they are not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableRunError(
            f"{path}: not UTF-8 text (byte {error.start:,} is 0x{data[error.start]:02x}); expected JSON, which is "
            "UTF-8; save the file anew as UTF-8"
        ) from None


def other_kind(path: Path) -> str | None:
    """What stands at a path in place of a file; None for a file. A pipe is never opened: that would wait for a writer.

    Raises:
        OSError: If the path cannot be looked at.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"


def opening_failure(error: OSError) -> str:
    """Why a path could not be opened, and what to do."""
    if isinstance(error, PermissionError):
        return "permission denied; expected a file this user may read; chmod it, or copy it to where you may read"
    return f"cannot be opened ({error.strerror or error}); check the path"


def writing_failure(path: Path, error: OSError) -> str:
    """Why a file could not be written: what was found, and what is expected."""
    if os.path.isdir(path):
        return "found a folder, expected a file"
    place = next((parent for parent in path.parents if os.path.isfile(parent)), None)
    found = error.strerror or error if place is None else f"the file {place} where its folder should be"
    return f"found {found}, expected a place to write to"


def _refuse_other(path: Path, head: bytes) -> None:
    text = head.removeprefix(BOM)
    if text.startswith(_LFS_FIRST_LINE):
        raise UnreadableRunError(
            f"{path}: found a Git-LFS pointer, expected the file itself; fetch it with `git lfs pull` and try again"
        )
    if text.lstrip()[:20].lower().startswith(_HTML):
        raise UnreadableRunError(
            f"{path}: found a web page (HTML), expected the file itself; download the raw file (on the Hub: "
            "`hf download REPO FILE`)"
        )
    for magic, kind in _COMPRESSED.items():
        if head.startswith(magic):
            raise UnreadableRunError(f"{path}: found a {kind}-compressed file, expected text; unpack it first")
    if head.startswith(_UTF_16):
        raise UnreadableRunError(f"{path}: found UTF-16 text, expected UTF-8; save the file anew as UTF-8")
    if head and not head.strip(b"\x00"):
        raise UnreadableRunError(
            f"{path}: found zero bytes only (a crash or a full disk leaves that), expected JSON; {beside(path)}"
        )
    # Zero bytes at the very end are a line that a crash left unwritten.
    if path.suffix in _PICKLED or b"\x00" in head.rstrip(b"\x00"):
        what = "weights or pickled arguments, which are never opened" if path.suffix in _PICKLED else "a binary file"
        raise UnreadableRunError(f"{path}: found {what}, expected JSON; {beside(path)}")


def beside(path: Path) -> str:
    """What to name instead of ``path``: the state file in the same folder where there is one."""
    other = path.with_name(STATE_FILE)
    if other != path and other.is_file():
        return f"did you mean {other}?"
    return _NAME_IT
