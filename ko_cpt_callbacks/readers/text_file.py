"""A file of a run to its text; one clear line for a file that is something else.

Nothing is ever unpickled: weights and pickled arguments are refused by their first bytes, before anything
larger is read.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from ko_cpt_callbacks.errors import UnreadableRunError

__all__ = [
    "BOM", "STATE_FILE", "beside", "clip", "decoded", "name_of", "opening_failure", "other_kind", "read_bytes",
    "read_text",
]  # fmt: skip

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


def read_bytes(path: Path) -> bytes:
    """What is in a file of a run that should be text.

    Raises:
        UnreadableRunError: If it cannot be opened, or is not text: a device, a Git-LFS pointer, a compressed or
            binary file, UTF-16, a web page. The text says which, and what to do.
    """
    try:
        kind = other_kind(path)
        if kind is not None:
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
