"""What a user without rights sees, in tests that may run as root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_NOBODY = 65534


@contextmanager
def unprivileged(*paths: Path) -> Iterator[None]:
    """While it lasts, these files and folders may not be read."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no POSIX users here")
    modes = {path: path.stat().st_mode for path in paths}
    root = os.geteuid() == 0
    for path in paths:
        path.chmod(0)
    if root:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in reversed(modes.items()):
            path.chmod(mode)
