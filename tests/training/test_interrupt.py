"""Ctrl-C is a request, twice it is an order."""

from __future__ import annotations

import os
import signal

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from ko_cpt_callbacks.training.trainer import InterruptedTrainingError, InterruptSave

ARGS = TrainingArguments(output_dir="unused", report_to="none")


def _press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_once_saves_and_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing happens in the middle of a step; at its end a checkpoint is asked for, and training is left when it is
    saved. The Trainer is never asked to stop, which would look like a complete run."""
    state, control = TrainerState(global_step=3, max_steps=10), TrainerControl()
    with InterruptSave() as interrupt:
        interrupt.on_step_end(ARGS, state, control)
        assert not control.should_save
        _press()
        assert "saving a checkpoint after this step" in capsys.readouterr().out
        interrupt.on_step_end(ARGS, state, control)
        assert control.should_save and not control.should_training_stop
        with pytest.raises(InterruptedTrainingError) as caught:
            interrupt.on_save(ARGS, state, control)
    assert caught.value.step == 3


def test_twice_stops_at_once() -> None:
    """The second Ctrl-C is an ordinary one."""
    with InterruptSave():
        _press()
        with pytest.raises(KeyboardInterrupt):
            _press()


def test_after_the_last_step_nothing_is_left_to_stop() -> None:
    """A Ctrl-C during the last evaluation lets the run come to its end."""
    state, control = TrainerState(global_step=10, max_steps=10), TrainerControl()
    with InterruptSave() as interrupt:
        _press()
        interrupt.on_step_end(ARGS, state, control)
        interrupt.on_save(ARGS, state, control)
    assert not control.should_save


def test_afterwards_all_is_as_before() -> None:
    """Outside training Ctrl-C does what it did."""
    before = signal.getsignal(signal.SIGINT)
    with InterruptSave():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
