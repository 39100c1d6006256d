"""What a training row says beside a ``compute_loss`` of the user's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from transformers import LlamaForCausalLM, Trainer

from ko_cpt_callbacks import KoCPTCallback, keys
from ko_cpt_callbacks.hf.measure.model_output import ForwardOutput
from ko_cpt_callbacks.hf.measure.step_counts import TrainTotals
from ko_cpt_callbacks.hf.measure.train_meter import TrainMeter
from ko_cpt_callbacks.hf.ranks import Ranks

pytestmark = pytest.mark.both_versions

ROWS = tiny.uneven_rows(12)


class Added(Trainer):
    """Adds a term to the model's loss, and keeps that loss as the Trainer would have logged it."""

    term = 0.05

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """See the class."""
        found = super().compute_loss(model, inputs, *args, **kwargs)
        return found if isinstance(found, tuple) else found + self.term * found.detach()


class Weighs(Trainer):
    """Divides the loss of each micro-batch's tokens by the targets of the whole step itself, on one process."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: Any = False, num_items_in_batch: Any = None) -> Any:
        """See the class."""
        self.model_accepts_loss_kwargs = True  # the Trainer divides no more
        output = model(**inputs)
        targets = (inputs["labels"][:, 1:] != -100).sum()
        loss = output.loss if num_items_in_batch is None else output.loss * targets / num_items_in_batch
        return (loss, output) if return_outputs else loss


class Twice(Trainer):
    """Runs the model twice on each batch, the second time with a loss of NaN at a step of its choice."""

    broken_at: int | None = None

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """See the class."""
        first = super().compute_loss(model, inputs, *args, **kwargs)
        if not model.training:
            return first
        model.broken = self.state.global_step + 1 == self.broken_at
        try:
            return (first + super().compute_loss(model, inputs, *args, **kwargs)) / 2
        finally:
            model.broken = False


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


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_passes_over_a_micro_batch_are_one(accumulation: int, tmp_path: Path) -> None:
    """Its targets are trained on once, and its loss and perplexity are those of one pass where both are the same."""
    settings: dict[str, Any] = {"logging_steps": 1, "gradient_accumulation_steps": accumulation}
    plain, _ = _rows(tmp_path / "plain", Trainer, **settings)
    twice, _ = _rows(tmp_path / "twice", Twice, **settings)
    for name in (keys.TOKENS_SEEN, keys.NONFINITE_MICRO_BATCHES, keys.PPL):
        assert [row[name] for row in twice] == pytest.approx([row[name] for row in plain]), name


def test_the_second_pass_may_be_the_broken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NaN in it counts, once for its micro-batch."""

    class Breaks(Twice):
        broken_at = 2

    forward = LlamaForCausalLM.forward

    def breaking(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        if getattr(self, "broken", False):
            output.loss = output.loss + math.nan  # its gradient stays
        return output

    monkeypatch.setattr(LlamaForCausalLM, "forward", breaking)
    rows, _ = _rows(tmp_path, Breaks, logging_steps=1)
    assert [row[keys.NONFINITE_MICRO_BATCHES] for row in rows] == [0, 1, 0]


def test_the_same_tensor_in_two_micro_batches_counts_twice() -> None:
    """A loader may hand out one tensor again and again: what ends a micro-batch ends that."""
    meter = TrainMeter(Ranks(torch.device("cpu"), 0), _never)
    meter.watches = True
    labels = torch.tensor([[1, 2, 3]])
    for end in (meter.end_micro_batch, meter.end_step):
        for _ in range(2):
            meter.observe({"labels": labels}, ForwardOutput(torch.tensor(math.nan), None, None, None), alignment=None)
        end()
    part = meter.part()
    assert (part["tokens"], part["bad"]) == (6, [2])


def _never(error: Exception) -> None:
    raise error


@pytest.mark.skipif(transformers.__version__ < "5", reason="this version counts first labels too, which are no targets")
def test_a_step_weighed_by_its_targets(tmp_path: Path) -> None:
    """Micro-batches of unlike lengths: the loss is the model's own over all targets of a step, and nothing is added."""
    rows, _ = _rows(tmp_path, Weighs, logging_steps=3, gradient_accumulation_steps=3, per_device_train_batch_size=1)
    assert [row[keys.PPL] for row in rows] == [pytest.approx(math.exp(row[keys.LOSS])) for row in rows]


def test_steps_that_an_epoch_cuts_short(tmp_path: Path) -> None:
    """The last step of an epoch has fewer micro-batches: the loss of its row is the model's own all the same."""
    rows, _ = _rows(tmp_path, Trainer, max_steps=4, logging_steps=2, gradient_accumulation_steps=3)
    assert [row[keys.PPL] for row in rows] == [pytest.approx(math.exp(row[keys.LOSS])) for row in rows]


class _HalfLoss(LlamaForCausalLM):
    """Returns its mean in bfloat16, and takes no count."""

    accepts_loss_kwargs = False

    def forward(self, *args: Any, num_items_in_batch: Any = None, **kwargs: Any) -> Any:
        """See the class."""
        output = super().forward(*args, **kwargs)
        output.loss = None if output.loss is None else output.loss.bfloat16()
        return output


def test_a_loss_in_half_precision(tmp_path: Path) -> None:
    """The Trainer divides it by the micro-batches in that precision, which moves it by more than rounding may: a third
    of 6.406, what ln 600 is in bfloat16, is 2.141 there.
    """
    model = _HalfLoss(tiny.llama(len(tiny.byte_level_tokenizer()), layers=1).config)
    model.lm_head.weight.data.zero_()
    trainer = tiny.trainer(
        model, tmp_path, ROWS, callbacks=[KoCPTCallback(outputs=())], learning_rate=0.0, max_steps=2,
        gradient_accumulation_steps=3, per_device_train_batch_size=1,
    )  # fmt: skip
    trainer.train()
    rows = [row for row in trainer.state.log_history if keys.LOSS in row]
    assert [row[keys.LOSS] for row in rows] == [pytest.approx(3 * 2.140625, abs=1e-4)] * 2
    assert [row[keys.PPL] for row in rows] == [pytest.approx(math.exp(row[keys.LOSS])) for row in rows]


def test_counts_that_reach_back_over_a_row() -> None:
    """Another callback asked for a row at step 2 after the ranks had met, which has no counts: those of the next one,
    at step 3, are of all three steps and not of its loss alone, which is believed.
    """
    totals = TrainTotals()
    losses = [8.0, 8.0, 7.0]
    part = {"tokens": 30, "bad": [0, 0, 0], "seconds": 1.0, "targetless": 0, "loss_kind": "sum"}
    part["losses"] = [10 * sum(losses), 10 * sum(losses), *[sum(losses)] * 3]
    totals.miss_row()
    totals.add([part])
    assert totals.logs(7.0, 3)
    totals.close_row(3)
    totals.add([part])
    assert totals.logs(sum(losses) / 3, 6)
    assert not totals.logs(7.0, 6)
