"""The run folder on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.folder import RunFolder

FINDING = Finding(
    "non-finite",
    Severity.ERROR,
    step=2,
    split="train",
    values={"loss": float("nan"), "grad_norm": None},
    variant="loss",
)
ROW = {"kind": "train", "attempt": 1, "step": 1, "loss": float("nan")}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Begun with one earlier row."""
    found = RunFolder(tmp_path, "en")
    found.begin({"format": 1}, [{"kind": "train", "attempt": 1, "step": 0, "loss": 3.0}], [])
    return found


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_begin_writes_all_three(folder: RunFolder) -> None:
    """run.json, rows.jsonl and findings.jsonl exist from the start; beginning again replaces them."""
    assert {item.name for item in folder.path.iterdir()} == {
        *("run.json", "rows.jsonl", "findings.jsonl"),
        ".lock",
    }
    folder.row(ROW)
    folder.finding(FINDING)
    folder.begin({"format": 1}, [], [])
    assert _lines(folder.path / "rows.jsonl") == _lines(folder.path / "findings.jsonl") == []


def test_rows_and_findings_are_appended(folder: RunFolder) -> None:
    """One line each, strict JSON; a finding with its sentence."""
    folder.row(ROW)
    folder.finding(FINDING)
    assert _lines(folder.path / "rows.jsonl")[-1] == {**ROW, "loss": "NaN"}
    line = _lines(folder.path / "findings.jsonl")[0]
    assert line == FINDING.as_dict("en")
    assert line["short"] and line["detail"]


def test_run_json_is_replaced(folder: RunFolder) -> None:
    """A new state replaces the old one; numbers JSON cannot hold are texts."""
    folder.run({"format": 1, "schedule": [[0, float("inf")]], "name": "한국어"})
    text = (folder.path / "run.json").read_text("utf-8")
    assert json.loads(text) == {"format": 1, "schedule": [[0, "Infinity"]], "name": "한국어"}
    assert "한국어" in text


def test_eval_rows(folder: RunFolder) -> None:
    """Per-row sums, by set and step; read back equal; names of sets are file names, in Hangul too."""
    sums = RowSums(
        nll=np.array([1.5, 2.5]),
        tokens=np.array([3, 4]),
        bytes=np.array([5, -1]),
        hash=np.array([2**64 - 1, 7], dtype=np.uint64),
        order=np.array([[1, 0, 0], [1, 0, 1]]),
    )
    for prefix in ("eval", "eval_한국어", "eval_영어말", "eval_a/b c"):
        folder.eval_rows(prefix, 40, sums)
    names = {item.name for item in (folder.path / "eval_rows").iterdir()}
    assert names == {"eval-40.npz", "eval_한국어-40.npz", "eval_영어말-40.npz", "eval_a_b_c-40.npz"}
    back = RowSums.from_payload((folder.path / "eval_rows" / "eval-40.npz").read_bytes())
    for name in ("nll", "tokens", "bytes", "hash", "order"):
        assert np.array_equal(getattr(back, name), getattr(sums, name))
