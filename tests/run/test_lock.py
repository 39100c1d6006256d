"""One writer at a time in a folder."""

from __future__ import annotations

import builtins
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from writers import holding, killed_beside_its_worker

from ko_cpt_callbacks.run.lock import FolderLock, FolderWriter, is_written


def test_another_process_is_seen_and_its_end_too(tmp_path: Path) -> None:
    """While another process holds the folder it is refused, at once and with that process's id; then it is free."""
    lock = FolderLock(tmp_path / "ko_cpt")
    with holding(tmp_path / "ko_cpt") as process:
        assert lock.take() is FolderWriter.OTHER
        assert (lock.holder(), lock.held) == (str(process), False)
    assert lock.take() is FolderWriter.OURS
    assert (lock.holder(), lock.held) == (str(os.getpid()), True)


def test_a_killed_process_whose_worker_lives_on(tmp_path: Path) -> None:
    """A data loader's worker that outlives a killed training does not keep the resume away."""
    child = killed_beside_its_worker(tmp_path)
    try:
        os.kill(child, 0)
        assert FolderLock(tmp_path).take() is FolderWriter.OURS
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_same_process_again(tmp_path: Path) -> None:
    """Two Trainers one after the other in a notebook: the same process is no second writer."""
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    assert first.take() is second.take() is first.take() is FolderWriter.OURS
    second.release()
    assert first.take() is FolderWriter.OURS
    first.release()
    first.release()


def test_to_ask_gives_up_no_lock(tmp_path: Path) -> None:
    """A notebook that looks at the folder in which it trains still holds it: no other process may write there."""
    lock = FolderLock(tmp_path)
    assert lock.take() is FolderWriter.OURS
    assert not is_written(tmp_path)
    assert FolderLock(tmp_path).holder() == str(os.getpid())
    code = "import sys, pathlib; from ko_cpt_callbacks.run.lock import *; folder = pathlib.Path(sys.argv[1]); "
    code += "print(is_written(folder), FolderLock(folder).take().value)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "other"]


def test_the_lock_file_was_deleted(tmp_path: Path) -> None:
    """A lock on a file that is gone keeps nobody away: the next event takes it anew."""
    lock = FolderLock(tmp_path)
    lock.take()
    lock.path.unlink()
    assert lock.take() is FolderWriter.OURS
    assert lock.path.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS without a lock server: nobody can tell, and nothing is refused."""
    import fcntl

    def fail(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", fail)
    lock = FolderLock(tmp_path)
    assert (lock.take(), lock.held) == (FolderWriter.NO_LOCKS, False)


def test_a_python_without_fcntl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has none; where its own locks are missing too, nobody can tell."""
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name in ("fcntl", "msvcrt"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert FolderLock(tmp_path).take() is FolderWriter.NO_LOCKS


@pytest.mark.parametrize(("refused", "expected"), [(False, FolderWriter.OURS), (True, FolderWriter.OTHER)])
def test_windows_own_locks(
    refused: bool, expected: FolderWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without fcntl and with msvcrt: one byte is locked, far behind the process id, which others may read."""
    import sys
    from types import SimpleNamespace

    asked: list[tuple[int, int, int]] = []

    def locking(descriptor: int, mode: int, count: int) -> None:
        asked.append((os.lseek(descriptor, 0, os.SEEK_CUR), mode, count))
        if refused:
            raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    (tmp_path / ".lock").write_text("" if not refused else "4711")
    lock = FolderLock(tmp_path)
    assert lock.take() is expected
    assert asked == [(1 << 30, 2, 1)]
    assert lock.holder() == ("4711" if refused else str(os.getpid()))


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    """That is the writes' own trouble, not another writer: it is raised."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        FolderLock(tmp_path / "file").take()


@pytest.mark.parametrize("linked", [False, True])
def test_a_file_of_somebody_else(linked: bool, tmp_path: Path) -> None:
    """What a user keeps under the lock's name, or a link of that name leads to, is locked and never written to."""
    mine = tmp_path / ("mine.txt" if linked else ".lock")
    mine.write_text("my text\n")
    lock = FolderLock(tmp_path)
    if linked:
        lock.path.symlink_to(mine)
    assert lock.take() is FolderWriter.OURS
    assert (mine.read_text(), lock.holder()) == ("my text\n", "unknown")
