"""The record of a real run, whatever happens to its files: a full disk, odd names and letters, other writers."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import forked
import pytest
from check.command import check as command
from e2e import job, run_files
from transformers import Trainer, TrainerCallback
from writers import holding

from ko_cpt_callbacks import KoCPTCallback, MemoryOutput
from ko_cpt_callbacks.run import file
from ko_cpt_callbacks.run.reading import read_run

STEPS = 20
EVERY_STEP: dict[str, Any] = {
    "max_steps": STEPS,
    "logging_steps": 1,
    "eval_steps": 5,
    "save_strategy": "no",
}
EARLIER = {"record-behind", "foreign-record", "two-writers"}


class Between(TrainerCallback):
    """Does something when a step begins, and something else after it."""

    def __init__(self, steps: range, begin: Any, end: Any) -> None:
        self._steps, self._begin, self._end = steps, begin, end

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before the steps' first row."""
        if state.global_step + 1 == self._steps.start:
            self._begin()
        if state.global_step + 1 == self._steps.stop:
            self._end()


def _train(folder: Path, *others: TrainerCallback, outputs: Any = None, **changes: Any) -> KoCPTCallback:
    watcher = KoCPTCallback(outputs=outputs)
    job.build(folder, [watcher, *others], **{**EVERY_STEP, **changes}).train()
    return watcher


def _numbers(line: dict[str, Any]) -> dict[str, Any]:
    clock = ("runtime", "per_second", "per_gpu_hour")
    return {name: value for name, value in line.items() if not name.endswith(clock)}


def _steps(folder: Path, kind: str) -> list[int]:
    return [line["step"] for line in run_files.live(run_files.rows(folder)) if line["kind"] == kind]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose disk has room."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    _train(folder)
    return folder


def _fill(mount: Path) -> None:
    """Fill a file system to its last byte."""
    with (mount / "filler").open("wb", buffering=0) as stream:
        for size in (1 << 16, 1 << 8, 1):
            with suppress(OSError):
                while True:
                    stream.write(b"x" * size)


def _mounted(folder: Path) -> bool:
    """Whether a small file system could be mounted there."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    return done.returncode == 0


def test_a_full_disk_for_three_steps_of_twenty(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk of ``ko_cpt`` is full in steps 9, 10 (with its evaluation) and 11: the run goes on, every row, finding
    and sum is there at the end, the failure is told once and so is its end. On a real small file system where one can
    be mounted; otherwise the system's own calls fail as they do on one."""
    folder, mount = tmp_path / "run", tmp_path / "run" / "ko_cpt"
    folder.mkdir()
    full = False
    write, fsync = os.write, os.fsync

    def refused(descriptor: int, *data: bytes) -> Any:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, *data) if data else fsync(descriptor)

    def switch(on: bool) -> None:
        nonlocal full
        full = on

    real = _mounted(mount)
    if real:
        between = Between(range(9, 12), lambda: _fill(mount), (mount / "filler").unlink)
    else:
        monkeypatch.setattr(file.os, "write", refused)
        monkeypatch.setattr(file.os, "fsync", refused)
        between = Between(range(9, 12), lambda: switch(True), lambda: switch(False))
    try:
        with caplog.at_level(logging.WARNING, logger="ko_cpt_callbacks"):
            _train(folder, between)
        said = [item.getMessage() for item in caplog.records if "written" in item.getMessage()]
        assert len(said) == 2, said
        assert "could not be written" in said[0] and "nothing is missing" in said[1]
        assert [_numbers(line) for line in run_files.rows(folder)] == [_numbers(line) for line in run_files.rows(whole)]
        assert run_files.findings(folder) == run_files.findings(whole)
        sums = [sorted(path.name for path in (one / "ko_cpt" / "eval_rows").iterdir()) for one in (folder, whole)]
        assert sums[0] == sums[1] != []
    finally:
        if real:
            subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of a process are POSIX's")
