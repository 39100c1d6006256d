"""M: what the Trainer's losses are. A failure here names the fact that a new transformers release changed."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, Trainer

pytestmark = pytest.mark.both_versions

# Facts that changed inside 5.x, asked of the Trainer itself.
SHIFTS = "[..., 1:]" in inspect.getsource(Trainer._get_num_items_in_batch)
FILTERS = "logging_nan_inf_filter" in inspect.getsource(Trainer.evaluation_loop)
VOCABULARY = len(tiny.byte_level_tokenizer())
ROWS = tiny.uneven_rows(8)
SPREAD = {"initializer_range": 0.4}  # rows whose losses differ by nats


def _model(**settings: Any) -> LlamaForCausalLM:
    return tiny.llama(VOCABULARY, layers=1, **SPREAD, **settings)


class Breaks(LlamaForCausalLM):
    """NaN in training from pass ``at`` on, and in evaluation batches of fewer than 3 rows."""

    at = 10**9

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Count and break."""
        output = super().forward(*args, **kwargs)
        if self.training:
            self.passes = getattr(self, "passes", 0) + 1
        if self.passes >= self.at if self.training else kwargs["input_ids"].shape[0] < 3:
            output.loss = output.loss * float("nan")
        return output


def _breaks(at: int = 10**9) -> Breaks:
    torch.manual_seed(0)
    model = Breaks(_model().config)
    model.at = at
    return model


def test_m1_eval_loss_depends_on_the_batch_size(tmp_path: Path) -> None:
    """The same weights and rows at two batch sizes give two values of eval_loss, and neither is the exact loss."""
    model = _model()
    found = {
        size: tiny.trainer(model, tmp_path, None, ROWS, per_device_eval_batch_size=size).evaluate()["eval_loss"]
        for size in (1, 3)
    }
    exact = tiny.exact_loss(model, ROWS)
    assert abs(found[1] - found[3]) > 0.01
    assert all(abs(loss - exact) > 0.001 for loss in found.values())


def test_m1_eval_loss_is_the_row_weighted_mean_of_batch_means(tmp_path: Path) -> None:
    """eval_loss = mean over rows of (mean over the row's batch); older ones divide by un-shifted labels."""
    model = _model()
    sums, counts = tiny.row_losses(model, ROWS)
    if not SHIFTS:
        counts = counts + 1
    batches = [(sums[at : at + 3], counts[at : at + 3]) for at in range(0, len(ROWS), 3)]
    expected = sum(len(nll) * float(nll.sum() / tokens.sum()) for nll, tokens in batches) / len(ROWS)
    assert tiny.trainer(model, tmp_path, None, ROWS).evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_m3_packed_rows(tmp_path: Path) -> None:
    """On packed rows of length L the loss is low by (L - 1) / L where labels are counted un-shifted; else right."""
    rows = tiny.packed(tiny.korean()[:3], tiny.byte_level_tokenizer(), length=16)[:6]
    model = _model()
    share = 1.0 if SHIFTS else 15 / 16
    found = tiny.trainer(model, tmp_path, None, rows).evaluate()["eval_loss"]
    assert found == pytest.approx(tiny.exact_loss(model, rows) * share, rel=1e-5)


def test_m3_a_class_without_a_loss_type_divides_by_unshifted_labels(tmp_path: Path) -> None:
    """GPT-2's loss is low by (L - 1) / L on both versions."""
    rows = tiny.packed(tiny.korean()[:3], tiny.byte_level_tokenizer(), length=16)[:6]
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=2, n_positions=64))
    found = tiny.trainer(model, tmp_path, None, rows).evaluate()["eval_loss"]
    assert found == pytest.approx(tiny.exact_loss(model, rows) * 15 / 16, rel=1e-5)


def test_m4_a_nan_training_loss_is_logged_as_zero(tmp_path: Path) -> None:
    """logging_nan_inf_filter (on by default): loss 0.0, grad_norm NaN, and the weights are NaN already."""
    model = _breaks(at=1)
    trainer = tiny.trainer(model, tmp_path, ROWS, max_steps=1)
    assert trainer.args.logging_nan_inf_filter is True
    trainer.train()
    row = trainer.state.log_history[0]
    assert row["loss"] == 0.0 and math.isnan(row["grad_norm"])
    assert any(bool(weight.isnan().any()) for weight in model.parameters())


def test_m4_a_nan_inside_a_logging_window_looks_like_an_improvement(tmp_path: Path) -> None:
    """Of four steps the last two are NaN: the row shows a loss well below the finite steps' own."""
    healthy = tiny.trainer(_breaks(), tmp_path, ROWS, max_steps=2, learning_rate=0.0)
    healthy.train()
    trainer = tiny.trainer(_breaks(at=3), tmp_path, ROWS, max_steps=4, logging_steps=4, learning_rate=0.0)
    trainer.train()
    finite = [row["loss"] for row in healthy.state.log_history if "loss" in row]
    assert 0.0 < trainer.state.log_history[0]["loss"] < 0.9 * min(finite)


def test_m5_nan_batches_and_eval_loss(tmp_path: Path) -> None:
    """A Trainer that filters evaluations too leaves a NaN batch out of eval_loss; others show NaN."""
    found = tiny.trainer(_breaks(), tmp_path, None, ROWS, label_names=["labels"]).evaluate()["eval_loss"]
    assert math.isnan(found) is not FILTERS


def test_m6_a_rows_loss_is_the_mean_since_the_row_before(tmp_path: Path) -> None:
    """``loss`` of a row covers the steps since the row before; ``train_loss`` of the last row the whole run."""
    rows = {}
    for every in (1, 2):
        trainer = tiny.trainer(_model(), tmp_path, ROWS, max_steps=4, logging_steps=every)
        trainer.train()
        rows[every] = trainer.state.log_history
    single = [row["loss"] for row in rows[1] if "loss" in row]
    double = [row["loss"] for row in rows[2] if "loss" in row]
    assert double == pytest.approx([sum(single[:2]) / 2, sum(single[2:]) / 2], abs=2e-4)
    assert rows[1][-1]["train_loss"] == pytest.approx(sum(single) / 4, abs=2e-4)
    assert abs(rows[1][-1]["train_loss"] - single[-1]) > 0.01 and rows[1][-1]["step"] == 4
