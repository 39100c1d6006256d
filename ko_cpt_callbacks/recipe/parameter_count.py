"""How many numbers a model has, from its shape alone: exactly what transformers makes of the same configuration."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from ko_cpt_callbacks.recipe.model_schema import Shape
from ko_cpt_callbacks.recipe.schema import Page

_ATTENTION_BIAS: Final = frozenset({"qwen2"})
"""Families whose query, key and value have a bias and nothing else has (gpt_neox has one everywhere)."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer of a block.

    Attributes:
        name: What transformers calls it, as in LoRA's ``target_modules``.
        inputs: Numbers in.
        outputs: Numbers out.
        bias: Whether it adds one number to each output.
    """

    name: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def weights(self) -> int:
        """Numbers of its matrix: what bitsandbytes quantises."""
        return self.inputs * self.outputs

    def adapter(self, rank: int) -> int:
        """Numbers of a LoRA adapter on it."""
        return rank * (self.inputs + self.outputs)


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Numbers of a model, part by part.

    Attributes:
        rows: Of the embedding and of the head, those of new tokens too.
        width: ``hidden_size``.
        tied: Whether embedding and head are one matrix.
        blocks: How many transformer blocks there are.
        linears: Of one block.
        rest: Numbers of one block outside the matrices: norms and biases. They are never quantised.
        last_norm: Numbers after the last block.
    """

    rows: int
    width: int
    tied: bool
    blocks: int
    linears: tuple[Linear, ...]
    rest: int
    last_norm: int

    @property
    def matrix(self) -> int:
        """The embedding alone, or the head."""
        return self.rows * self.width

    @property
    def block(self) -> int:
        """One block."""
        return sum(linear.weights for linear in self.linears) + self.rest

    @property
    def total(self) -> int:
        """The model, without adapters."""
        return self.matrix * (1 if self.tied else 2) + self.blocks * self.block + self.last_norm

    def adapter(self, rank: int, modules: Collection[str], layers: int | None = None) -> int:
        """Numbers of LoRA adapters.

        Args:
            rank: Of the adapters.
            modules: Names of linear layers.
            layers: How many blocks have them; None: all.
        """
        of_one = sum(linear.adapter(rank) for linear in self.linears if linear.name in modules)
        return of_one * (self.blocks if layers is None else layers)


def count_parameters(
    shape: Shape, *, new_rows: int = 0, multiple: int | None = None, untie: bool = False
) -> ParameterCount:
    """The numbers of a model of that shape.

    Args:
        shape: As the recipe gives it.
        new_rows: Rows for new tokens.
        multiple: What the rows are filled up to a multiple of; None: to nothing.
        untie: Whether a matrix that is embedding and head becomes two.

    Source: the model classes of transformers 4.57 and 5.23; the tests build every family and count.
    """
    rows = shape.vocab_size + new_rows
    if multiple:
        rows += -rows % multiple
    width = shape.hidden_size
    linears = _linears(shape)
    biases = sum(linear.outputs for linear in linears if linear.bias)
    norms, last_norm = _norms(shape)
    return ParameterCount(
        rows,
        width,
        shape.tie_word_embeddings and not untie,
        shape.num_hidden_layers,
        linears,
        norms + biases,
        last_norm,
    )


def count_page(page: Page) -> ParameterCount:
    """The numbers of a recipe's model when its stages begin.

    Where the base has rows that no token uses, new tokens take those first: the count of rows is then too high by
    as many (63 of 282,784 for Gemma 3).
    """
    extend = None if page.tokenizer is None else page.tokenizer.extend
    return count_parameters(
        page.base.sizes,
        new_rows=0 if extend is None else extend.tokens,
        multiple=None if extend is None else extend.pad_to_multiple_of,
        untie=page.base.untie,
    )


def head_width(shape: Shape) -> int:
    """Numbers of one attention head."""
    return shape.head_dim or shape.hidden_size // shape.num_attention_heads


def linear_names(family: str) -> tuple[str, ...]:
    """What the linear layers of a family's blocks are called: what LoRA's ``target_modules`` can name."""
    if family == "gpt_neox":
        return "query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"
    return "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"


def _linears(shape: Shape) -> tuple[Linear, ...]:
    width, inner = shape.hidden_size, shape.intermediate_size
    if shape.family == "gpt_neox":
        return (
            Linear("query_key_value", width, 3 * width, bias=True),
            Linear("dense", width, width, bias=True),
            Linear("dense_h_to_4h", width, inner, bias=True),
            Linear("dense_4h_to_h", inner, width, bias=True),
        )
    query = shape.num_attention_heads * head_width(shape)
    key = (shape.num_key_value_heads or shape.num_attention_heads) * head_width(shape)
    bias = shape.family in _ATTENTION_BIAS
    return (
        Linear("q_proj", width, query, bias),
        Linear("k_proj", width, key, bias),
        Linear("v_proj", width, key, bias),
        Linear("o_proj", query, width),
        Linear("gate_proj", width, inner),
        Linear("up_proj", width, inner),
        Linear("down_proj", inner, width),
    )


def _norms(shape: Shape) -> tuple[int, int]:
    """Numbers of the norms of one block, and of the norm after the last."""
    width = shape.hidden_size
    if shape.family == "gpt_neox":  # two LayerNorms: weight and bias
        return 4 * width, 2 * width
    if shape.family == "gemma3":  # before and after both halves, and of each head's query and key
        return 4 * width + 2 * head_width(shape), width
    return 2 * width, width
