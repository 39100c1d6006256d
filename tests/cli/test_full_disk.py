"""`ko-cpt train` on a disk that is full: one line, whichever library met it."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ko_cpt_callbacks.cli.train import no_place

SAID = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, SAID, "a/rows.arrow"), f"{SAID} (a/rows.arrow)"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), os.strerror(errno.EDQUOT)),
        (RuntimeError(f"Error while serializing: I/O error: {SAID} (os error {errno.ENOSPC})"), SAID),
        (RuntimeError(f"Error while serializing: I/O error: (os error {errno.EROFS})"), os.strerror(errno.EROFS)),
        (OSError(errno.ENOENT, "No such file", "x"), None),
        (RuntimeError("CUDA out of memory"), None),
    ],
)
def test_what_an_error_says_of_the_disk(tmp_path: Path, error: Exception, said: str | None) -> None:
    """The system's number, or its words in a library's text, also as the cause of another error."""
    assert no_place(error, tmp_path) == said
    outer = ValueError("could not save")
    outer.__cause__ = error
    assert no_place(outer, tmp_path) == said


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 kB."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.name != "posix" or libc.mount(b"tmpfs", bytes(tmp_path), b"tmpfs", 0, b"size=100k"):
        pytest.skip("this user cannot mount a small file system")
    yield tmp_path
    libc.umount2(bytes(tmp_path), 2)  # detached: a writer that failed may still hold its file


def _safetensors(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(100_000)}, path)


def _torch(path: Path) -> None:
    import torch

    torch.save({"a": torch.zeros(100_000)}, path)


def _arrow(path: Path) -> None:
    from ko_cpt_callbacks.training.data.packing import write_rows

    write_rows(path, [(list(range(1000)),)] * 100, labels=False)


@pytest.mark.parametrize("write", [_safetensors, _torch, _arrow, lambda path: path.write_bytes(bytes(10**6))])
def test_a_full_disk(full: Path, write: Callable[[Path], Any]) -> None:
    """Whatever writes: safetensors, torch, Arrow, Python."""
    with pytest.raises(Exception) as raised:  # noqa: PT011
        write(full / "file")
    assert str(no_place(raised.value, full)).startswith(SAID)