def test_a_limit_on_the_size_of_a_file(whole: Path, tmp_path: Path) -> None:
    """The system cuts a line in two (RLIMIT_FSIZE, as a quota does) and refuses the rest for three steps: the record is
    whole afterwards, each line once."""
    import resource

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    rows = tmp_path / "run" / "ko_cpt" / "rows.jsonl"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (rows.stat().st_size + 100, old[1]))

    def lift() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)

    try:
        _train(tmp_path / "run", Between(range(9, 12), limit, lift))
    finally:
        lift()
    assert [_numbers(line) for line in run_files.rows(tmp_path / "run")] == [
        _numbers(line) for line in run_files.rows(whole)
    ]


def test_a_stump_is_judged_by_what_goes_further(tmp_path: Path) -> None:
    """The disk stayed full and the process died: ``ko-cpt check`` takes the rows after the record's end from the
    Trainer's state, or from the latest checkpoint, says so, and finds the NaN that only those show."""
    folder = tmp_path / "run"
    job.train(str(folder), nan_steps=[15], changes={**EVERY_STEP, "save_strategy": "steps", "save_steps": 10})
    rows = folder / "ko_cpt" / "rows.jsonl"
    complete = json.loads(command(str(folder), "--json").stdout)
    assert EARLIER.isdisjoint(item["code"] for item in complete["findings"])
    kept = [line for line in rows.read_text("utf-8").splitlines() if json.loads(line)["step"] <= 6]
    for stump in ("\n".join(kept) + "\n", "\n".join(kept) + "\n" + '{"kind": "tr', ""):
        rows.write_text(stump, "utf-8")
        for state, name in ((True, "trainer_state.json"), (False, "checkpoint-20/trainer_state.json")):
            hidden = folder / "hidden.json"
            if not state:
                (folder / "trainer_state.json").rename(hidden)
            judged = command(str(folder), "--json")
            if not state:
                hidden.rename(folder / "trainer_state.json")
            assert judged.exit_code == 0, judged.output
            found = json.loads(judged.stdout)
            (behind,) = [item for item in found["findings"] if item["code"] == "record-behind"]
            assert (behind["severity"], behind["asks_to_stop"]) == ("warning", False)
            assert behind["values"]["record_step"] == (6 if stump else 0)
            assert (behind["values"]["state_step"], behind["values"]["file"]) == (STEPS, name)
            assert [item["step"] for item in found["findings"] if item["code"] == "non-finite"] == [15]
            assert found["run"]["last_step"] == STEPS
    assert "record-behind" in command(str(folder), "--fail-on", "warning").stdout


def test_what_stands_beside_a_record_without_going_further(tmp_path: Path) -> None:
    """A checkpoint that an earlier attempt left, and one of another run: nothing is said and the record is judged."""
    folder = tmp_path / "run"
    plan = {**EVERY_STEP, "save_strategy": "steps", "save_steps": 5, "max_steps": 10}
    job.train(str(folder), changes=plan)
    # Resumed from step 5 and killed at 7: checkpoint 10 is the first attempt's.
    outcome = job.train(str(folder), resume=str(folder / "checkpoint-5"), changes={**plan, "max_steps": 7})
    assert EARLIER.isdisjoint(item["code"] for item in outcome["findings"])
    (folder / "trainer_state.json").unlink()
    assert not read_run(folder).behind
    other = tmp_path / "other"
    job.train(str(other), changes={**plan, "learning_rate": 1e-4})
    shutil.copy(other / "trainer_state.json", folder)
    assert not read_run(folder).behind


