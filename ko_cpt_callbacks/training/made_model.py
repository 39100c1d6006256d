"""A model made on the spot, with random weights, of any family that recipes know."""

from __future__ import annotations

from typing import Any, Final

from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from ko_cpt_callbacks.recipe.model_part import Build
from ko_cpt_callbacks.recipe.part import Family

_CLASSES: Final[dict[Family, tuple[Any, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM),
    "gpt_neox": (GPTNeoXConfig, GPTNeoXForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
}


def made_model(build: Build, tokenizer: Any, max_length: int) -> PreTrainedModel:
    """A model with random weights; the same for the same seed.

    Args:
        build: Its shape.
        tokenizer: Its tokenizer.
        max_length: Tokens of the longest text that it will see.
    """
    config_class, model_class = _CLASSES[build.family]
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": build.hidden_size,
        "intermediate_size": build.intermediate_size,
        "num_hidden_layers": build.num_hidden_layers,
        "num_attention_heads": build.num_attention_heads,
        "tie_word_embeddings": build.tie_word_embeddings,
        "max_position_embeddings": max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if build.family != "gpt_neox":  # it has no key heads of their own, and derives the width of a head
        sizes["num_key_value_heads"] = build.num_key_value_heads or build.num_attention_heads
        sizes["head_dim"] = build.head_dim or build.hidden_size // build.num_attention_heads
    model: PreTrainedModel = model_class(config_class(**sizes))
    return model
