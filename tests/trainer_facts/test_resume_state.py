"""R: what a resumed run knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
from transformers import TrainerCallback

pytestmark = pytest.mark.both_versions

ROWS = tiny.uneven_rows(6)


class Sees(TrainerCallback):
    """Keeps the restored state and every row with its step."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.restored: tuple[int, list[dict[str, Any]]] = (-1, [])

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Copy the state."""
        self.restored = (state.global_step, [dict(row) for row in state.log_history])

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Copy the row."""
        self.rows.append({**logs, "step": state.global_step})


def test_r1_log_history_and_step_are_restored_at_train_begin(tmp_path: Path) -> None:
    """At on_train_begin of a resumed run: the checkpoint's step, and its rows, each equal to its on_log row + step."""
    settings = {"max_steps": 3, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 1}
    first, second = Sees(), Sees()
    for sees, resume in ((first, None), (second, str(tmp_path / "checkpoint-2"))):
        model = tiny.llama(len(tiny.byte_level_tokenizer()), layers=1)
        trainer = tiny.trainer(model, tmp_path, ROWS, ROWS, callbacks=[sees], **settings)
        trainer.train(resume_from_checkpoint=resume)
    assert first.restored == (0, [])
    step, rows = second.restored
    assert step == 2 and len(rows) == 4
    assert rows == first.rows[:4]
    assert [row["step"] for row in second.rows if "loss" in row] == [3]