def test_resumed_beside_the_record_of_another_run(whole: Path, tmp_path: Path) -> None:
    """One run's checkpoint resumed in the folder of another: the other's rows are kept, superseded and not judged,
    which is said once; findings are those of the run that resumes. A later resume says nothing new."""
    first, second = tmp_path / "first", tmp_path / "second"
    plan = {**EVERY_STEP, "save_strategy": "steps", "save_steps": 5, "max_steps": 10}
    job.train(str(first), nan_steps=[3], changes=plan)
    alone = job.train(str(second), changes={**plan, "learning_rate": 1e-4})
    before = run_files.rows(first)
    result = job.train(
        str(first), resume=str(second / "checkpoint-5"), changes={**plan, "learning_rate": 1e-4}, outputs=None
    )
    (foreign,) = [item for item in result["findings"] if item["code"] == "foreign-record"]
    assert (foreign["variant"], foreign["step"], foreign["values"]["first_step"]) == ("differs", 5, 1)
    assert "non-finite" not in {item["code"] for item in result["findings"]}
    after = run_files.rows(first)
    superseded = [line for line in after if line.get("superseded")]
    assert [{name: v for name, v in line.items() if name != "superseded"} for line in superseded] == before
    assert run_files.double(after) == []
    losses = {row["step"]: row["loss"] for row in alone["log_history"] if "loss" in row}
    assert {row["step"]: row["loss"] for row in run_files.live(after) if row["kind"] == "train"} == losses
    for _ in range(2):
        again = job.train(
            str(first), resume=str(first / "checkpoint-5"), changes={**plan, "learning_rate": 1e-4, "max_steps": 12}
        )
        assert [item["code"] for item in again["findings"]].count("foreign-record") == 1


def test_two_jobs_in_one_folder(whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While another process holds the folder, a training and an evaluation run to their ends without touching a file of
    its record, and say so once, in the log and as a finding; when it has gone, the record is written again."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    record = folder / "ko_cpt"
    with holding(record) as process:
        before = {path: path.read_bytes() for path in record.rglob("*") if path.is_file()}
        with caplog.at_level(logging.WARNING, logger="ko_cpt_callbacks"):
            watcher = _train(folder, max_steps=6)
        (finding,) = [item for item in watcher.findings if item.code == "two-writers"]
        assert (finding.values["process"], finding.asks_to_stop) == (str(process), False)
        assert len([item for item in caplog.records if f"Another process ({process})" in item.getMessage()]) == 1
        assert len(watcher.summary()["splits"]) == 1
        lone = KoCPTCallback()
        job.build(folder, [lone]).evaluate()
        assert [item.code for item in lone.findings].count("two-writers") == 1
        assert {path: path.read_bytes() for path in record.rglob("*") if path.is_file()} == before
    assert "two-writers" not in {item.code for item in _train(folder, max_steps=6).findings}
    assert _steps(folder, "train") == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("case", ["two writers", "another run's record"])
def test_two_ranks_say_the_same(case: str, tmp_path: Path) -> None:
    """What the first rank sees of the folder is found on both, and both go to the end."""
    folder, other = tmp_path / "run", tmp_path / "other"
    plan = {**EVERY_STEP, "save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    for path, rate in ((folder, 5e-3), (other, 1e-4)):
        job.train(str(path), changes={**plan, "learning_rate": rate})
    foreign = case != "two writers"
    resume = str((other if foreign else folder) / "checkpoint-2")
    with nullcontext() if foreign else holding(folder / "ko_cpt"):
        ranks = forked.run_ranks(
            job.train, str(folder), ranks=2, folder=tmp_path / "notes", resume=resume, changes=plan, timeout=120.0
        )
    results = [forked.value(outcome) for outcome in ranks]
    codes = [[item["code"] for item in result["findings"]] for result in results]
    assert codes[0] == codes[1]
    assert [code for code in codes[0] if code in EARLIER] == ["foreign-record" if foreign else "two-writers"]
    assert [result["step"] for result in results] == [4, 4]


def test_a_second_trainer_of_the_same_process(tmp_path: Path) -> None:
    """A notebook builds its Trainer anew, or trains another one in the same folder: that is no second writer."""
    first = KoCPTCallback()
    trainer = job.build(tmp_path / "run", [first], **{**EVERY_STEP, "max_steps": 2})
    trainer.train()
    second = _train(tmp_path / "run", max_steps=3)
    trainer.evaluate()
    for watcher in (first, second):
        assert "two-writers" not in {item.code for item in watcher.findings}
    assert _steps(tmp_path / "run", "train") == [1, 2, 3]


def test_names_and_letters(tmp_path: Path) -> None:
    """A set whose name has 85 letters of Hangul, and half of a surrogate pair in what somebody logs: every row is
    there, and the sums of the set are found again under its name."""
    name = "가" * 85

    class Odd(Trainer):
        def log(self, logs: dict[str, Any], *others: Any, **more: Any) -> None:
            super().log({**logs, "odd": "\ud83d half"}, *others, **more)

    memory = MemoryOutput()
    watcher = KoCPTCallback(outputs=["files", "console", memory])
    sets = {name: job.rows()[job.EVAL_ROWS], f"{name}나": job.rows()[job.EVAL_ROWS]}
    changes = {**EVERY_STEP, "max_steps": 5}
    job.build(tmp_path / "run", [watcher], eval_dataset=sets, trainer_class=Odd, **changes).train()
    lines = run_files.rows(tmp_path / "run")
    assert len(lines) == len(memory.rows)
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 3, 4, 5]
    assert sum(line.get("odd") == "\ud83d half" for line in lines) >= 5
    names = [path.name for path in (tmp_path / "run" / "ko_cpt" / "eval_rows").iterdir()]
    assert len(names) == 2
    assert all(len(item.encode()) <= 255 for item in names)
    assert command(str(tmp_path / "run")).exit_code == 0


def test_a_terminal_of_few_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ASCII stdout shows other signs, or codes, for the characters that it lacks: no output is switched off."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii", errors="strict", write_through=True))
    watcher = _train(tmp_path / "run", max_steps=5)
    assert b"step 5 - eval: loss" in shown.getvalue()
    before_the_page = shown.getvalue().partition(b"\n\n")[0].splitlines()
    assert [line.split(b"]")[0] for line in before_the_page if line.startswith(b"[")] == [
        f"[{finding.severity}".encode() for finding in watcher.findings
    ]
    assert _steps(tmp_path / "run", "train") == [1, 2, 3, 4, 5]


