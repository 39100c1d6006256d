"""Files that are whole at every moment, and strict JSON."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from ko_cpt_callbacks.run import file
from ko_cpt_callbacks.run.file import append_line, json_lines, json_text, strict, write_whole


def test_write_whole(tmp_path: Path) -> None:
    """Folders are made, an older file is replaced, nothing else is left behind."""
    path = tmp_path / "a" / "b" / "run.json"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert [item.name for item in path.parent.iterdir()] == ["run.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk is full, the old file stands and the half-written one is gone."""
    path = tmp_path / "run.json"
    write_whole(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    """What is no regular file stays what it is: a pipe or a device must not become a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with pytest.raises(OSError, match="no regular file"):
        write_whole(pipe, b"new")

    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_append_line(tmp_path: Path) -> None:
    """Lines are added in one write each; folders are made."""
    path = tmp_path / "ko_cpt" / "rows.jsonl"
    append_line(path, b"one\n")
    append_line(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_short_write_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that only fits in part is reported, never taken for written."""
    write = os.write
    monkeypatch.setattr(file.os, "write", lambda descriptor, line: write(descriptor, line[:2]))
    with pytest.raises(OSError, match="only 2 of 5 bytes"):
        append_line(tmp_path / "rows.jsonl", b"four\n")


def test_strict_json() -> None:
    """NaN and infinities become texts, also inside lists and mappings; Korean stays readable."""
    text = json_text({"a": math.nan, "b": [math.inf, {"c": -math.inf}], "말": (1, 2.5, True, None)})
    assert "말" in text
    assert json.loads(text) == {"a": "NaN", "b": ["Infinity", {"c": "-Infinity"}], "말": [1, 2.5, True, None]}


def test_types_json_does_not_know() -> None:
    """numpy scalars as numbers, sets sorted, keys as texts, anything else as its text; never an error."""
    assert strict(np.float32("nan")) == "NaN"
    assert strict({1: np.int64(3)}) == {"1": 3}
    assert strict({"b", "a"}) == ["a", "b"]
    assert strict(Path("x")) == "x"
    assert json.loads(json_text(np.arange(2))) == "[0 1]"
    torch = pytest.importorskip("torch")
    assert strict(torch.tensor(1.5)) == 1.5


def test_lines() -> None:
    """One line each; a line separator inside a text cannot end one."""
    payload = json_lines([{"a": "x\ny"}, {"a": 1}])
    assert payload.count(b"\n") == 2
    assert [json.loads(line) for line in payload.decode().split("\n")[:-1]] == [{"a": "x\ny"}, {"a": 1}]
