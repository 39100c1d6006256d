"""What must move moved, what must not did not, and a difference of one bit is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import llama

from ko_cpt_callbacks.hf.model.trained_parts import hold_rows
from ko_cpt_callbacks.training.smoke import WeightChange, WrongChangeError


def model() -> Any:
    """A Llama of which the embedding alone is trained."""
    found = llama(32)
    for parameter in found.parameters():
        parameter.requires_grad_(False)
    found.get_input_embeddings().weight.requires_grad_(True)
    return found


def test_one_that_moved_as_it_should() -> None:
    """It is said how many moved and how many did not."""
    found = model()
    movement = WeightChange(found)
    with torch.no_grad():
        found.get_input_embeddings().weight[5] += 1
    count = len(list(found.parameters())) + len(list(found.buffers())) - 1
    assert movement.check("embedding") == (
        f"  embedding: 1 trained tensors moved, {count} others are bit for bit as before"
    )


def test_one_that_stood_still() -> None:
    """A trained tensor without a change is named."""
    movement = WeightChange(model())
    with pytest.raises(WrongChangeError, match=r"stage x: model\.embed_tokens\.weight did not move$"):
        movement.check("x")


@pytest.mark.parametrize("by", ["a bit", "a nan"])
def test_one_that_moved_in_secret(by: str) -> None:
    """The smallest change of a frozen tensor is told; the same NaN is no change."""
    found = model()
    frozen = found.model.layers[0].self_attn.q_proj.weight
    with torch.no_grad():
        if by == "a nan":
            frozen[0, 0] = torch.nan
    movement = WeightChange(found)
    with torch.no_grad():
        found.get_input_embeddings().weight[5] += 1
        if by == "a nan":
            movement.check("x")
        frozen[1, 1] = torch.nextafter(frozen[1, 1], torch.tensor(9.0))
    with pytest.raises(WrongChangeError, match=r"q_proj\.weight moved"):
        movement.check("x")


def test_rows_that_are_held() -> None:
    """Of a matrix whose new rows train, an old row that moved is told, and new rows that did not."""
    found = model()
    weight = found.get_input_embeddings().weight
    hold_rows(weight, 10)
    movement = WeightChange(found)
    with torch.no_grad():
        weight[10] += 1
    movement.check("x")
    with torch.no_grad():
        weight[9] += 1
    with pytest.raises(WrongChangeError, match="rows before 10 moved"):
        movement.check("x")
    movement = WeightChange(found)
    with torch.no_grad():
        weight[9] += 1
    with pytest.raises(WrongChangeError, match=r"rows before 10 moved; .* did not move"):
        movement.check("x")


def test_one_that_is_no_number_any_more() -> None:
    """A trained tensor that moved to a NaN or an infinity did not move as it should."""
    found = model()
    movement = WeightChange(found)
    with torch.no_grad():
        found.get_input_embeddings().weight[5, 0] = torch.inf
    with pytest.raises(WrongChangeError, match=r"model\.embed_tokens\.weight is not finite any more$"):
        movement.check("x")
