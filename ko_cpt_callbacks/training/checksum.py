"""Checksums of what a run keeps to go on from: a byte that is another one later is seen, and not trained on.

They stand beside the files, in the folder itself, so that no kill can part them from what they are of. A folder from
before there were any is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks.errors import ConfigurationError

__all__ = ["CHECKSUMS", "check_whole", "checksum_of", "write_checksums"]

CHECKSUMS: Final = "sha256.json"
"""The file in a folder with the SHA-256 of every other file in it."""


def write_checksums(folder: Path) -> None:
    """Write the checksums of a folder that is full; as `check_whole`, it reads every byte once."""
    found = {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    found.pop(CHECKSUMS, None)
    (folder / CHECKSUMS).write_text(json.dumps(found, indent=2), encoding="utf-8")


def check_whole(folder: Path, remedy: str) -> None:
    """Compare a folder's files with the checksums that were written with them.

    Args:
        folder: One that was sealed, or an older one.
        remedy: What to do where a file is another now.

    Raises:
        ConfigurationError: If a file is missing or has other bytes, or the checksums cannot be read.
    """
    sums = folder / CHECKSUMS
    if not sums.exists() and not sums.is_symlink():
        return
    try:
        noted = json.loads(sums.read_text(encoding="utf-8")) if sums.is_file() else None
    except (OSError, ValueError, RecursionError):
        noted = None
    if not isinstance(noted, dict) or not noted:
        raise ConfigurationError(f"{sums}: found nothing that can be read, expected this folder's checksums; {remedy}")
    for name, digest in noted.items():
        path = folder / name
        if not path.is_file():
            raise ConfigurationError(f"{path}: found no file, expected the one that this run wrote; {remedy}")
        try:
            now = _digest(path)
        except OSError as error:
            raise ConfigurationError(f"{path}: found a file that cannot be read ({error.strerror}); {remedy}") from None
        if now != digest:
            raise ConfigurationError(
                f"{path}: found other bytes than this run wrote (damaged, or changed since); {remedy}"
            )


def checksum_of(value: Any) -> str:
    """The SHA-256 of a JSON value, whatever the order of its keys and its blanks."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
