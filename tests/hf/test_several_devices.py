"""Several GPUs in one process: said before the first step, and nothing is published that nobody measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from transformers import TrainerCallback, TrainingArguments

from ko_cpt_callbacks import KoCPTCallback, keys

pytestmark = pytest.mark.both_versions

ROWS = tiny.uneven_rows(6)


class _FirstStep(TrainerCallback):
    """Keeps what was found when the first step begins."""

    def __init__(self, callback: KoCPTCallback) -> None:
        self.callback = callback
        self.codes: list[tuple[str, str]] | None = None

    def on_step_begin(self, *args: object, **kwargs: object) -> None:
        if self.codes is None:
            self.codes = [(item.code, str(item.severity)) for item in self.callback.findings]


def test_it_is_said_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Trainer that sees two GPUs uses nn.DataParallel: a warning before step 0 with what to do, the same reason at
    every evaluation and in ``rows.jsonl``; tokens and non-finite steps, which nobody counted, are not zero but absent.
    """
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 2))
    callback = KoCPTCallback(outputs=["files"])
    first = _FirstStep(callback)
    trainer = tiny.trainer(
        tiny.llama(600), tmp_path, ROWS, ROWS, callbacks=[callback, first], eval_strategy="steps", eval_steps=1,
        max_steps=2,
    )  # fmt: skip
    trainer.train()
    assert type(trainer.model_wrapped).__name__ == "DataParallel"
    assert first.codes is not None
    assert ("note", "warning") in first.codes
    history = trainer.state.log_history
    reasons = {row["eval_exact_loss_absent"] for row in history if "eval_loss" in row}
    assert len(reasons) == 1
    assert "one process per GPU" in reasons.pop()
    unmeasured = {"eval_exact_loss", keys.TOKENS_SEEN, keys.NONFINITE_STEPS}
    assert not any(unmeasured & row.keys() for row in history)
    rows = [json.loads(line) for line in (tmp_path / "ko_cpt" / "rows.jsonl").read_text("utf-8").splitlines()]
    noted = [row for row in rows if row.get(keys.KIND_SETUP) == "exact-loss-absent"]
    assert [row["step"] for row in noted] == [0]
