"""What is known of a family of models: how its numbers follow from its shape, and what its blocks keep in training.

Numbers are exactly what transformers makes of a shape. Source: the model classes of transformers 4.57 and 5.23; the
tests build every family on the meta device and count. Of a family that is not here nothing is guessed: its numbers are
counted in the model itself, where it can be made.

What a block keeps of a forward pass for the backward one is counted from what autograd keeps of each block of
transformers (``torch.autograd.graph.saved_tensors_hooks``), not from a formula of another architecture; the tests count
again. Attention is computed without a matrix of all pairs of tokens (PyTorch's scaled_dot_product_attention), so it
adds nothing that grows with the square of the length. Of a family that was not measured the figure of Llama's is taken,
and reported so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.model_schema import Quantization, Shape
from ko_cpt_callbacks.recipe.parameter_count import Linear, ParameterCount, PartCount, targeted, when_stages_begin
from ko_cpt_callbacks.recipe.schema import Lora, Page


class NotCountedError(ConfigurationError):
    """The numbers of a model do not follow from its shape; the text begins with ``not estimated:``."""


def _gated(of: Shape, *, bias: bool = False) -> tuple[Linear, ...]:
    model, query, key, inner = of.hidden_size, of.query_width, of.key_width, of.intermediate_size
    return (
        Linear("self_attn.q_proj", model, query, bias),
        Linear("self_attn.k_proj", model, key, bias),
        Linear("self_attn.v_proj", model, key, bias),
        Linear("self_attn.o_proj", query, model),
        Linear("mlp.gate_proj", model, inner),
        Linear("mlp.up_proj", model, inner),
        Linear("mlp.down_proj", inner, model),
    )


def _fused(of: Shape) -> tuple[Linear, ...]:
    return (
        Linear("self_attn.o_proj", of.query_width, of.hidden_size),
        Linear("self_attn.qkv_proj", of.hidden_size, of.query_width + 2 * of.key_width),
        Linear("mlp.gate_up_proj", of.hidden_size, 2 * of.intermediate_size),
        Linear("mlp.down_proj", of.intermediate_size, of.hidden_size),
    )


def _plain(of: Shape, *, paths: tuple[str, str, str, str]) -> tuple[Linear, ...]:
    model, inner = of.hidden_size, of.intermediate_size
    widths = ((model, 3 * model), (model, model), (model, inner), (inner, model))
    return tuple(Linear(path, *width, bias=True) for path, width in zip(paths, widths, strict=True))


_NEOX: Final = ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
_GPT2: Final = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


@dataclass(frozen=True, slots=True)
class Kind:
    """How the numbers of a family follow from its shape.

    Attributes:
        linears: Linear layers of a block.
        norms: Vectors of the width in a block's norms.
        key_norms: Norms of queries and keys: of each head alone, of all heads together, or none.
        last_norm: Vectors of the width in the norm after the last block.
        key_heads: Whether keys may have fewer heads than queries.
        positions: Whether positions are learned: a vector for each.
        usual: What the formula takes for granted, by key of ``config.json``.
    """

    linears: Callable[[Shape], tuple[Linear, ...]] = _gated
    norms: int = 2
    key_norms: Literal["none", "each", "all"] = "none"
    last_norm: int = 1
    key_heads: bool = True
    positions: bool = False
    usual: Mapping[str, Any] = field(default_factory=dict)

    def norm_numbers(self, of: Shape) -> int:
        """Numbers of a block's norms."""
        inside = {"none": 0, "each": 2 * of.head_width, "all": of.query_width + of.key_width}
        return self.norms * of.hidden_size + inside[self.key_norms]


_NO_BIAS: Final = {"attention_bias": False, "mlp_bias": False}
_LLAMA: Final = Kind(usual=_NO_BIAS)
KINDS: Final[Mapping[str, Kind]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "granite": _LLAMA,
    "smollm3": _LLAMA,
    "gemma": _LLAMA,
    "qwen2": Kind(partial(_gated, bias=True)),
    "qwen3": Kind(key_norms="each", usual=_NO_BIAS),
    "exaone4": Kind(key_norms="each"),
    "olmo2": Kind(key_norms="all", usual=_NO_BIAS),
    # Before and after both halves.
    "gemma2": Kind(norms=4, usual=_NO_BIAS),
    "gemma3": Kind(norms=4, key_norms="each", usual=_NO_BIAS),
    "hyperclovax": Kind(norms=4, usual={**_NO_BIAS, "use_post_norm": True}),
    # One before both halves.
    "cohere": Kind(norms=1, usual={**_NO_BIAS, "use_qk_norm": False}),
    "cohere2": Kind(norms=1, usual=_NO_BIAS),
    "phi3": Kind(_fused, usual=_NO_BIAS),
    # LayerNorms with a bias.
    "gpt_neox": Kind(
        partial(_plain, paths=_NEOX), norms=4, last_norm=2, key_heads=False, usual={"attention_bias": True}
    ),
    "gpt2": Kind(
        partial(_plain, paths=_GPT2), norms=4, last_norm=2, key_heads=False, positions=True,
        usual={"add_cross_attention": False},
    ),
}  # fmt: skip
"""By ``model_type``."""

