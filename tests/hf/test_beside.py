"""Beside the callback: an evaluation in a thread, Ctrl-C, labels beyond the vocabulary; nothing of ours ends a run."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from transformers import LlamaForCausalLM, TrainerCallback

from ko_cpt_callbacks import KoCPTCallback
from ko_cpt_callbacks.hf.measure.evidence import Absent, read_evidence
from ko_cpt_callbacks.hf.measure.model_output import ForwardOutput

pytestmark = pytest.mark.both_versions

ROWS = tiny.uneven_rows(12)
VOCABULARY = len(tiny.byte_level_tokenizer())


class EvaluatesBeside(TrainerCallback):
    """Evaluates in a thread while the training goes on."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.errors: list[BaseException] = []

    def _evaluate(self) -> None:
        try:
            self.trainer.evaluate()
        except Exception as error:
            self.errors.append(error)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start."""
        if state.global_step == 1:
            self.thread = threading.Thread(target=self._evaluate)
            self.thread.start()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Wait for it."""
        assert self.thread is not None
        self.thread.join()


@pytest.mark.parametrize("number", range(8))
def test_an_evaluation_in_a_thread(number: int, tmp_path: Path) -> None:
    """Training and evaluation both end, nothing stays on PyTorch's stack of modes, and a loss that is called exact is
    that of all its batches; afterwards everything is measured as ever."""
    callback, beside = KoCPTCallback(outputs=["files"]), EvaluatesBeside()
    model = tiny.llama(VOCABULARY, layers=1)
    trainer = tiny.trainer(model, tmp_path, ROWS, ROWS, callbacks=[callback, beside], max_steps=10 + number)
    beside.trainer = trainer
    trainer.train()
    assert (trainer.state.global_step, beside.errors) == (10 + number, [])
    assert _get_current_dispatch_mode_stack() == []
    targets = sum(len(row["input_ids"]) - 1 for row in ROWS)
    for row in trainer.state.log_history:
        if "eval_exact_loss" in row:
            assert row["eval_tokens"] == targets
    assert trainer.evaluate()["eval_tokens"] == targets


def test_interrupted_in_an_evaluation(tmp_path: Path) -> None:
    """Ctrl-C within the model's loss: it reaches the user, no mode stays, and the next evaluation is exact."""
    callback = KoCPTCallback(outputs=["files"])
    model = tiny.llama(VOCABULARY, layers=1)
    trainer = tiny.trainer(model, tmp_path, ROWS, ROWS, callbacks=[callback], max_steps=1)
    trainer.train()
    expected = trainer.evaluate()["eval_exact_loss"]

    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    model.loss_function = interrupt
    interrupted = False
    try:
        trainer.evaluate()
    except KeyboardInterrupt:
        interrupted = True
    assert interrupted
    assert _get_current_dispatch_mode_stack() == []
    del model._loss_function
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(expected)


class IgnoresBeyond(LlamaForCausalLM):
    """Leaves labels beyond the vocabulary out of its loss."""

    def forward(self, *args: Any, labels: Any = None, **kwargs: Any) -> Any:
        """A loss of its own."""
        output = super().forward(*args, **kwargs)
        scores, targets = output.logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()
        targets = torch.where(targets == -100, VOCABULARY + 7, targets)
        output["loss"] = torch.nn.functional.cross_entropy(scores, targets, ignore_index=VOCABULARY + 7)
        return output


def test_a_label_beyond_the_vocabulary(tmp_path: Path) -> None:
    """A model that ignores such a label is read within bounds; what it ignores is no target, and the loss is exact."""
    torch.manual_seed(0)
    model = IgnoresBeyond(tiny.llama(VOCABULARY, layers=1).config)
    callback = KoCPTCallback(outputs=["files"])
    trainer = tiny.trainer(model, tmp_path, ROWS, ROWS, callbacks=[callback], max_steps=1)
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics["eval_tokens"] == sum(len(row["input_ids"]) - 1 for row in ROWS)


def test_labels_beyond_the_logits_are_no_evidence() -> None:
    """Labels that the logits have no entry for are never looked up; the batch has no exact loss."""
    labels = torch.tensor([[1, 2, 50, 3]])
    output = ForwardOutput.of({"loss": torch.tensor(1.0), "logits": torch.zeros(1, 4, 10)})
    found = read_evidence({"labels": labels}, output, [], "causal")
    assert isinstance(found, Absent) or (found.mismatch is not None and bool(found.mismatch))
