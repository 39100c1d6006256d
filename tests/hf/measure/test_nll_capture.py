"""The window onto the model's own loss computation, on a real model."""

from __future__ import annotations

import threading

import pytest
import tiny
import torch
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaForCausalLM

from ko_cpt_callbacks.hf.measure import nll_capture
from ko_cpt_callbacks.hf.measure.nll_capture import LossWindow

pytestmark = pytest.mark.both_versions

BATCH = {"input_ids": torch.tensor([[3, 4, 5, 6]]), "labels": torch.tensor([[3, 4, -100, 6]])}


def _never(error: Exception) -> None:
    raise error


@pytest.fixture
def model() -> LlamaForCausalLM:
    """In evaluation mode."""
    return tiny.llama(20, hidden=16, layers=1).eval()


def test_sees_every_target(model: LlamaForCausalLM) -> None:
    """Armed, it sees the targets and their losses, and the model's output is bit for bit the same."""
    window = LossWindow(model, _never)
    with torch.no_grad():
        plain = model(**BATCH)
        window.arm()
        watched = model(**BATCH)
        seen = window.close()
    assert torch.equal(plain.loss, watched.loss)
    assert torch.equal(plain.logits, watched.logits)
    assert len(seen) == 1
    scored = seen[0].targets != -100
    assert seen[0].targets[scored].tolist() == [4, 6]
    reference = -torch.log_softmax(plain.logits[0].double(), -1)[[0, 2], [4, 6]]
    assert torch.allclose(seen[0].nll[scored].double(), reference)


def test_closed_unless_armed(model: LlamaForCausalLM) -> None:
    """Not armed, nothing is watched; armed for one pass, the next is not watched."""
    window = LossWindow(model, _never)
    model(**BATCH)
    assert window.close() == []
    window.arm()
    model(**BATCH)
    assert len(window.close()) == 1
    model(**BATCH)
    assert window.close() == []


def test_close_after_an_error(model: LlamaForCausalLM) -> None:
    """A pass that breaks inside the window: closing it leaves no dispatch mode behind, twice is no harm."""
    window = LossWindow(model, _never)
    window.arm()
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        model(input_ids=BATCH["input_ids"], labels=torch.zeros(1, 9, dtype=torch.long))
    window.close()
    assert _get_current_dispatch_mode() is None
    assert window.close() == []


def test_arming_anew_closes_an_open_window(model: LlamaForCausalLM) -> None:
    """A window left open by a broken pass does not stay when the next pass begins."""
    window = LossWindow(model, _never)
    window.arm()
    model.lm_head(torch.zeros(1, 16))
    assert _get_current_dispatch_mode() is not None
    window.arm()
    assert _get_current_dispatch_mode() is None
    window.close()


def test_weighted_and_half_precision_losses_are_not_the_quantity(model: LlamaForCausalLM) -> None:
    """A weighted loss, or one from half-precision log-probabilities, is not recorded."""
    window, targets = LossWindow(model, _never), torch.tensor([1])
    scores = torch.zeros(1, 20)
    for arguments in ({"weight": torch.ones(20), "input": scores}, {"input": scores.to(torch.bfloat16)}):
        window.arm()
        model.lm_head(torch.zeros(1, 16))
        nn.functional.cross_entropy(target=targets, **arguments)
        assert window.close() == []


def test_no_output_embedding() -> None:
    """A module without one has no window, and arming it does nothing."""
    window = LossWindow(nn.Linear(2, 2), _never)
    window.arm()
    assert window.close() == []
    window.remove()


def test_remove(model: LlamaForCausalLM) -> None:
    """After removal no hook is left and arming does nothing."""
    window = LossWindow(model, _never)
    window.remove()
    assert not model.lm_head._forward_hooks
    window.arm()
    model(**BATCH)
    assert window.close() == []


@pytest.mark.parametrize("broken", ["end", "_hold"])
def test_a_fault_of_ours_is_named(broken: str, model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception where the window opens, or where its forward pass ends it, is told, and the pass goes on: Python
    itself lets one of an object that is going pass without a word to anybody."""

    def fails(*args: object) -> None:
        raise RuntimeError(broken)

    told: list[Exception] = []
    monkeypatch.setattr(nll_capture if broken == "_hold" else LossWindow, broken, fails)
    window = LossWindow(model, told.append)
    window.arm()
    assert model(**BATCH).loss is not None
    assert [str(error) for error in told] == [broken]
    window.close()
    assert _get_current_dispatch_mode() is None


def _interrupted(model: LlamaForCausalLM) -> None:
    """Ctrl-C between the logits and the loss: no hook of the model is called."""

    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    model.loss_function = interrupt
    try:
        model(**BATCH)
    except KeyboardInterrupt:
        pass
    finally:
        del model._loss_function


def test_interrupted(model: LlamaForCausalLM) -> None:
    """Ctrl-C in a forward pass leaves no dispatch mode on PyTorch's stack, and the next pass is seen as ever."""
    window = LossWindow(model, _never)
    window.arm()
    _interrupted(model)
    assert _get_current_dispatch_mode() is None
    assert window.close() == []
    window.arm()
    model(**BATCH)
    assert len(window.close()) == 1


def test_another_mode_lies_above(model: LlamaForCausalLM) -> None:
    """A mode that somebody opened in between stays, whoever ends first."""
    window, other = LossWindow(model, _never), FlopCounterMode(display=False)
    window.arm()
    model.lm_head(torch.zeros(1, 16))
    with other:
        window.close()
        assert _get_current_dispatch_mode() is other.mode
    assert _get_current_dispatch_mode() is None


def test_each_thread_has_its_own(model: LlamaForCausalLM) -> None:
    """A pass in another thread neither opens nor ends this thread's window."""
    window = LossWindow(model, _never)
    window.arm()
    model.lm_head(torch.zeros(1, 16))
    seen: list[object] = []

    def beside() -> None:
        model(**BATCH)
        seen.append(window.close())
        seen.append(_get_current_dispatch_mode())

    thread = threading.Thread(target=beside)
    thread.start()
    thread.join()
    assert seen == [[], None]
    assert _get_current_dispatch_mode() is not None
    nn.functional.cross_entropy(torch.zeros(1, 20), torch.tensor([1]))
    assert len(window.close()) == 1
    assert _get_current_dispatch_mode() is None


@pytest.mark.parametrize("ignored", [19, 20, 100_000])
def test_another_ignored_label(ignored: int, model: LlamaForCausalLM) -> None:
    """A loss that leaves another label out, also one beyond the vocabulary: read within bounds, its targets ignored."""
    window = LossWindow(model, _never)
    window.arm()
    model.lm_head(torch.zeros(1, 16))
    nn.functional.cross_entropy(torch.zeros(2, 20), torch.tensor([1, ignored]), ignore_index=ignored)
    (seen,) = window.close()
    assert seen.targets.tolist() == [1, -100]
