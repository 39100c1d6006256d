"""The families of models whose numbers follow from their shape alone, and how: exactly what transformers makes of it.

Source: the model classes of transformers 4.57 and 5.23; the tests build every family on the meta device and count. Of a
family that is not here nothing is guessed: its numbers are counted in the model itself, where it can be made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.model_schema import Shape
from ko_cpt_callbacks.recipe.parameter_count import Linear, ParameterCount, PartCount, when_stages_begin
from ko_cpt_callbacks.recipe.schema import Page


class NotCountedError(ConfigurationError):
    """The numbers of a model do not follow from its shape; the text begins with ``not estimated:``."""


@dataclass(frozen=True, slots=True)
class _Widths:
    """Widths of a block: of the model, of one head, of all queries, of all keys, of the inner layer."""

    model: int
    head: int
    query: int
    key: int
    inner: int

    @classmethod
    def of(cls, shape: Shape) -> _Widths:
        head = head_width(shape)
        keys = shape.num_key_value_heads or shape.num_attention_heads
        return cls(shape.hidden_size, head, shape.num_attention_heads * head, keys * head, shape.intermediate_size)


def _gated(of: _Widths) -> tuple[Linear, ...]:
    return (*_attention(of), *_gated_inner(of))


def _attention(of: _Widths, *, bias: bool = False) -> tuple[Linear, ...]:
    return (
        Linear("self_attn.q_proj", of.model, of.query, bias),
        Linear("self_attn.k_proj", of.model, of.key, bias),
        Linear("self_attn.v_proj", of.model, of.key, bias),
        Linear("self_attn.o_proj", of.query, of.model),
    )


def _gated_inner(of: _Widths) -> tuple[Linear, ...]:
    return (
        Linear("mlp.gate_proj", of.model, of.inner),
        Linear("mlp.up_proj", of.model, of.inner),
        Linear("mlp.down_proj", of.inner, of.model),
    )


def _gated_with_bias(of: _Widths) -> tuple[Linear, ...]:
    return (*_attention(of, bias=True), *_gated_inner(of))


def _fused(of: _Widths) -> tuple[Linear, ...]:
    return (
        Linear("self_attn.o_proj", of.query, of.model),
        Linear("self_attn.qkv_proj", of.model, of.query + 2 * of.key),
        Linear("mlp.gate_up_proj", of.model, 2 * of.inner),
        Linear("mlp.down_proj", of.inner, of.model),
    )


def _neox(of: _Widths) -> tuple[Linear, ...]:
    return (
        Linear("attention.query_key_value", of.model, 3 * of.model, bias=True),
        Linear("attention.dense", of.model, of.model, bias=True),
        Linear("mlp.dense_h_to_4h", of.model, of.inner, bias=True),
        Linear("mlp.dense_4h_to_h", of.inner, of.model, bias=True),
    )


def _gpt2(of: _Widths) -> tuple[Linear, ...]:
    return (
        Linear("attn.c_attn", of.model, 3 * of.model, bias=True),
        Linear("attn.c_proj", of.model, of.model, bias=True),
        Linear("mlp.c_fc", of.model, of.inner, bias=True),
        Linear("mlp.c_proj", of.inner, of.model, bias=True),
    )


@dataclass(frozen=True, slots=True)
class Kind:
    """How the numbers of a family follow from its shape.

    Attributes:
        linears: Linear layers of a block.
        norms: Numbers of a block's norms.
        last_norm: Vectors of the width in the norm after the last block.
        key_heads: Whether keys may have fewer heads than queries.
        positions: Whether positions are learned: a vector for each.
        usual: What the formula takes for granted, by key of ``config.json``.
    """

    linears: Callable[[_Widths], tuple[Linear, ...]]
    norms: Callable[[_Widths], int]
    last_norm: int = 1
    key_heads: bool = True
    positions: bool = False
    usual: Mapping[str, Any] = field(default_factory=dict)


def _two(of: _Widths) -> int:
    return 2 * of.model


def _four(of: _Widths) -> int:
    return 4 * of.model


_NO_BIAS: Final = {"attention_bias": False, "mlp_bias": False}
_LLAMA: Final = Kind(_gated, _two, usual=_NO_BIAS)
KINDS: Final[Mapping[str, Kind]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "granite": _LLAMA,
    "smollm3": _LLAMA,
    "gemma": _LLAMA,
    "qwen2": Kind(_gated_with_bias, _two),
    # A norm of each head's query and key.
    "qwen3": Kind(_gated, lambda of: 2 * of.model + 2 * of.head, usual=_NO_BIAS),
    "exaone4": Kind(_gated, lambda of: 2 * of.model + 2 * of.head),
    # The same of all heads together.
    "olmo2": Kind(_gated, lambda of: 2 * of.model + of.query + of.key, usual=_NO_BIAS),
    # Before and after both halves.
    "gemma2": Kind(_gated, _four, usual=_NO_BIAS),
    "gemma3": Kind(_gated, lambda of: 4 * of.model + 2 * of.head, usual=_NO_BIAS),
    "hyperclovax": Kind(_gated, _four, usual={**_NO_BIAS, "use_post_norm": True}),
    # One before both halves.
    "cohere": Kind(_gated, lambda of: of.model, usual={**_NO_BIAS, "use_qk_norm": False}),
    "cohere2": Kind(_gated, lambda of: of.model, usual=_NO_BIAS),
    "phi3": Kind(_fused, _two, usual=_NO_BIAS),
    # LayerNorms with a bias.
    "gpt_neox": Kind(_neox, _four, last_norm=2, key_heads=False, usual={"attention_bias": True}),
    "gpt2": Kind(_gpt2, _four, last_norm=2, key_heads=False, positions=True, usual={"add_cross_attention": False}),
}
"""By ``model_type``."""

_TEXT: Final = "_text"


def plain_family(family: str) -> str:
    """A family's name whether it is alone or the text part of a model with more: ``gemma3`` of ``gemma3_text``."""
    return family.removesuffix(_TEXT)


