"""A stage goes on in the corpus where the one before ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tiny import llama
from transformers import Trainer

from ko_cpt_callbacks.training.arguments import training_arguments
from ko_cpt_callbacks.training.data.report import needed_rows, stage_rows
from ko_cpt_callbacks.training.trainer import planned_steps


def test_stages_share_the_corpus() -> None:
    """Three stages of 40 rows see 120 different ones of 200, in order; what is left nobody sees twice for."""
    needed: dict[str, int | None] = {"a": 40, "b": 40, "c": 40}
    seen = [place for name in needed for place in stage_rows(needed, name, 200)]
    assert seen == list(range(120))


def test_after_the_last_row_comes_the_first() -> None:
    """A corpus that is too small is begun again, and within a stage no row comes twice."""
    needed: dict[str, int | None] = {"a": 40, "b": 40, "c": 40}
    assert list(stage_rows(needed, "c", 100)) == [*range(80, 100), *range(20)]


def test_a_stage_that_takes_all() -> None:
    """By epochs, or where it takes more than there is, it is given all; the next goes on from where that would end."""
    needed: dict[str, int | None] = {"a": None, "b": 150, "c": 40}
    assert list(stage_rows(needed, "a", 100)) == list(stage_rows(needed, "b", 100)) == list(range(100))
    assert list(stage_rows(needed, "c", 100)) == list(range(50, 90))


def test_how_many_rows_a_training_takes(tmp_path: Path) -> None:
    """Steps times rows of a step; by epochs there is no number."""
    given = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 4, "use_cpu": True}
    assert needed_rows(training_arguments({**given, "max_steps": 5}, tmp_path, 0)) == 60
    assert needed_rows(training_arguments({**given, "num_train_epochs": 2}, tmp_path, 0)) is None


@pytest.mark.both_versions
@pytest.mark.parametrize("more", [{}, {"dataloader_drop_last": True}, {"max_steps": 4}])
def test_how_many_steps_a_training_takes(tmp_path: Path, more: dict[str, Any]) -> None:
    """As many as the Trainer itself plans, by epochs too."""
    given = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_train_epochs": 3, **more}
    arguments = training_arguments({**given, "use_cpu": True, "report_to": "none"}, tmp_path, 0)
    rows = Dataset.from_dict({"input_ids": [[3, 4, 5]] * 10, "labels": [[3, 4, 5]] * 10})
    trainer = Trainer(model=llama(16), args=arguments, train_dataset=rows)
    trainer.train()
    assert planned_steps(arguments, len(rows)) == trainer.state.max_steps
