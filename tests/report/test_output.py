"""``outputs=["report"]``: the page of a live run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
from report.page import Read
from transformers import Trainer, TrainerCallback

from ko_cpt_callbacks import KoCPTCallback

REPORT = "ko_cpt/report.html"


@pytest.mark.parametrize("outputs", [("files", "report"), ("report", "files")])
def test_a_run_leaves_its_report(tmp_path: Path, outputs: tuple[str, ...]) -> None:
    """When training is over the page is there, whatever the order of the names, and says how far the run came."""
    trainer = _trainer(tmp_path, outputs)
    trainer.train()
    read = Read((tmp_path / REPORT).read_text("utf-8"))
    assert "4 of 4 steps" in read.shown
    assert "finished" in read.shown


def test_an_evaluation_after_training_is_in_the_report(tmp_path: Path) -> None:
    """The last evaluation that a script makes is in the page too."""
    trainer = _trainer(tmp_path, ("files", "report"))
    trainer.train()
    before = Read((tmp_path / REPORT).read_text("utf-8"))
    trainer.evaluate(metric_key_prefix="eval_last")
    after = Read((tmp_path / REPORT).read_text("utf-8"))
    assert "eval_last" not in before.shown
    assert "eval_last" in after.shown


def test_who_ended_a_run_early_is_in_the_report(tmp_path: Path) -> None:
    """The row that says so comes after the Trainer's closing row; the page has it all the same."""

    class Stop(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step == 2

    trainer = _trainer(tmp_path, ("files", "report"))
    trainer.add_callback(Stop())
    trainer.train()
    read = Read((tmp_path / REPORT).read_text("utf-8"))
    assert "2 of 4 steps" in read.shown
    assert "stopped by should_training_stop" in read.shown


def test_a_report_without_a_record_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where no files are written there is nothing to report on: one warning, and the run goes on to its end."""
    trainer = _trainer(tmp_path, ("report",))
    trainer.train()
    assert trainer.state.global_step == 4
    assert [record.getMessage() for record in caplog.records if "'report'" in record.getMessage()] != []
    assert not (tmp_path / REPORT).exists()


def _trainer(folder: Path, outputs: tuple[str, ...]) -> Trainer:
    settings = {"max_steps": 4, "logging_steps": 1, "callbacks": [KoCPTCallback(outputs=outputs)]}
    rows = tiny.uneven_rows(8)
    made: Trainer = tiny.trainer(tiny.llama(600), folder, rows, tiny.uneven_rows(4, 8), **settings)
    return made
