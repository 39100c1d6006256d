"""Runs that stop on a target, for the end-to-end tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from e2e import job
from transformers import EarlyStoppingCallback, TrainerCallback

from ko_cpt_callbacks import KoCPTCallback


class _DieAtEnd(TrainerCallback):
    """Dies as soon as the stop was obeyed, before anything is tidied up."""

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """SIGKILL."""
        job.die()


# The loss of the tiny model starts near 6.4 and falls steadily; this bound is crossed in mid-run.
TARGET = "eval_exact_loss<6.1@end"


def stopping(
    folder: str,
    *,
    told: dict[str, Any] | None = None,
    resume: str | None = None,
    early_stopping: bool = False,
    die_at_end: bool = False,
    first_rank_only: bool = False,
    changes: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One run whose callback is told ``told``; evaluates every two steps, up to 40."""
    watcher = KoCPTCallback(**({"targets": [TARGET], "stop_on": ["target-met"]} if told is None else told))
    settings = {
        "max_steps": 40,
        "logging_steps": 2,
        "eval_steps": 2,
        "learning_rate": 1e-2,
        "metric_for_best_model": "eval_exact_loss",
        "load_best_model_at_end": False,
        **(changes or {}),
    }
    rank = int(os.environ.get("RANK", "0"))
    if first_rank_only:
        job._absent_on_rank_1(rank, folder)
    trainer = job.build(folder, [] if first_rank_only and rank else [watcher], **settings)
    if early_stopping:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=50))
    if die_at_end:
        trainer.add_callback(_DieAtEnd())
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_state()
    checkpoints = sorted(path.name for path in Path(folder).glob("checkpoint-*"))
    return {**job.report(trainer, watcher), "checkpoints": checkpoints}
