"""A real run with ``load_best_model_at_end``, evaluated once more when it is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from e2e import job
from transformers import TrainerCallback

from ko_cpt_callbacks import KoCPTCallback
from ko_cpt_callbacks.check.asked import asked_of
from ko_cpt_callbacks.check.judgement import judge_run
from ko_cpt_callbacks.run.folder import eval_rows_path
from ko_cpt_callbacks.run.reading import read_run


class Spoils(TrainerCallback):
    """Makes the head ten times as large before the last step: a model that is surer, and worse."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Spoil it."""
        if state.global_step == 7:
            with torch.no_grad():
                kwargs["model"].lm_head.weight.mul_(10.0)


@pytest.mark.both_versions
def test_the_best_model_is_not_the_last(tmp_path: Path) -> None:
    """The last evaluation of training stands: in the callback's summary, in the per-row sums, for ``check`` of the run,
    and for ``check`` of the bare state, which knows it by the loss alone. The metrics are the loaded model's."""
    watcher = KoCPTCallback()
    trainer = job.build(
        tmp_path, [watcher, Spoils()], eval_steps=2, save_steps=2, max_steps=8, load_best_model_at_end=True,
        metric_for_best_model="eval_exact_loss",
    )  # fmt: skip
    trainer.train()
    before = watcher.summary()["splits"]["eval"]
    assert before["best"]["step"] < before["last"]["step"] == 8, "this run should end worse than its best"
    kept = eval_rows_path(tmp_path / "ko_cpt", "eval", 8).read_bytes()

    metrics = trainer.evaluate()
    trainer.save_state()
    assert metrics["eval_exact_loss"] == pytest.approx(before["best"]["value"])
    assert watcher.summary()["splits"]["eval"] == before
    assert eval_rows_path(tmp_path / "ko_cpt", "eval", 8).read_bytes() == kept
    for path in (tmp_path, tmp_path / "trainer_state.json"):
        last = judge_run(read_run(path), asked_of(None)).summary.splits["eval"].last
        assert (last.step, last.value) == (8, before["last"]["value"])
