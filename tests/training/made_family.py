"""Tiny models of many families, as folders that a recipe can begin with; what is in them, written by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from training.small_tokenizer import byte_level
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

LAYERS = 3
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 900,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
_ATTENTION = tuple(f"self_attn.{name}_proj" for name in "qkvo")
_GATED = (*_ATTENTION, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")
_AFTER = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")
_FOUR = (*_NORMS, "pre_feedforward_layernorm.weight", "post_feedforward_layernorm.weight")
_HEADS = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
_EXPERTS = ("mlp.gate.weight", "mlp.experts.gate_up_proj", "mlp.experts.down_proj")
_FUSED = transformers.__version__ >= "5"
"""Transformers 4 has a linear layer for each matrix of an expert, and one that chooses among them."""


def _of_experts(block: str, *names: str) -> tuple[str, ...]:
    """The linear layers that four experts have in transformers 4."""
    return (f"{block}.gate", *(f"{block}.experts.{index}.{name}" for index in range(4) for name in names))


@dataclass(frozen=True)
class MadeFamily:
    """A family: what its configuration gets beside `SIZES`, and what its model is then made of.

    Attributes:
        more: Of the configuration.
        linears: Linear layers of a block.
        rest: The other parameters of a block, biases of linear layers left out.
        biased: Linear layers with a bias.
        blocks: Where the blocks are.
        input: The embedding.
        output: The head.
        tied: Whether both are one matrix.
    """

    more: dict[str, Any] = field(default_factory=dict)
    linears: tuple[str, ...] = _GATED
    rest: tuple[str, ...] = _NORMS
    biased: tuple[str, ...] = ()
    blocks: str = "model.layers"
    input: str = "model.embed_tokens"
    output: str = "lm_head"
    tied: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """All parameters of a block."""
        linears = (f"{name}.weight" for name in self.linears)
        return (*linears, *(f"{name}.bias" for name in self.biased), *self.rest)


_NEOX = ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
_NEOX_HEAD = "lm_head" if _FUSED else "embed_out"
_GPT2 = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
_VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip

FAMILIES: dict[str, MadeFamily] = {
    "llama": MadeFamily(),
    "mistral": MadeFamily({"head_dim": 32}),
    "gemma2": MadeFamily({"head_dim": 16}, rest=_FOUR, tied=True),
    "gemma3_text": MadeFamily({"head_dim": 16}, rest=(*_FOUR, *_HEADS), tied=True),
    "gemma3": MadeFamily(
        {"head_dim": 16}, rest=(*_FOUR, *_HEADS), tied=True, blocks="model.language_model.layers",
        input="model.language_model.embed_tokens",
    ),
    "qwen2": MadeFamily(biased=_ATTENTION[:3]),
    "qwen3": MadeFamily({"head_dim": 32}, rest=(*_NORMS, *_HEADS)),
    "qwen3_moe": MadeFamily(
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "head_dim": 16},
        _ATTENTION if _FUSED else (*_ATTENTION, *_of_experts("mlp", "gate_proj", "up_proj", "down_proj")),
        (*_NORMS, *_HEADS, *(_EXPERTS if _FUSED else ())),
    ),
    "mixtral": MadeFamily(
        {"num_local_experts": 4},
        _ATTENTION if _FUSED else (*_ATTENTION, *_of_experts("block_sparse_moe", "w1", "w2", "w3")),
        (*_NORMS, *(_EXPERTS if _FUSED else ())),
    ),
    "phi3": MadeFamily({}, ("self_attn.o_proj", "self_attn.qkv_proj", "mlp.gate_up_proj", "mlp.down_proj")),
    "exaone4": MadeFamily(rest=(*_AFTER, *_HEADS)),
    "olmo2": MadeFamily(rest=(*_AFTER, *_HEADS)),
    "granite": MadeFamily(),
    "cohere2": MadeFamily(rest=_NORMS[:1], tied=True),
    "smollm3": MadeFamily(tied=True),
    "hyperclovax": MadeFamily(rest=(*_NORMS, "post_norm1.weight", "post_norm2.weight")),
    "gpt_neox": MadeFamily(
        {"num_key_value_heads": None}, _NEOX, (*_NORMS, *(name.replace("weight", "bias") for name in _NORMS)), _NEOX,
        blocks="gpt_neox.layers", input="gpt_neox.embed_in", output=_NEOX_HEAD,
    ),
    "gpt2": MadeFamily(
        {"intermediate_size": None, "num_key_value_heads": None}, _GPT2,
        ("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"), _GPT2, blocks="transformer.h",
        input="transformer.wte", tied=True,
    ),
}  # fmt: skip
"""By ``model_type``."""

INSTALLED = tuple(name for name in FAMILIES if name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
IN_CI = ("gemma3", "qwen3", "qwen3_moe", "gpt2", "exaone4")
"""The five that differ most: a vision tower and one matrix, wide heads, fused experts, ``Conv1D``, norms after."""


def made_config(name: str, **more: Any) -> Any:
    """The configuration of a tiny model of a family."""
    sizes = {**SIZES, **FAMILIES[name].more, **more}
    sizes = {key: value for key, value in sizes.items() if value is not None}
    if name != "gemma3":
        return AutoConfig.for_model(name, **sizes)
    return AutoConfig.for_model(name, text_config=sizes, vision_config=_VISION, mm_tokens_per_image=4)


def saved_model(name: str, folder: Path, **more: Any) -> Path:
    """A tiny model with random weights and a tokenizer, as a folder."""
    byte_level().save_pretrained(str(folder))
    made_config(name, **more).save_pretrained(folder)
    # A family's own tokenizer class may add a token, as Qwen2's does: a row for each, and none to spare.
    rows = len(AutoTokenizer.from_pretrained(folder))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(made_config(name, vocab_size=rows, **more)).save_pretrained(folder)
    return folder


ARGUMENTS: dict[str, Any] = {
    "max_steps": 3, "learning_rate": 5e-3, "lr_scheduler_type": "constant", "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 8, "eval_strategy": "steps", "eval_steps": 3, "save_strategy": "no",
    "logging_steps": 1, "report_to": "none", "use_cpu": True,
}  # fmt: skip
LORA: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}


def written_recipe(folder: Path, model: str, stages: dict[str, Any], **base: Any) -> Path:
    """A recipe of a model in a folder, which says nothing of its shape.

    Args:
        folder: Where the recipe is put.
        model: The model, from there.
        stages: What each stage trains, and its ``lora``.
        base: More of ``base``; with ``extend`` the tokenizer gets new tokens.
    """
    extend = base.pop("extend", False)
    values: dict[str, Any] = {
        "id": "made",
        "title": "Made for a test",
        "base": {"model": model, "dtype": "float32", **base},
        "data": {
            "sequence_length": 64,
            "packing": True,
            "held_out": 0.3,
            "sources": {"ko": {"language": "ko", "bundled": ["ko_udhr.txt"]}},
            "mix": {"ko": 1},
        },
        "eval": {"ko": {"source": "ko", "max_documents": 4}},
        "stages": {name: {**stage, "arguments": ARGUMENTS} for name, stage in stages.items()},
        "source": dict.fromkeys(["data", "eval", "stages", *(["tokenizer"] if extend else [])], "made up for a test"),
    }
    if extend:
        values["tokenizer"] = {"extend": {"source": "ko", "tokens": 24, "minimum_count": 2}}
    path = folder / "made.yaml"
    path.write_text(json.dumps(values), "utf-8")
    return path
