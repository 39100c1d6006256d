"""What one transformer block keeps of a forward pass for the backward one, for each token.

Counted from what autograd keeps of each block of transformers (``torch.autograd.graph.saved_tensors_hooks``), not
from a formula of another architecture; the tests count again. Attention is computed without a matrix of all pairs of
tokens (PyTorch's scaled_dot_product_attention), so it adds nothing that grows with the square of the length. Of a
family that was not measured the figure of Llama's is taken, and reported so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ko_cpt_callbacks.recipe.base_config import key_heads
from ko_cpt_callbacks.recipe.family import head_width, plain_family
from ko_cpt_callbacks.recipe.model_schema import Quantization, Shape
from ko_cpt_callbacks.recipe.parameter_count import Linear, targeted
from ko_cpt_callbacks.recipe.schema import Lora


@dataclass(frozen=True, slots=True)
class _Kept:
    """Bytes in 16-bit, for each number of the width, of all queries, of all keys, and of the inner width."""

    width: float
    query: float
    key: float
    inner: float


# Measured with transformers 5.23 and torch 2.13; rounded up.
_LLAMA: Final = _Kept(8, 4.25, 4, 6)
_FROZEN: Final[dict[str, _Kept]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "gemma3": _Kept(16.5, 8.5, 7.5, 6),
    "gpt_neox": _Kept(2, 4.5, 4, 2),
}
"""Of a block that only passes gradients on."""

_LLAMA_TRAINED: Final = _Kept(8, 0, 0, 2)
_TRAINED: Final[dict[str, _Kept]] = {
    "llama": _LLAMA_TRAINED,
    "mistral": _LLAMA_TRAINED,
    "qwen2": _LLAMA_TRAINED,
    "gemma3": _Kept(20.5, 4, 4, 2),
    "gpt_neox": _Kept(6, 0, 0, 2),
}
"""What is kept more where its own weights train: what goes into linear layers and norms."""

_INPUTS: Final = _Kept(4, 0, 0, 2)
"""What LLM.int8 keeps more: what goes into each linear layer, for those with the same input once."""

_MASK: Final = 4  # what dropout keeps of each number on a CPU; a GPU keeps a byte
_ADAPTED: Final = 2  # the number itself, in 16-bit, once for each adapter


def is_measured(family: str) -> bool:
    """Whether the figures of a family are its own, and not Llama's."""
    return plain_family(family) in _FROZEN


def block_bytes(
    shape: Shape,
    linears: Sequence[Linear],
    *,
    computed: int,
    trained: bool,
    quantization: Quantization,
    lora: Lora | None,
) -> int:
    """What one block keeps, for each token.

    Args:
        shape: Of the model.
        linears: Linear layers of the block.
        computed: Bytes of a number: 2 in 16-bit, 4 in float32. Of float32 weights under autocast 4 is a little much.
        trained: Whether a block's own weights train.
        quantization: How its matrices are loaded.
        lora: The adapters on it; None: none.
    """
    family = plain_family(shape.family)
    parts = [_FROZEN.get(family, _LLAMA)]
    if trained:
        parts.append(_TRAINED.get(family, _LLAMA_TRAINED))
    elif quantization == "8-bit":
        parts.append(_INPUTS)
    total = sum(_weigh(part, shape) for part in parts)
    if lora is not None:
        each = _ADAPTED + (_MASK if lora.lora_dropout else 0)
        total += sum(each * linear.inputs + 2 * lora.r for linear in targeted(linears, lora.target_modules))
    return round(total * computed / 2)


def block_input_bytes(shape: Shape, *, computed: int) -> int:
    """What a checkpointed block keeps, for each token: its input."""
    return shape.hidden_size * computed


def _weigh(kept: _Kept, shape: Shape) -> float:
    head = head_width(shape)
    query, key = shape.num_attention_heads * head, key_heads(shape) * head
    return kept.width * shape.hidden_size + kept.query * query + kept.key * key + kept.inner * shape.intermediate_size
