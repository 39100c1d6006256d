"""What a training row says beside a ``compute_loss`` of the user's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
from transformers import Trainer

from ko_cpt_callbacks import KoCPTCallback, keys

pytestmark = pytest.mark.both_versions

ROWS = tiny.uneven_rows(12)


class Added(Trainer):
    """Adds a term to the model's loss, and keeps that loss as the Trainer would have logged it."""

    term = 0.05

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """See the class."""
        found = super().compute_loss(model, inputs, *args, **kwargs)
        return found if isinstance(found, tuple) else found + self.term * found.detach()


def _rows(folder: Path, trainer_class: type[Trainer], **settings: Any) -> tuple[list[dict[str, Any]], float]:
    """The training rows of a model that stays as it is, and its exact loss."""
    trainer = tiny.trainer(
        tiny.llama(len(tiny.byte_level_tokenizer()), layers=1), folder, ROWS, ROWS, trainer_class=trainer_class,
        callbacks=[KoCPTCallback(outputs=())], **{"max_steps": 3, "learning_rate": 0.0, **settings},
    )  # fmt: skip
    trainer.train()
    rows = [row for row in trainer.state.log_history if keys.LOSS in row]
    return rows, trainer.evaluate()["eval_exact_loss"]


@pytest.mark.parametrize(("logging_steps", "accumulation"), [(1, 1), (3, 1), (1, 2), (3, 2)])
def test_a_small_term_is_not_in_the_perplexity(logging_steps: int, accumulation: int, tmp_path: Path) -> None:
    """The row's loss has it; the perplexity is that of the model's own losses, over the row's targets."""
    settings: dict[str, Any] = {"logging_steps": logging_steps, "gradient_accumulation_steps": accumulation}
    plain, exact = _rows(tmp_path / "plain", Trainer, **settings)
    added, _ = _rows(tmp_path / "added", Added, **settings)
    assert len(plain) == len(added) == 3 // logging_steps
    for before, row in zip(plain, added, strict=True):
        assert before[keys.PPL] == pytest.approx(math.exp(before[keys.LOSS]))
        assert row[keys.LOSS] == pytest.approx(1.05 * before[keys.LOSS], rel=1e-3)
        # Not of these very targets, and transformers 4.57 divides by another count: that of the added loss is right.
        assert row[keys.PPL] == pytest.approx(math.exp(exact), rel=0.02)


def test_steps_that_an_epoch_cuts_short(tmp_path: Path) -> None:
    """The last step of an epoch has fewer micro-batches: the loss of its row is the model's own all the same."""
    rows, _ = _rows(tmp_path, Trainer, max_steps=4, logging_steps=2, gradient_accumulation_steps=3)
    assert [row[keys.PPL] for row in rows] == [pytest.approx(math.exp(row[keys.LOSS])) for row in rows]
