"""Writes that fail for a while: nothing is lost, and what happened is told once."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from ko_cpt_callbacks.run import file
from ko_cpt_callbacks.run.folder import Backlog


class Disk:
    """A disk that can be full: every write of the module then fails as the system would let it fail."""

    def __init__(self) -> None:
        self.full = False
        self.half = False
        self._write, self._fsync = os.write, os.fsync

    def write(self, descriptor: int, data: bytes) -> int:
        """``os.write``; on a full disk half of it is written, or nothing."""
        if self.full and self.half:
            return self._write(descriptor, data[: len(data) // 2])
        self._fail()
        return self._write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        """``os.fsync``, where delayed writes fail."""
        self._fail()
        self._fsync(descriptor)

    def _fail(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk with room."""
    found = Disk()
    monkeypatch.setattr(file.os, "write", found.write)
    monkeypatch.setattr(file.os, "fsync", found.fsync)
    return found


@pytest.mark.parametrize("half", [False, True], ids=["nothing written", "half a line written"])
def test_full_for_a_while(half: bool, disk: Disk, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lines of a full disk are written when there is room, in order and once, before the next; each of the two, the
    failure and its end, is told once."""
    rows, backlog = tmp_path / "rows.jsonl", Backlog()
    disk.half = half
    with caplog.at_level(logging.WARNING, logger="ko_cpt_callbacks"):
        for number in range(20):
            disk.full = 8 <= number < 11
            backlog.append(rows, f"line {number}\n".encode())
            backlog.append(tmp_path / "findings.jsonl", f"finding {number}\n".encode())
            backlog.put(tmp_path / "run.json", f"{number}".encode())
    assert rows.read_text().splitlines() == [f"line {number}" for number in range(20)]
    assert (tmp_path / "findings.jsonl").read_text().splitlines() == [f"finding {number}" for number in range(20)]
    assert (tmp_path / "run.json").read_text() == "19"
    first, second = (record.getMessage() for record in caplog.records)
    assert "rows.jsonl could not be written" in first and "training goes on" in first
    assert second == "What could not be written (No space left on device) is written now; nothing is missing."


def test_full_when_it_begins(disk: Disk, tmp_path: Path) -> None:
    """A file that is to be written anew is not added to before that is done."""
    rows, backlog = tmp_path / "rows.jsonl", Backlog()
    rows.write_text("an older record\n")
    disk.full = True
    backlog.put(rows, b"begin\n")
    backlog.append(rows, b"one\n")
    assert rows.read_text() == "an older record\n"
    disk.full = False
    backlog.append(rows, b"two\n")
    assert rows.read_text() == "begin\none\ntwo\n"
    backlog.put(rows, b"anew\n")
    assert rows.read_text() == "anew\n"


def test_a_failure_that_was_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system tells of an error when the line was written after all: it is not written twice."""
    rows, backlog = tmp_path / "rows.jsonl", Backlog()
    close = os.close
    fails = [True]

    def closing(descriptor: int) -> None:
        close(descriptor)
        if fails:
            fails.pop()
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(file.os, "close", closing)
    backlog.append(rows, b"one\n")
    backlog.append(rows, b"one\n")
    assert rows.read_text() == "one\none\n"


def test_one_file_that_cannot_be_written_holds_up_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A name that this file system does not take: told once; the other files go on."""
    backlog = Backlog()
    with caplog.at_level(logging.WARNING, logger="ko_cpt_callbacks"):
        for number in range(3):
            backlog.put_if_room(tmp_path / ("x" * 300), b"1")
            backlog.append(tmp_path / "rows.jsonl", f"{number}\n".encode())
    assert (tmp_path / "rows.jsonl").read_text() == "0\n1\n2\n"
    assert len(caplog.records) == 1


def test_no_more_is_kept_than_was_allowed(disk: Disk, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the limit sums of rows are left out, which is told once, and lines end the record with an error."""
    backlog = Backlog(most_bytes=100)
    backlog.append(tmp_path / "rows.jsonl", b"before\n")
    disk.full = True
    backlog.put_if_room(tmp_path / "a.npz", b"a" * 90)
    with caplog.at_level(logging.WARNING, logger="ko_cpt_callbacks"):
        backlog.put_if_room(tmp_path / "b.npz", b"b" * 90)
        backlog.put_if_room(tmp_path / "c.npz", b"c" * 90)
    assert [record.getMessage() for record in caplog.records if "left out" in record.getMessage()] == [
        f"{tmp_path / 'b.npz'} is left out: too much waits to be written; training goes on."
    ]
    for _ in range(20):
        backlog.append(tmp_path / "rows.jsonl", b"line\n")
    with pytest.raises(RuntimeError, match="21 lines could not be written, more than are kept"):
        backlog.append(tmp_path / "rows.jsonl", b"line\n")
    disk.full = False
    backlog.pay()
    assert {item.name for item in tmp_path.iterdir()} == {"rows.jsonl", "a.npz"}

