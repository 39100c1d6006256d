"""New rows begin as stated, and the old ones stay bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import byte_level_tokenizer, eight_bit, korean, llama, lora
from torch import nn

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.model_schema import NewRow
from ko_cpt_callbacks.training.model.vocabulary import add_rows, extend_tokenizer, old_pieces

pytestmark = pytest.mark.both_versions

OLD = 40
PIECES = {40: (3, 7), 41: (5,), 42: (9, 9, 2)}


def weights(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Copies of both matrices."""
    modules = model.get_input_embeddings(), model.get_output_embeddings()
    return modules[0].weight.detach().clone(), modules[1].weight.detach().clone()


def expected(old: torch.Tensor, method: NewRow) -> torch.Tensor:
    """The three new rows, by hand."""
    if method == "first":
        return torch.stack([old[3], old[5], old[9]])
    return torch.stack([(old[3] + old[7]) / 2, old[5], (2 * old[9] + old[2]) / 3])


@pytest.mark.parametrize("output", ["mean", "first", None])
@pytest.mark.parametrize("given", ["mean", "first"])
def test_rows_by_hand(given: NewRow, output: NewRow | None) -> None:
    """Mean and first sub-token, chosen apart for input and output; nothing said of the output means the same."""
    model = llama(OLD)
    before = weights(model)
    add_rows(model, PIECES, given, output)
    after = weights(model)
    assert [len(matrix) for matrix in after] == [43, 43]
    assert model.config.vocab_size == 43
    for old, new, method in zip(before, after, (given, output or given), strict=True):
        assert torch.equal(new[:OLD], old)
        torch.testing.assert_close(new[OLD:], expected(old, method), rtol=1e-6, atol=1e-8)
        if method == "first":
            assert torch.equal(new[OLD:], expected(old, method))


def test_mean_is_taken_in_float32() -> None:
    """In bfloat16 the mean of three is that of float32, rounded once."""
    model = llama(OLD).to(torch.bfloat16)
    old, _ = weights(model)
    add_rows(model, PIECES)
    new, _ = weights(model)
    assert new.dtype == torch.bfloat16
    assert torch.equal(new[42], old[[9, 9, 2]].float().mean(0).bfloat16())
    assert torch.equal(new[:OLD], old)


def test_random_rows_look_like_old_ones() -> None:
    """Each column has the mean and the spread of the old rows; a seed gives the same rows, input and output differ."""
    pieces = dict.fromkeys(range(40, 4040), (1,))
    found = []
    for seed in (0, 0, 1):
        model = llama(OLD)
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(3).add_(torch.arange(32.0))
        before = weights(model)
        add_rows(model, pieces, "random", seed=seed)
        after = weights(model)
        for old, new in zip(before, after, strict=True):
            assert torch.equal(new[:OLD], old)
            spread = old.std(0, correction=0)
            assert ((new[OLD:].mean(0) - old.mean(0)).abs() < 5 * spread / 4000**0.5).all()
            assert ((new[OLD:].std(0) / spread - 1).abs() < 0.1).all()
        found.append(after)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][0][OLD:], found[2][0][OLD:])
    scaled = [(rows[OLD:] - rows[OLD:].mean(0)) / rows[OLD:].std(0) for rows in found[0]]
    assert (scaled[0] - scaled[1]).abs().max() > 1


def test_one_matrix() -> None:
    """A tied model stays tied, and its one matrix has the rows; two methods for it are refused, unchanged."""
    model = llama(OLD, tie_word_embeddings=True)
    old, _ = weights(model)
    with pytest.raises(ConfigurationError, match="input 'mean' and output 'first' for a model whose input and output"):
        add_rows(model, PIECES, "mean", "first")
    assert torch.equal(weights(model)[0], old)
    add_rows(model, PIECES, "mean", "mean")
    new, head = weights(model)
    assert model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
    assert torch.equal(new, head)
    assert torch.equal(new[:OLD], old)
    torch.testing.assert_close(new[OLD:], expected(old, "mean"), rtol=1e-6, atol=1e-8)


