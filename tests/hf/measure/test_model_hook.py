"""Models, callbacks and Trainers are saved, pickled and copied while the callback is at work, and after."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from accelerate.state import GradientState

from ko_cpt_callbacks import KoCPTCallback

pytestmark = pytest.mark.both_versions

ROWS = tiny.uneven_rows(6)
VOCABULARY = len(tiny.byte_level_tokenizer())
BATCH = {"input_ids": torch.tensor([[3, 4, 5]]), "labels": torch.tensor([[3, 4, 5]])}


def _saved(value: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


WAYS: dict[str, Callable[[Any], Any]] = {
    "torch.save": _saved,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "deepcopy": copy.deepcopy,
}


def _trainer(folder: Path, callback: KoCPTCallback) -> Any:
    model = tiny.llama(VOCABULARY, layers=1)
    counts = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1}
    return tiny.trainer(model, folder, ROWS, ROWS, callbacks=[callback], **counts)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("trained", [False, True], ids=["before", "after"])
def test_a_copied_model_is_watched_by_nobody(way: str, trained: bool, tmp_path: Path) -> None:
    """A copy of the model gives the same loss and tells the callback nothing; the original is measured as before."""
    callback = KoCPTCallback(outputs=["files"])
    trainer = _trainer(tmp_path, callback)
    if trained:
        trainer.train()
    copied = WAYS[way](trainer.model)
    expected = trainer.evaluate()["eval_exact_loss"]
    hooks = [hook for part in copied.modules() for hook in [*part._forward_hooks.values()]]
    assert not any(type(hook).__module__.startswith("ko_cpt_callbacks") for hook in hooks)
    with torch.no_grad():
        trainer.model.eval(), copied.eval()
        assert torch.equal(copied(**BATCH).loss, trainer.model(**BATCH).loss)
    assert trainer.evaluate()["eval_exact_loss"] == expected


def test_a_saved_model_loads_without_the_package(tmp_path: Path) -> None:
    """What is written of the hooks names nothing of this package."""
    trainer = _trainer(tmp_path, KoCPTCallback(outputs=[]))
    torch.save(trainer.model, tmp_path / "model.pt")
    code = (
        "import sys, torch\n"
        "sys.modules['ko_cpt_callbacks'] = None\n"
        f"model = torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False).eval()\n"
        "batch = torch.tensor([[3, 4, 5]])\n"
        "print(float(model(input_ids=batch, labels=batch).loss))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with torch.no_grad():
        assert float(done.stdout) == pytest.approx(float(trainer.model.eval()(**BATCH).loss))


@pytest.mark.parametrize("way", WAYS)
def test_a_copied_callback_is_fresh(way: str, tmp_path: Path) -> None:
    """It has the settings and nothing else, and works in another Trainer; the original keeps what it found."""
    callback = KoCPTCallback(outputs=["files"], patience=3)
    _trainer(tmp_path / "one", callback).train()
    copied = WAYS[way](callback)
    assert (copied.findings, copied.summary()) == ((), {})
    other = _trainer(tmp_path / "two", copied)
    other.train()
    assert "eval_exact_loss" in other.evaluate()
    assert copied.best is not None and callback.best is not None


@pytest.mark.parametrize("way", WAYS)
def test_a_copied_trainer_works(way: str, tmp_path: Path) -> None:
    """A Trainer is copied with the callback in its list; the copy trains under its own copy of it."""
    # What earlier Trainers of this process left in accelerate's shared state cannot be pickled, with or without us.
    GradientState._reset_state()
    callback = KoCPTCallback(outputs=["files"])
    trainer = _trainer(tmp_path, callback)
    copied = WAYS[way](trainer)
    (own,) = [item for item in copied.callback_handler.callbacks if isinstance(item, KoCPTCallback)]
    assert own is not callback
    copied.train()
    assert [row["step"] for row in copied.state.log_history if "eval_exact_loss" in row] == [1, 2]
    assert own.best is not None and callback.best is None
    copied.remove_callback(KoCPTCallback)
    assert not any(isinstance(item, KoCPTCallback) for item in copied.callback_handler.callbacks)


def test_evaluated_after_training(tmp_path: Path) -> None:
    """``trainer.evaluate()`` after ``train()`` sees its first batch too: the exact loss is there."""
    trainer = _trainer(tmp_path, KoCPTCallback(outputs=["files"]))
    trainer.train()
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(
        [row["eval_exact_loss"] for row in trainer.state.log_history if "eval_exact_loss" in row][-1]
    )
