"""The live fold: rows in, findings out, every output told, and what an earlier record leaves standing."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from ko_cpt_callbacks import MemoryOutput
from ko_cpt_callbacks.check.asked import asked_of, read_recorded_run
from ko_cpt_callbacks.check.judgement import judge_run
from ko_cpt_callbacks.hf.argument import callback_spec
from ko_cpt_callbacks.hf.record import LiveRecord
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.reading import read_run
from ko_cpt_callbacks.run.rows import live_rows, observations_of, read_rows

pytestmark = pytest.mark.both_versions

FACTS = {"planned_steps": 4}


def _record(folder: Path, *, outputs: Any = ("files",), writes: bool = True, rules: Any = None) -> LiveRecord:
    return LiveRecord(callback_spec(rules=rules), outputs, folder, writes=writes)


def _train(step: int, loss: float = 2.0, **more: Any) -> dict[str, Any]:
    return {"loss": loss, "learning_rate": 0.1, "step": step, **more}


def _evaluation(step: int, loss: float = 2.0) -> dict[str, Any]:
    return {"eval_loss": loss, "eval_runtime": 1.0, "eval_exact_loss": loss, "step": step}


def _begin(
    record: LiveRecord, facts: dict[str, Any], log_history: list[dict[str, Any]], step: int
) -> list[dict[str, Any]]:
    return record.begin_training(facts, step, record.plan_training(log_history, step))


def _lines(folder: Path, name: str = "rows.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ko_cpt" / name).read_text("utf-8").splitlines()]


def _run(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "ko_cpt" / "run.json").read_text("utf-8"))
    return found


def test_rows_and_findings(tmp_path: Path) -> None:
    """Each row is one line, non-finite numbers as texts; findings come once and are in file, memory and result."""
    memory = MemoryOutput()
    record = _record(tmp_path, outputs=["files", memory])
    assert not record.begun
    assert _begin(record, FACTS, [], 0) == []
    assert record.begun
    assert record.add(_train(1)) == ()
    found = record.add(_train(2, float("nan"), nonfinite_steps=1, nonfinite_first_step=2))
    assert [item.code for item in found] == ["non-finite"]
    assert record.add(_train(3, float("nan"), nonfinite_steps=1, nonfinite_first_step=3)) == ()
    assert record.findings == list(found) == memory.findings
    lines = _lines(tmp_path)
    assert [(line["kind"], line["step"], line["attempt"]) for line in lines] == [
        ("train", 1, 1),
        ("train", 2, 1),
        ("train", 3, 1),
    ]
    assert lines[1]["loss"] == "NaN"
    assert lines == memory.rows
    assert [item["code"] for item in _lines(tmp_path, "findings.jsonl")] == ["non-finite"]
    assert record.summary().train.points == 3


def test_limits_are_judged_by_live_and_read_back(tmp_path: Path) -> None:
    """A limit by name makes a finding that there is not without it; run.json has the limit, so that the finished run,
    whole or with a resume in between, is judged by it too."""
    limits = {"not-enough-data": {"min_train_points": 99, "min_evaluations": 99}}
    few: dict[str, list[str]] = {}
    for name, rules in (("own", limits), ("as it is", None)):
        folder = tmp_path / name
        record = _record(folder, rules=rules)
        _begin(record, FACTS, [], 0)
        rows = [_train(step) for step in range(1, 13)]
        for row in rows:
            record.add(row)
        record = _record(folder, rules=rules)
        _begin(record, FACTS, rows, 12)
        record.add({"train_loss": 2.0, "train_runtime": 1.0, "step": 12})
        few[name] = [item.as_dict()["code"] for item in record.findings]
        told = read_recorded_run(folder / "ko_cpt" / "run.json")
        assert told.spec.limits == (rules or {})
        offline = judge_run(read_run(folder), asked_of(told)).findings
        assert [item.as_dict() for item in offline] == [item.as_dict() for item in record.findings]
    assert few == {"own": ["not-enough-data"], "as it is": []}


def test_own_rows_keep_their_kind(tmp_path: Path) -> None:
    """Rows that are not the Trainer's (set-up, checkpoint) carry their kind and attempt."""
    record = _record(tmp_path)
    _begin(record, FACTS, [], 0)
    found = record.add({"step": 0, "setup": "trackers-not-reached"}, kind="setup")
    record.add({"step": 2, "tokens_seen": 10}, kind="checkpoint")
    assert [(item.code, item.variant) for item in found] == [("note", "trackers-not-reached")]
    assert [(line["kind"], line["attempt"]) for line in _lines(tmp_path)] == [("setup", 1), ("checkpoint", 1)]


