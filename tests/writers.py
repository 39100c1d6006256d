"""Another process that holds a folder's lock, for as long as a test needs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOLD = """
import os, sys
from pathlib import Path
from ko_cpt_callbacks.run.lock import FolderLock, FolderWriter
lock = FolderLock(Path(sys.argv[1]))
assert lock.take() is FolderWriter.OURS
child = os.fork() if sys.argv[2] == "forks" else 1
if child == 0:
    import time
    time.sleep(60)
    os._exit(0)
print(os.getpid(), child, flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(folder: Path) -> Iterator[int]:
    """While it lasts, a process holds the lock of ``folder``; its id."""
    process, (own, _) = _start(folder, "stays")
    try:
        yield own
    finally:
        process.communicate("")


def killed_beside_its_worker(folder: Path) -> int:
    """A process takes the lock, forks, and is killed: the id of the child, which goes on."""
    process, (_, child) = _start(folder, "forks")
    process.kill()
    process.wait()
    return child


def _start(folder: Path, what: str) -> tuple[subprocess.Popen[str], tuple[int, int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
    )
    assert process.stdout is not None
    own, child = process.stdout.readline().split()
    return process, (int(own), int(child))
