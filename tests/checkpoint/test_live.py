"""A real tiny training with `save_total_limit`: what it lost, and by how much its rows moved, resumed or not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from check.command import SCHEMA, check
from tiny import byte_level_tokenizer, korean, llama, rows, trainer

from ko_cpt_callbacks import KoCPTCallback, keys
from ko_cpt_callbacks.metrics.uncertainty import paired_difference
from ko_cpt_callbacks.run.folder import eval_rows_path, read_eval_rows

KEY = "eval_exact_loss_change_se"
STEPS = (2, 4, 6, 8)


def _train(folder: Path, resume: bool = False) -> KoCPTCallback:
    tokenizer, callback = byte_level_tokenizer(), KoCPTCallback(outputs=["files", "console"])
    texts = korean()
    made = trainer(
        llama(len(tokenizer)), folder, rows(texts[:16], tokenizer), rows(texts[16:36], tokenizer),
        max_steps=8, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2, save_total_limit=2,
        learning_rate=1e-2, logging_steps=2, callbacks=[callback], processing_class=tokenizer,
    )  # fmt: skip
    made.train(resume_from_checkpoint=str(folder / "checkpoint-6") if resume else None)
    return callback


def _changes(folder: Path) -> dict[int, Any]:
    lines = [json.loads(line) for line in (folder / "ko_cpt" / "rows.jsonl").read_text().splitlines()]
    return {
        one["step"]: one.get(KEY) for one in lines
        if one["kind"] == "eval" and not one.get("superseded") and not one.get("eval_at_resume")
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a finished run, and its summary."""
    folder = tmp_path_factory.mktemp("run")
    return folder, _train(folder).summary()


def test_what_save_total_limit_lost(run: tuple[Path, dict[str, Any]]) -> None:
    """The summary names what is lost and what to keep, as the record and the folder say; check has the same."""
    folder, summary = run
    found = summary["checkpoints"]
    assert {one["step"]: one["on_disk"] for one in found["checkpoints"]} == {2: False, 4: False, 6: True, 8: True}
    assert (found["basis"], found["set"], found["rows"]) == ("rows", "eval", 20)
    assert found["recommended"] in {str(folder / "checkpoint-6"), str(folder / "checkpoint-8")}
    judged = json.loads(check(folder, "--json").stdout)
    jsonschema.validate(judged, SCHEMA)
    assert judged["checkpoints"] == found
    assert "lost: checkpoint-2, checkpoint-4" in check(folder).stdout


def test_the_error_of_a_change_is_that_of_the_pairs(run: tuple[Path, dict[str, Any]]) -> None:
    """Of the first evaluation there is none; each later one's is of its rows and those of the one before."""
    folder, _ = run
    sums = [read_eval_rows(eval_rows_path(folder / keys.FOLDER, "eval", step)) for step in STEPS]
    expected = {STEPS[0]: None}
    for step, before, now in zip(STEPS[1:], sums, sums[1:], strict=False):
        expected[step] = pytest.approx(paired_difference(now.nll, now.tokens, before.nll, before.tokens).se, rel=1e-9)
    assert _changes(folder) == expected


def test_a_resumed_run_has_the_same_changes(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """The rows of the evaluation before the resume are read back from the record."""
    folder, _ = run
    again = tmp_path / "run"
    shutil.copytree(folder, again)
    (again / "ko_cpt" / "eval_rows" / "eval-8.npz").unlink()
    _train(again, resume=True)
    found, expected = _changes(again), _changes(folder)
    assert (found.pop(2), expected.pop(2)) == (None, None)
    assert found == pytest.approx(expected, rel=1e-5)
