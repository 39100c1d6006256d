"""One real training that is begun and resumed with something else than before, in processes of their own."""

from __future__ import annotations

from typing import Any

from e2e import job

from ko_cpt_callbacks import KoCPTCallback


def part(
    folder: str,
    *,
    resume: str | None = None,
    train_rows: tuple[int, int] = (0, 24),
    eval_rows: tuple[int, int] = (24, 33),
    **changes: Any,
) -> dict[str, Any]:
    """A part of a run: an attempt.

    Args:
        folder: ``output_dir``.
        resume: The checkpoint to go on from.
        train_rows: The texts that are trained on, from and to.
        eval_rows: Those that are evaluated.
        changes: Changed training arguments.
    """
    watcher = KoCPTCallback(patience=3)
    trainer = job.build(folder, [watcher], eval_dataset=job.rows()[slice(*eval_rows)], **changes)
    trainer.train_dataset = job.rows()[slice(*train_rows)]
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_state()
    return job.report(trainer, watcher)
