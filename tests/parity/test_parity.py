"""Live == fold of rows.jsonl == fold of trainer_state.json == cut and continued anywhere, for real recorded runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from parity.record import FILES, RECIPES, RUNS, record

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.asked import read_recorded_run
from ko_cpt_callbacks.hf.record import LiveRecord
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.registry import ALL_RULES
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.observation import Observation
from ko_cpt_callbacks.run.reading import read_run
from ko_cpt_callbacks.run.resume import plan_attempt
from ko_cpt_callbacks.run.rows import live_rows, observations_of, read_rows
from ko_cpt_callbacks.run.trainer_state import read_state_rows
from ko_cpt_callbacks.watch.spec import WatchSpec

# What a rule reads that the Trainer's own state file has no place for: set-up rows are rows of rows.jsonl alone.
_TOLD = "it is told by a set-up row, which log_history cannot hold"
NOT_IN_THE_STATE = dict.fromkeys(("trackers-not-reached", "no-first-evaluation", "nan-filter-on"), _TOLD)
"""Reasons of `note`."""

NAMES = sorted(RECIPES)


def _live(folder: Path) -> list[dict[str, Any]]:
    """What the callback said while the run ran, in the sentences of now: most of these runs were recorded before."""
    lines = (folder / keys.FINDINGS_FILE).read_text("utf-8").splitlines()
    return _as_dicts([Finding.from_dict(json.loads(line)) for line in lines])


def _monitor(folder: Path) -> Monitor:
    """The rules that the run was told to ask; most of these runs were recorded when notes had codes of their own."""
    told = read_recorded_run(folder / keys.RUN_FILE).spec
    return Monitor([rule for rule in ALL_RULES if rule.code in (told.rules or ())], task=told.task)


def _rows(folder: Path) -> tuple[Observation, ...]:
    return observations_of(live_rows(read_rows(folder / keys.ROWS_FILE)))


def _state(folder: Path) -> tuple[Observation, ...]:
    return read_run(folder / "trainer_state.json").observations()


def _as_dicts(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [finding.as_dict() for finding in findings]


def _fed_by_the_state(findings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [finding for finding in findings if finding["variant"] not in NOT_IN_THE_STATE]


def _assert_parity(folder: Path) -> None:
    monitor, live = _monitor(folder), _live(folder)
    assert _as_dicts(monitor.judge(_rows(folder))[1]) == live
    assert _as_dicts(monitor.judge(_state(folder))[1]) == _fed_by_the_state(live)


def test_every_recipe_is_recorded() -> None:
    """The kept runs are those that the script records, each with its four files."""
    assert sorted(path.name for path in RUNS.iterdir()) == NAMES != []
    for name in NAMES:
        assert sorted(path.name for path in (RUNS / name).iterdir()) == sorted(FILES)


def test_the_recorded_runs_tell_apart() -> None:
    """The runs are no empty promise: together they hold a finding of each of these rules, NaN in training and in
    evaluation, superseded rows, two sets, 8-bit weights and a healthy run."""
    found = {name: _live(RUNS / name) for name in NAMES}
    variants = {(item["code"], item["variant"]) for items in found.values() for item in items}
    assert {code for code, _ in variants} >= {"non-finite", "not-enough-data", "note"}
    assert {("non-finite", "steps-first"), ("non-finite", "eval-batches")} <= variants
    assert {("note", "exact-loss-absent"), ("note", "trackers-not-reached"), ("note", "nan-filter-on")} <= variants
    assert [(item["code"], item["variant"]) for item in found["two-eval-sets"]] == [("note", "no-first-evaluation")]
    assert any(line.get(keys.SUPERSEDED) for line in read_rows(RUNS / "resumed" / keys.ROWS_FILE))
    assert {line.get(keys.SPLIT) for line in read_rows(RUNS / "two-eval-sets" / keys.ROWS_FILE)} >= {
        "eval_ko",
        "eval_en",
    }
    model = json.loads((RUNS / "eight-bit-lora" / keys.RUN_FILE).read_text("utf-8"))["model"]
    assert model["quantization"] == "8-bit"
    losses = [row["loss"] for row in read_rows(RUNS / "nan-in-window" / keys.ROWS_FILE) if "loss" in row]
    assert losses[5:] == [0.0, 0.0, 0.0] and 0.5 < losses[4] / losses[3] < 0.9, "NaN inside a window, then as 0.0"


@pytest.mark.parametrize("name", NAMES)
def test_live_equals_the_folds(name: str) -> None:
    """What the callback said live, the fold of its rows.jsonl and the fold of the Trainer's state file are equal, in
    every value and sentence; a rule that the state file cannot feed is missing there and nothing else is."""
    _assert_parity(RUNS / name)


@pytest.mark.parametrize("source", [_rows, _state], ids=["rows", "state"])
@pytest.mark.parametrize("name", NAMES)
def test_cut_and_continued_at_every_row(name: str, source: Any) -> None:
    """A fold that is broken off after any row and taken up again ends in the same state with the same findings."""
    monitor, seen = _monitor(RUNS / name), source(RUNS / name)
    state, whole = monitor.fold(seen)
    for cut in range(len(seen) + 1):
        half, first = monitor.fold(seen[:cut])
        end, second = monitor.fold(seen[cut:], half)
        assert end == state, cut
        assert first + second == whole, cut


@pytest.mark.parametrize("name", NAMES)
def test_died_at_every_row_and_resumed_from_every_step(name: str) -> None:
    """The process dies after any line of rows.jsonl and training is resumed from a checkpoint at any step, or anew: the
    plan for the next attempt, followed by the rows from there on, folds to the findings of the whole run. Rows that
    died with the process come from the checkpoint's log_history, set-up rows from the new attempt."""
    folder = RUNS / name
    monitor, lines = _monitor(folder), read_rows(folder / keys.ROWS_FILE)
    history = read_state_rows(folder / "trainer_state.json").rows
    counting = [line for line in live_rows(lines) if line[keys.KIND] != keys.KIND_SETUP]
    setup = [line for line in live_rows(lines) if line[keys.KIND] == keys.KIND_SETUP]
    whole = _fed_by_the_state(_live(folder))
    steps = sorted({line[keys.STEP] for line in lines})
    for died in range(len(lines) + 1):
        for start in [0, *steps]:
            restored = [row for row in history if row[keys.STEP] <= start and start > 0 and "train_loss" not in row]
            plan = plan_attempt(lines[:died], restored, start, None)
            ahead = [line for line in counting if line[keys.STEP] > start or line[keys.KIND] == keys.KIND_END]
            _, found = monitor.fold(observations_of([*plan.live, *setup, *ahead]))
            assert _fed_by_the_state(_as_dicts(found)) == whole, (died, start)
            kept = [{n: v for n, v in line.items() if n != keys.SUPERSEDED} for line in plan.lines]
            for line in lines[:died]:
                assert {n: v for n, v in line.items() if n != keys.SUPERSEDED} in kept, "a line was lost"


