"""A training batch without a target: a loss of 0/0 that changes nothing is no error of the run."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch.utils.data import SequentialSampler
from transformers import Trainer

from ko_cpt_callbacks import KoCPTCallback
from ko_cpt_callbacks.rules.curve.non_finite import NonFinite
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.reading import read_run

pytestmark = pytest.mark.both_versions

ROWS = tiny.rows(tiny.korean()[:18], tiny.byte_level_tokenizer(), 40)


class InOrder(Trainer):
    """Trains on its rows in the order in which they stand."""

    def _get_train_sampler(self, *args: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def _without_targets(*batches: int) -> list[dict[str, Any]]:
    """Rows of six batches of three, of which some have no label."""
    return [
        {**row, "labels": [-100] * len(row["input_ids"])} if place // 3 in batches else row
        for place, row in enumerate(ROWS)
    ]


def _run(folder: Path, *batches: int, **settings: Any) -> tuple[Any, KoCPTCallback]:
    callback = KoCPTCallback(outputs=["files"], stop_on=["non-finite"])
    model = tiny.llama(len(tiny.byte_level_tokenizer()), layers=1)
    trainer = tiny.trainer(
        model, folder, _without_targets(*batches), None, callbacks=[callback], trainer_class=InOrder,
        **{"max_steps": 4, **settings},
    )  # fmt: skip
    trainer.train()
    trainer.save_state()
    return trainer, callback


@pytest.mark.parametrize("filtered", [True, False], ids=["filter", "no filter"])
def test_one_batch_of_four(filtered: bool, tmp_path: Path) -> None:
    """An info that names the row, no stop, the same from the folder and from the bare state; perplexities of the other
    rows stand."""
    trainer, callback = _run(tmp_path, 2, logging_nan_inf_filter=filtered)
    assert trainer.state.global_step == 4 and callback.stop_reason is None
    rows = [row for row in trainer.state.log_history if "loss" in row]
    # Without its filter the Trainer's sum stays NaN from there on.
    assert [math.isnan(row["loss"]) for row in rows] == ([False] * 4 if filtered else [False, False, True, True])
    assert rows[2]["grad_norm"] == 0.0 and rows[3]["grad_norm"] > 0.0
    assert [row.get("targetless_micro_batches") for row in rows] == [None, None, 1, None]
    assert [row["nonfinite_steps"] for row in rows] == [0, 0, 0, 0]
    assert ["ppl" in row for row in rows] == [True, True, False, filtered]
    found = [item for item in callback.findings if item.code == "non-finite"]
    assert [(item.severity, item.variant, item.step) for item in found] == [("info", "no-target", 3)]
    for place in (tmp_path / "ko_cpt", tmp_path / "trainer_state.json"):
        assert list(Monitor([NonFinite()]).judge(read_run(place).observations())[1]) == found


def test_it_changes_no_weight(tmp_path: Path) -> None:
    """The fact behind the rule: a first step without a target leaves every weight as it was."""
    before = copy.deepcopy(tiny.llama(len(tiny.byte_level_tokenizer()), layers=1).state_dict())
    trainer, _ = _run(tmp_path, 0, max_steps=1)
    assert all(torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())


def test_one_micro_batch_of_an_accumulated_step(tmp_path: Path) -> None:
    """One micro-batch without a target beside one with: the step is as healthy, and the count says one."""
    trainer, callback = _run(tmp_path, 1, gradient_accumulation_steps=2, max_steps=2)
    row = trainer.state.log_history[0]
    assert row["targetless_micro_batches"] == 1 and row["nonfinite_steps"] == 0
    assert {item.severity.value for item in callback.findings if item.code == "non-finite"} == {"info"}


def test_a_resumed_run_keeps_the_count(tmp_path: Path) -> None:
    """A batch before a checkpoint inside a logging window counts in the row after the resume."""
    settings = {"logging_steps": 4, "save_strategy": "steps", "save_steps": 2}
    _run(tmp_path, 1, **settings, max_steps=2)
    callback = KoCPTCallback(outputs=["files"])
    trainer = tiny.trainer(
        tiny.llama(len(tiny.byte_level_tokenizer()), layers=1), tmp_path, _without_targets(1), None,
        callbacks=[callback], trainer_class=InOrder, max_steps=4, **settings,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=True)
    (row,) = [row for row in trainer.state.log_history if "loss" in row]
    assert (row["step"], row["targetless_micro_batches"]) == (4, 1)


def test_a_real_nan_beside_it_is_an_error(tmp_path: Path) -> None:
    """Where the weights are NaN, batches with targets say so whatever else is in the window."""
    callback = KoCPTCallback(outputs=["files"])
    model = tiny.llama(len(tiny.byte_level_tokenizer()), layers=1)
    with torch.no_grad():
        model.lm_head.weight.fill_(math.nan)
    trainer = tiny.trainer(
        model, tmp_path, _without_targets(0), None, callbacks=[callback], trainer_class=InOrder, logging_steps=2,
        max_steps=2,
    )  # fmt: skip
    trainer.train()
    (row,) = [row for row in trainer.state.log_history if "loss" in row]
    assert (row["targetless_micro_batches"], row["nonfinite_steps"], row["nonfinite_first_step"]) == (1, 1, 2)
    assert [item.severity.value for item in callback.findings if item.code == "non-finite"] == ["error"]


def test_an_evaluation_without_any_target(tmp_path: Path) -> None:
    """Every label is -100: no exact loss, and the row, `run.json` and a finding say why."""
    rows = [{**row, "labels": [-100] * len(row["input_ids"])} for row in tiny.uneven_rows(4)]
    callback = KoCPTCallback(outputs=["files"])
    model = tiny.llama(len(tiny.byte_level_tokenizer()), layers=1)
    trainer = tiny.trainer(model, tmp_path, tiny.uneven_rows(3), rows, callbacks=[callback], max_steps=1)
    trainer.train()
    metrics = trainer.evaluate()
    row = trainer.state.log_history[-1]
    said = "no target was scored: the evaluation has no row, or every label in it is -100"
    assert row["eval_exact_loss_absent"] == said
    assert "eval_exact_loss" not in metrics and "eval_exact_loss" not in row and row["eval_tokens"] == 0
    assert row["eval_targetless_batches"] > 0
    (found,) = (item for item in callback.findings if item.topic == "exact-loss-absent")
    assert found.values["reason"] == said
