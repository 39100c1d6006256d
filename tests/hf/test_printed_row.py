"""What a Trainer prints of our numbers, and that nothing else loses one."""

from __future__ import annotations

import ast
import copy
from pathlib import Path
from typing import Any

import pytest
import tiny
from transformers import PrinterCallback, TrainerCallback

from ko_cpt_callbacks import KoCPTCallback
from ko_cpt_callbacks.hf.publication import print_small_rows

NEVER = {"nonfinite_steps", "nonfinite_micro_batches", "eval_nonfinite_batches"}
ONCE = {"eval_tokens", "eval_rows", "eval_bytes"}


class Tracker(TrainerCallback):
    """Keeps every row that it is given; it stands behind the callback that prints."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """See the class."""
        self.rows.append(dict(logs))


def test_zeros_and_sizes_that_stay_are_not_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are in the state, and in what a tracker behind the printer gets; what is printed once is printed then."""
    tracker = Tracker()
    trainer = tiny.trainer(
        tiny.llama(600, layers=1), tmp_path, tiny.uneven_rows(12), tiny.uneven_rows(4, 12), max_steps=2,
        logging_steps=1, eval_strategy="steps", eval_steps=1, callbacks=[KoCPTCallback(outputs=("files",))],
        disable_tqdm=True,
    )  # fmt: skip
    trainer.add_callback(tracker)
    trainer.train()
    printed = [ast.literal_eval(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    names = [set(row) for row in printed]
    assert not NEVER & set().union(*names)
    assert [of_row >= ONCE for of_row in names if "eval_loss" in of_row] == [True, False]
    assert all("ppl" in of_row for of_row in names if "loss" in of_row)
    for rows in (trainer.state.log_history, tracker.rows):
        assert [ONCE | {"eval_nonfinite_batches"} <= set(row) for row in rows if "eval_loss" in row] == [True, True]
        assert all({"nonfinite_steps", "tokens_seen"} <= set(row) for row in rows if "loss" in row)


def test_a_count_above_zero_and_a_size_that_changed_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """What says something is printed; a copy of the printer prints by itself."""
    printer = PrinterCallback()
    trainer_state: Any = type("State", (), {"is_local_process_zero": True})()
    print_small_rows([printer])
    rows = {"nonfinite_steps": 0, "eval_tokens": 7}, {"nonfinite_steps": 2, "eval_tokens": 7}, {"eval_tokens": 8}
    for one in (printer, copy.deepcopy(printer)):
        for row in rows:
            one.on_log(None, trainer_state, None, logs=dict(row))
        shown = capsys.readouterr().out.splitlines()
        assert shown == ["{'eval_tokens': 7}", "{'nonfinite_steps': 2}", "{'eval_tokens': 8}"]


def test_another_class_is_left_alone() -> None:
    """A printer of somebody's own prints what it did."""

    class Mine(PrinterCallback):
        """A descendant."""

    mine = Mine()
    print_small_rows([mine])
    assert "on_log" not in vars(mine)