def test_the_bare_state_shows_the_nan() -> None:
    """The same NaN run as a Trainer without the callback logged it: its first row looks like a skipped step, the next
    one, a loss of 0 with a gradient norm that is no number, is the NaN; so is what the evaluation's own loss shows."""
    folder = RUNS / "nan-in-window"
    ours = {*keys.TRAIN_KEYS, *(keys.key("eval", suffix) for suffix in keys.EVAL_SUFFIXES)}
    bare = [
        {name: value for name, value in row.items() if name not in ours}
        for row in read_state_rows(folder / "trainer_state.json").rows
    ]
    _, found = _monitor(folder).judge(observations_of(bare))
    train = [finding for finding in found if finding.split == "train"]
    assert [(finding.code, finding.variant, finding.step) for finding in train] == [
        ("non-finite", "scaler", 10), ("non-finite", "zero", 12),
    ]  # fmt: skip


@pytest.mark.both_versions
def test_record_again(tmp_path: Path) -> None:
    """The script records the NaN run anew, here and now: the findings held by the callback are those in its file, the
    folds agree with them, and they are those of the kept run but for the last digits of their numbers."""
    held = record("nan-in-window", tmp_path / "again")
    assert held == _live(tmp_path / "again")
    _assert_parity(tmp_path / "again")
    names = ("code", "severity", "variant", "step", "split", "asks_to_stop")
    kept = _live(RUNS / "nan-in-window")
    assert [[item[name] for name in names] for item in held] == [[item[name] for name in names] for item in kept]


@pytest.mark.parametrize("name", NAMES)
def test_an_older_record_is_taken_up_quietly(name: str, tmp_path: Path) -> None:
    """A run folder of an earlier version, judged where it lies and resumed from each of its steps: nothing that is new
    in this version is said of its record, and no file is set aside."""
    new = {"record-behind", "foreign-record", "two-writers"}
    run = read_run(RUNS / name / keys.ROWS_FILE)
    assert not run.behind
    told = {item["code"] for item in _live(RUNS / name)}
    history = read_state_rows(RUNS / name / "trainer_state.json").rows
    for start in sorted({row[keys.STEP] for row in history}):
        folder = tmp_path / str(start)
        (folder / keys.FOLDER).mkdir(parents=True)
        for file in FILES:
            shutil.copy(RUNS / name / file, folder if file == "trainer_state.json" else folder / keys.FOLDER)
        restored = [row for row in history if row[keys.STEP] <= start and "train_loss" not in row]
        record = LiveRecord(WatchSpec(), ["files"], folder, writes=True)
        record.begin_training({}, start, record.plan_training(restored, start))
        assert {finding.code for finding in record.findings} <= told - new
        assert sorted(path.name for path in (folder / keys.FOLDER).iterdir()) == sorted(
            [".lock", *(file for file in FILES if file != "trainer_state.json")]
        )