def test_resume(tmp_path: Path) -> None:
    """A resumed run: rows beyond its step superseded and kept, the fold replayed, findings rewritten from it."""
    history = [_train(1), _train(2), _evaluation(2)]
    first = _record(tmp_path)
    _begin(first, FACTS, [], 0)
    for row in (*history, _train(3, float("inf")), _train(4)):
        first.add(row)
    assert [item.code for item in first.findings] == ["non-finite"]
    memory = MemoryOutput()
    second = _record(tmp_path, outputs=["files", memory])
    live = _begin(second, FACTS, history, 2)
    assert [(line["kind"], line["step"]) for line in live] == [("train", 1), ("train", 2), ("eval", 2)]
    assert second.findings == []
    assert _lines(tmp_path, "findings.jsonl") == []
    second.add(_train(3))
    lines = _lines(tmp_path)
    assert [line["step"] for line in lines if line.get("superseded")] == [3, 4]
    assert [line["step"] for line in live_rows(lines)] == [1, 2, 2, 3]
    assert lines[-1]["attempt"] == 2
    assert memory.rows == lines
    assert [(item["attempt"], item["start_step"]) for item in _run(tmp_path)["attempts"]] == [(1, 0), (2, 2)]


def test_resumed_fold_is_the_fold_of_the_file(tmp_path: Path) -> None:
    """Findings and summary after a resume equal those of the live rows of rows.jsonl."""
    first = _record(tmp_path)
    _begin(first, FACTS, [], 0)
    for step in range(1, 6):
        first.add(_train(step, 5.0 - step))
    second = _record(tmp_path)
    _begin(second, FACTS, [], 3)
    second.add(_train(4, float("nan")))
    state, findings = Monitor().fold(observations_of(live_rows(read_rows(tmp_path / "ko_cpt" / "rows.jsonl"))))
    assert tuple(second.findings) == findings
    assert second.summary() == state.summary()


def test_a_fresh_start_in_the_same_folder(tmp_path: Path) -> None:
    """Training from step 0 again supersedes all of the earlier run and keeps its lines."""
    for attempt in (1, 2):
        record = _record(tmp_path)
        _begin(record, FACTS, [], 0)
        record.add(_train(1))
        assert record.attempt == attempt
    lines = _lines(tmp_path)
    assert [bool(line.get("superseded")) for line in lines] == [True, False]


def test_rows_only_the_checkpoint_knows(tmp_path: Path) -> None:
    """The folder was lost, or the callback came later: the checkpoint's rows are taken, and judged."""
    record = _record(tmp_path)
    _begin(record, FACTS, [_train(1), _train(2, float("nan"), grad_norm=float("nan"))], 2)
    assert [item.code for item in record.findings] == ["non-finite"]
    assert [(line["step"], line["attempt"]) for line in _lines(tmp_path)] == [(1, 0), (2, 0)]
    assert _lines(tmp_path)[1]["loss"] == "NaN"


def test_evaluation_before_training_is_its_start(tmp_path: Path) -> None:
    """Evaluated, then trained by the same process: one attempt, the evaluation counts."""
    record = _record(tmp_path)
    record.begin_evaluation(FACTS)
    record.add(_evaluation(0))
    assert _lines(tmp_path)[0]["mode"] == "evaluate"
    _begin(record, FACTS, [], 0)
    record.add(_train(1))
    assert record.attempt == 1
    assert [(line["kind"], line.get("mode")) for line in _lines(tmp_path)] == [("eval", None), ("train", None)]
    assert record.summary().splits["eval"].evaluations == 1


