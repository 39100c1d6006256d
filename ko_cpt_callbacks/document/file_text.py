"""The text of a file that a person wrote: of a size that a person writes, and in UTF-8."""

from __future__ import annotations

import stat
from pathlib import Path

from ko_cpt_callbacks.errors import KoCPTError


def read_text(
    path: Path, max_bytes: int, error: type[KoCPTError], what: str, size: str, *, as_it_is: bool = False
) -> str:
    """The text of a file; never more than ``max_bytes`` of it are read. Ends of lines stay as they are.

    Args:
        path: The file.
        max_bytes: The largest file that is read.
        error: What is raised.
        what: What the file should be, for the error: ``a recipe``.
        size: What it should be in the error about its size: ``a recipe of a page or two``.
        as_it_is: Whether a byte order mark at the beginning is kept: for a copy.

    Raises:
        KoCPTError: The given one, if the file cannot be opened, is larger, or is no UTF-8.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():  # a pipe would wait for a writer
            raise error(f"{path}: found a pipe or a device, expected {what}.")
        with path.open("rb") as stream:
            payload = stream.read(max_bytes + 1)
    except OSError as reason:
        raise error(f"{path}: found nothing that can be read ({reason.strerror}), expected {what}.") from None
    if len(payload) > max_bytes:
        raise error(f"{path}: found more than {max_bytes:,} bytes, expected {size}.")
    try:
        return payload.decode("utf-8" if as_it_is else "utf-8-sig")
    except UnicodeDecodeError as reason:
        line = payload.count(b"\n", 0, reason.start) + 1
        raise error(f"{path}:{line}: found bytes that are no UTF-8, expected a text file in UTF-8.") from None