def kind_of(family: str) -> Kind | None:
    """How the numbers of a family follow from its shape; None where that is not known."""
    return KINDS.get(plain_family(family))


def head_width(shape: Shape) -> int:
    """Numbers of one attention head."""
    return shape.head_dim or shape.hidden_size // shape.num_attention_heads


def linear_paths(family: str) -> tuple[str, ...] | None:
    """The linear layers of a family's blocks: what LoRA's ``target_modules`` can name; None where not known."""
    kind = kind_of(family)
    return None if kind is None else tuple(linear.path for linear in kind.linears(_Widths(1, 1, 1, 1, 1)))


def count_parameters(shape: Shape) -> ParameterCount:
    """The numbers of a model of that shape.

    Args:
        shape: As the recipe gives it, or a ``config.json``.

    Raises:
        NotCountedError: If they do not follow from it.
    """
    kind = kind_of(shape.family)
    if kind is None:
        known = ", ".join(KINDS)
        raise NotCountedError(
            f"not estimated: how many numbers a {shape.family} has does not follow from its shape; of {known} it does"
        )
    outside = kind.last_norm * shape.hidden_size
    if kind.positions:
        if shape.max_position_embeddings is None:
            raise NotCountedError(
                f"not estimated: a {shape.family} learns its positions, and base.shape has no max_position_embeddings"
            )
        outside += shape.max_position_embeddings * shape.hidden_size
    of = _Widths.of(shape)
    linears = kind.linears(of)
    rest = kind.norms(of) + sum(linear.outputs for linear in linears if linear.bias)
    return ParameterCount(
        shape.vocab_size,
        shape.hidden_size,
        shape.tie_word_embeddings,
        (PartCount(linears, rest),) * shape.num_hidden_layers,
        PartCount(rest=outside),
    )


def count_page(page: Page) -> ParameterCount:
    """The numbers of a recipe's model when its stages begin.

    Raises:
        NotCountedError: If they do not follow from its shape, or its shape is not known yet.
    """
    shape = page.base.known_sizes
    if shape is None:
        raise NotCountedError(
            f"not estimated: the shape of {page.base.model} is in its config.json, which ko-cpt train reads before it "
            "loads the model, and looks for the layers that are named; base.shape gives it now"
        )
    if page.base.build is not None:
        shape = shape.model_copy(update={"max_position_embeddings": page.data.sequence_length})
    return when_stages_begin(page, count_parameters(shape))