def test_evaluation_in_the_folder_of_a_trained_run(tmp_path: Path) -> None:
    """Its row is added under its own mode; run.json, findings.jsonl and what counts stay the training's."""
    record = _record(tmp_path)
    _begin(record, FACTS, [], 0)
    record.add(_train(1, float("nan")))
    before, findings = _run(tmp_path), _lines(tmp_path, "findings.jsonl")
    later = _record(tmp_path)
    later.begin_evaluation({"planned_steps": None})
    found = later.add(_evaluation(0, float("inf")))
    later.note_evaluation("eval", {"evidence": "logits"}, None, 0)
    assert found
    assert _lines(tmp_path, "findings.jsonl") == findings
    after = _run(tmp_path)
    assert {**after, "attempts": None} == {**before, "attempts": None}
    assert [line["step"] for line in live_rows(_lines(tmp_path))] == [1]


def test_run_json_learns(tmp_path: Path) -> None:
    """How a set was measured is written when it is new or changed, not at every evaluation."""
    memory = MemoryOutput()
    record = _record(tmp_path, outputs=[memory])
    _begin(record, FACTS, [], 0)
    states = len(memory.runs)
    for _ in range(2):
        record.note_evaluation("eval", {"evidence": "logits"}, None, 1)
    assert len(memory.runs) == states + 1
    record.note_evaluation("eval", {"evidence": "loss"}, None, 1)
    record.note(stop={"code": "non-finite"})
    assert memory.runs[-1]["evaluations"] == {"eval": {"evidence": "loss"}}
    assert memory.runs[-1]["stop"] == {"code": "non-finite"}
    assert memory.runs[-1]["planned_steps"] == 4


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    """A process that does not write folds all the same."""
    memory = MemoryOutput()
    record = _record(tmp_path, outputs=["files", memory], writes=False)
    _begin(record, FACTS, [], 0)
    assert [item.code for item in record.add(_train(1, float("nan")))] == ["non-finite"]
    assert not (tmp_path / "ko_cpt").exists()
    assert memory.rows == []


@pytest.mark.parametrize("damage", ["not json\n{}\n", "[1]\n{}\n"])
def test_damaged_rows_are_set_aside(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A rows.jsonl that cannot be read is kept under another name, never overwritten, which is said; the run goes
    on."""
    folder = tmp_path / "ko_cpt"
    folder.mkdir()
    (folder / "rows.jsonl").write_text(damage)
    (folder / "run.json").write_text("also broken")
    (folder / "rows.jsonl.damaged-1").write_text("from last time")
    record = _record(tmp_path)
    _begin(record, FACTS, [], 0)
    record.add(_train(1))
    assert (folder / "rows.jsonl.damaged-2").read_text() == damage
    assert (folder / "rows.jsonl.damaged-1").read_text() == "from last time"
    (said,) = caplog.messages
    assert "kept as rows.jsonl.damaged-2" in said
    assert "rows.jsonl:1: not a JSON object" in said
    assert len(_lines(tmp_path)) == 1


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    """A kill inside the last line: that row is lost, the others stand, and the file is whole again."""
    record = _record(tmp_path)
    _begin(record, FACTS, [], 0)
    record.add(_train(1))
    rows = tmp_path / "ko_cpt" / "rows.jsonl"
    with rows.open("a") as stream:
        stream.write('{"kind": "train", "st')
    again = _record(tmp_path)
    _begin(again, FACTS, [], 1)
    again.add(_train(2))
    assert [line["step"] for line in _lines(tmp_path)] == [1, 2]


def test_leaving_the_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Told not to write files: none are written, it is said once, other outputs go on."""
    memory = MemoryOutput()
    record = _record(tmp_path, outputs=["files", memory])
    with caplog.at_level(logging.WARNING, logger="ko_cpt_callbacks"):
        record.leave_files("someone else writes them")
        record.leave_files("someone else writes them")
    _begin(record, FACTS, [], 0)
    record.add(_train(1))
    assert not (tmp_path / "ko_cpt").exists()
    assert len(memory.rows) == 1
    assert [("someone else" in item.getMessage()) for item in caplog.records] == [True]


@pytest.mark.parametrize("name", ["run.json", "rows.jsonl"])
def test_a_pipe_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    """It is never waited for: the run begins as if the file were damaged, and writes its own."""
    (tmp_path / "ko_cpt").mkdir()
    os.mkfifo(tmp_path / "ko_cpt" / name)
    record = _record(tmp_path)
    _begin(record, FACTS, [], 0)
    record.add(_train(1))
    assert [line["step"] for line in _lines(tmp_path)] == [1]
    assert _run(tmp_path)["attempts"][0]["start_step"] == 0