def test_padding() -> None:
    """Rows without a token are the mean of the old rows, in both matrices."""
    model = llama(OLD)
    before = weights(model)
    add_rows(model, PIECES, multiple=32)
    for old, new in zip(before, weights(model), strict=True):
        assert len(new) == 64
        torch.testing.assert_close(new[40:43], expected(old, "mean"), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(new[43:], old.mean(0).expand(21, -1), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("multiple", "rows"), [(1, 50), (32, 64)])
def test_rows_that_were_there_already(multiple: int, rows: int) -> None:
    """A matrix with spare rows (Qwen's) is not made smaller; those beyond the new tokens stay as they are."""
    model = llama(50)
    before = weights(model)
    add_rows(model, PIECES, multiple=multiple)
    assert [len(matrix) for matrix in weights(model)] == [rows, rows]
    for old, new in zip(before, weights(model), strict=True):
        assert torch.equal(new[:OLD], old[:OLD])
        assert torch.equal(new[43:50], old[43:50])
        torch.testing.assert_close(new[40:43], expected(old, "mean"), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(new[50:], old[:OLD].mean(0).expand(rows - 50, -1), rtol=1e-6, atol=1e-8)


def test_a_bias_of_the_head() -> None:
    """It has a number for every token, made in the same way."""
    model = llama(OLD)
    head = nn.Linear(32, OLD, bias=True)
    model.set_output_embeddings(head)
    bias = head.bias.detach().clone()
    add_rows(model, PIECES, output_row="first")
    found = model.get_output_embeddings().bias.detach()
    assert torch.equal(found, torch.cat([bias, bias[[3, 5, 9]]]))


def test_a_model_in_eight_bits(tmp_path: Path) -> None:
    """Its embedding and head are not quantised and get their rows; the body is left alone."""
    model = eight_bit(llama(OLD), tmp_path)
    before = weights(model)
    body = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    add_rows(model, PIECES, output_row="first")
    after = weights(model)
    assert torch.equal(after[0][:OLD], before[0])
    assert torch.equal(after[1][:OLD], before[1])
    assert torch.equal(after[1][OLD:], expected(before[1], "first"))
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, body)
    assert model(input_ids=torch.tensor([[3, 41, 42]])).logits.shape == (1, 3, 43)


def test_what_cannot_get_rows() -> None:
    """A quantised matrix, adapters around it, a model that has no rows for old tokens: refused, and unchanged."""
    quantised = llama(OLD)
    quantised.get_output_embeddings().weight = nn.Parameter(torch.zeros(OLD, 32, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ConfigurationError, match=r"found a Parameter of torch\.int8 on cpu as the output embedding"):
        add_rows(quantised, PIECES)
    assert len(quantised.get_input_embeddings().weight) == OLD
    with pytest.raises(ConfigurationError, match="found a ModulesToSaveWrapper as the input embedding"):
        add_rows(lora(llama(OLD)), PIECES)
    with pytest.raises(ConfigurationError, match="found nothing as the output embedding"):
        add_rows(llama(OLD).model, PIECES)
    with pytest.raises(ConfigurationError, match="found 39 rows and 40 as the first new id"):
        add_rows(llama(39), PIECES)


def test_from_the_tokenizer_to_the_model() -> None:
    """An extended tokenizer's pieces fit the model: a new token's row is the mean of what it was."""
    base = byte_level_tokenizer()
    made = extend_tokenizer(base, korean(), 50, 3)
    pieces = old_pieces(base, made)
    model = llama(len(base))
    old, _ = weights(model)
    add_rows(model, pieces, output_row="first", multiple=8)
    new, head = weights(model)
    assert len(new) == len(head) == -(-(len(base) + 50) // 8) * 8
    assert len(pieces) == 50
    for index, parts in pieces.items():
        torch.testing.assert_close(new[index], old[list(parts)].mean(0), rtol=1e-6, atol=1e-8)
        assert torch.equal(head[index], head[parts[0]])