_TEXT: Final = "_text"
_UNIT: Final = Shape(
    family="any", hidden_size=1, intermediate_size=1, num_hidden_layers=1, num_attention_heads=1, vocab_size=1
)


def plain_family(family: str) -> str:
    """A family's name whether it is alone or the text part of a model with more: ``gemma3`` of ``gemma3_text``."""
    return family.removesuffix(_TEXT)


def kind_of(family: str) -> Kind | None:
    """How the numbers of a family follow from its shape; None where that is not known."""
    return KINDS.get(plain_family(family))


def linear_paths(family: str) -> tuple[str, ...] | None:
    """The linear layers of a family's blocks: what LoRA's ``target_modules`` can name; None where not known."""
    kind = kind_of(family)
    return None if kind is None else tuple(linear.path for linear in kind.linears(_UNIT))


def count_parameters(shape: Shape) -> ParameterCount:
    """The numbers of a model of that shape.

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
    linears = kind.linears(shape)
    rest = kind.norm_numbers(shape) + sum(linear.outputs for linear in linears if linear.bias)
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


@dataclass(frozen=True, slots=True)
class _Kept:
    """Bytes in 16-bit, for each number of the width, of all queries, of all keys, and of the inner width."""

    width: float
    query: float
    key: float
    inner: float

    def bytes(self, of: Shape) -> float:
        """All of it, of a token."""
        attention = self.query * of.query_width + self.key * of.key_width
        return self.width * of.hidden_size + attention + self.inner * of.intermediate_size


# Measured with transformers 5.23 and torch 2.13; rounded up.
_LLAMA_KEPT: Final = (_Kept(8, 4.25, 4, 6), _Kept(8, 0, 0, 2))
_MEASURED: Final[Mapping[str, tuple[_Kept, _Kept]]] = {
    "llama": _LLAMA_KEPT,
    "mistral": _LLAMA_KEPT,
    "qwen2": _LLAMA_KEPT,
    "gemma3": (_Kept(16.5, 8.5, 7.5, 6), _Kept(20.5, 4, 4, 2)),
    "gpt_neox": (_Kept(2, 4.5, 4, 2), _Kept(6, 0, 0, 2)),
}
"""Of a block that only passes gradients on; and what is kept more where its own weights train: what goes into linear
layers and norms."""

_INPUTS: Final = _Kept(4, 0, 0, 2)
"""What LLM.int8 keeps more: what goes into each linear layer, for those with the same input once."""

_MASK: Final = 4  # what dropout keeps of each number on a CPU; a GPU keeps a byte
_ADAPTED: Final = 2  # the number itself, in 16-bit, once for each adapter


def is_measured(family: str) -> bool:
    """Whether the figures of what a family's blocks keep are its own, and not Llama's."""
    return plain_family(family) in _MEASURED


def block_bytes(
    shape: Shape,
    linears: Sequence[Linear],
    *,
    computed: int,
    trained: bool,
    quantization: Quantization,
    lora: Lora | None,
) -> int:
    """What one block keeps of a forward pass for the backward one, for each token.

    Args:
        shape: Of the model.
        linears: Linear layers of the block.
        computed: Bytes of a number: 2 in 16-bit, 4 in float32. Of float32 weights under autocast 4 is a little much.
        trained: Whether a block's own weights train.
        quantization: How its matrices are loaded.
        lora: The adapters on it; None: none.
    """
    frozen, more = _MEASURED.get(plain_family(shape.family), _LLAMA_KEPT)
    total = frozen.bytes(shape)
    if trained:
        total += more.bytes(shape)
    elif quantization == "8-bit":
        total += _INPUTS.bytes(shape)
    if lora is not None:
        each = _ADAPTED + (_MASK if lora.lora_dropout else 0)
        total += sum(each * linear.inputs + 2 * lora.r for linear in targeted(linears, lora.target_modules))
    return round(total * computed / 2)