def test_cut_inside_a_letter(tmp_path: Path) -> None:
    """A kill inside the second byte of a letter: the rows before it are the record, for ``check`` and for a resume."""
    folder = tmp_path / "run"
    plan = {**EVERY_STEP, "save_strategy": "steps", "save_steps": 5, "max_steps": 10}
    job.train(str(folder), changes=plan)
    rows = folder / "ko_cpt" / "rows.jsonl"
    whole = rows.read_bytes()
    for cut in (1, 2):
        rows.write_bytes(whole + '{"kind": "train", "note": "한'.encode()[:-cut])
        assert command(str(folder)).exit_code == 0
        assert len(read_run(folder).rows) == len(whole.splitlines())
    job.train(str(folder), resume=str(folder / "checkpoint-5"), changes=plan)
    assert not list(rows.parent.glob("*.damaged-*"))
    assert _steps(folder, "train") == list(range(1, 11))


def test_what_a_killed_process_left_half_written(tmp_path: Path) -> None:
    """Half-written files of processes that are gone are removed when a run begins; files of others are not."""
    record = tmp_path / "run" / "ko_cpt"
    (record / "eval_rows").mkdir(parents=True)
    for name in (".run.json.12.tmp", "eval_rows/.eval-4.npz.12.tmp", "notes.tmp", ".mine.tmp", "eval_rows/.x.a.tmp"):
        (record / name).write_text("half")
    _train(tmp_path / "run", max_steps=1)
    left = {str(path.relative_to(record)) for path in record.rglob("*.tmp")}
    assert left == {"notes.tmp", ".mine.tmp", "eval_rows/.x.a.tmp"}


def test_a_record_of_a_newer_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A newer version's files are kept beside, byte for byte, before this version writes its own; it says so."""
    folder = tmp_path / "run"
    _train(folder, max_steps=2)
    record = folder / "ko_cpt"
    run = json.loads((record / "run.json").read_text("utf-8"))
    (record / "run.json").write_text(json.dumps({**run, "format": 2, "new": [1]}), "utf-8")
    before = {name: (record / name).read_bytes() for name in ("run.json", "rows.jsonl", "findings.jsonl")}
    with caplog.at_level(logging.WARNING, logger="ko_cpt_callbacks"):
        _train(folder, max_steps=2)
    assert [item.getMessage() for item in caplog.records if "newer version" in item.getMessage()] != []
    assert {name: (record / f"{name}.newer-1").read_bytes() for name in before} == before
    assert run_files.run(folder)["format"] == 1
