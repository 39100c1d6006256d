"""Rows held back by a gradient hook: no optimizer moves them, and the model's reader knows which they are."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from torch import nn

from ko_cpt_callbacks.hf.model.trained_parts import held_rows, hold_rows, moving_numbers, read_stage, release_rows

pytestmark = pytest.mark.both_versions


def _stepped(make: Any, first_row: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    layer = nn.Embedding(10, 4)
    before = layer.weight.detach().clone()
    if first_row is not None:
        hold_rows(layer.weight, first_row)
    optimizer = make(layer.parameters())
    for _ in range(3):
        for _ in range(2):  # gradients of two micro-batches are added up
            layer(torch.arange(10)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return before, layer.weight.detach()


@pytest.mark.parametrize(
    "make",
    [
        lambda parts: torch.optim.AdamW(parts, lr=0.1, weight_decay=0),
        lambda parts: torch.optim.SGD(parts, lr=0.1, momentum=0.9),
        lambda parts: torch.optim.RMSprop(parts, lr=0.1),
    ],
    ids=["AdamW", "SGD", "RMSprop"],
)
def test_held_rows_do_not_move(make: Any) -> None:
    """Rows before the first new one stay bit by bit; the others move exactly as they would alone."""
    before, after = _stepped(make, 7)
    _, free = _stepped(make, None)
    assert torch.equal(after[:7], before[:7])
    assert torch.equal(after[7:], free[7:])
    assert not torch.equal(free[:7], before[:7])


def test_held_anew_and_released() -> None:
    """The last hold counts alone; released, there is none, and hooks of others stay."""
    weight = nn.Parameter(torch.zeros(10, 2))
    seen = []
    weight.register_post_accumulate_grad_hook(lambda parameter: seen.append(parameter))
    assert held_rows(weight) is None
    hold_rows(weight, 3)
    hold_rows(weight, 6)
    assert held_rows(weight) == 6
    weight.sum().backward()
    assert weight.grad is not None
    assert weight.grad[:, 0].tolist() == [0.0] * 6 + [1.0] * 4
    release_rows(weight)
    assert held_rows(weight) is None
    weight.sum().backward()
    assert weight.grad[:, 0].tolist() == [1.0] * 6 + [2.0] * 4
    assert len(seen) == 2


@pytest.mark.parametrize(("sides", "words"), [("i", ("new", "all")), ("io", ("new", "new")), ("o", ("all", "new"))])
def test_the_reader_knows_them(sides: str, words: tuple[str, str]) -> None:
    """A hold says which rows it lets move: the stage is no longer unknown, and nobody has to tell."""
    model = tiny.llama(100)
    model.requires_grad_(False)
    for side, module in (("i", model.get_input_embeddings()), ("o", model.get_output_embeddings())):
        module.weight.requires_grad_(True)
        if side in sides:
            hold_rows(module.weight, 90)
    facts = read_stage(model)
    assert (facts.trains.input, facts.trains.output) == words
    assert facts.new_rows == 10
    assert facts.notes == ()


def test_a_hook_on_every_parameter_hides_no_hold() -> None:
    """Where every trainable parameter has a hook (an optimizer in the backward pass), a hold is still read."""
    model = tiny.llama(100)
    hold_rows(model.get_input_embeddings().weight, 90)
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda part: None)
    assert read_stage(model).trains.input == "new"
    assert read_stage(model).trains.output == "all"


def test_numbers_that_can_move() -> None:
    """Of a matrix with held rows those after them; of any other all."""
    matrix = nn.Parameter(torch.zeros(10, 4))
    assert moving_numbers(matrix) == 40
    hold_rows(matrix, 7)
    assert moving_numbers(matrix) == 12
    release_rows(matrix)
    assert moving_numbers(matrix) == 40
