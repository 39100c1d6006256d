"""A staged recipe for a tiny model of any family, and that model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from ko_cpt_callbacks import Recipe

LAYERS, ROWS, WIDTH = 4, 600, 64
_SIZES: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
}
_CAUSAL: dict[str, Any] = {**_SIZES, "num_key_value_heads": 2, "max_position_embeddings": 128, "vocab_size": ROWS}
_MARKS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
TIED = {"llama": False, "gemma3": True, "qwen2": True, "gpt_neox": False}
LORA: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]}
FIVE_STAGES: dict[str, dict[str, Any]] = {
    "embedding": {"input": "all", "output": "all"},
    "odd": {"layers": "odd"},
    "even": {"layers": "even"},
    "two": {"layers": [0, 3]},
    "all": {"input": "all", "output": "all", "layers": "all"},
}
EXTEND: dict[str, Any] = {"source": "ko", "tokens": 40, "minimum_count": 2}


def made_model(family: str, seed: int = 0, **config: Any) -> Any:
    """A tiny model with random weights; tied as the family's small models are."""
    torch.manual_seed(seed)
    tied = {"tie_word_embeddings": TIED[family], **config}
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**{**_CAUSAL, **_MARKS, **tied}))
    if family == "gemma3":
        return Gemma3ForCausalLM(Gemma3TextConfig(**_CAUSAL, **_MARKS, **tied, head_dim=32, sliding_window=64))
    if family == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**_CAUSAL, **_MARKS, **tied))
    return GPTNeoXForCausalLM(GPTNeoXConfig(**_SIZES, **_MARKS, **tied, vocab_size=ROWS, max_position_embeddings=128))


def made_recipe(
    folder: Path,
    trains: dict[str, dict[str, Any]],
    *,
    family: str = "llama",
    quantization: str = "none",
    adapters: dict[str, Any] | None = None,
    extend: dict[str, Any] | None = None,
    overrides: tuple[str, ...] = (),
    base: dict[str, Any] | None = None,
    arguments: dict[str, Any] | None = None,
) -> Recipe:
    """A recipe of these stages, read from a file.

    Args:
        trains: What each stage trains.
        adapters: ``lora`` by stage; None: none, or `LORA` for every stage of a quantised model that moves layers.
        extend: ``tokenizer.extend``.
        base: More of ``base``.
        arguments: Of every stage.
    """
    if adapters is None:
        adapters = {} if quantization == "none" else {name: LORA for name, part in trains.items() if "layers" in part}
    steps = {"max_steps": 3, "learning_rate": 1e-2, "per_device_train_batch_size": 3, "use_cpu": True, **SILENT}
    values = {
        "id": "made",
        "title": "Made for a test",
        "base": {
            "model": "nowhere",
            "shape": {"family": family, **_SIZES, "vocab_size": ROWS, "tie_word_embeddings": TIED[family]},
            "dtype": "float32",
            "quantization": quantization,
            **(base or {}),
        },
        **({} if extend is None else {"tokenizer": {"extend": extend}}),
        "data": {
            "sequence_length": 64,
            "packing": True,
            "held_out": 0.3,
            "sources": {"ko": {"language": "ko", "bundled": ["ko_udhr.txt"]}},
            "mix": {"ko": 1},
        },
        "eval": {"ko": {"source": "ko"}},
        "stages": {
            name: {
                "trains": part,
                "arguments": {**steps, **(arguments or {})},
                **({"lora": adapters[name]} if name in adapters else {}),
            }
            for name, part in trains.items()
        },
        "source": dict.fromkeys(["base", "data", "stages", *(["tokenizer"] if extend else [])], "made up for a test"),
    }
    path = folder / "made.yaml"
    path.write_text(json.dumps(values), "utf-8")
    return Recipe.load(path, overrides)


SILENT: dict[str, Any] = {
    "report_to": "none",
    "save_strategy": "no",
    "logging_steps": 1,
    "remove_unused_columns": False,
}


def loaded(recipe: Recipe, model: Any, folder: Path) -> Any:
    """The model, saved and loaded as the recipe says: quantised where it wants that."""
    model.save_pretrained(folder)
    found = recipe.quantization_config()
    more = {} if found is None else {"quantization_config": found, "device_map": "cpu"}
    return AutoModelForCausalLM.from_pretrained(folder, dtype=recipe.dtype, **more)


def trainable(model: Any) -> set[str]:
    """Names of the parameters with a gradient, as the model without adapters names them."""
    return {name.removeprefix("base_model.model.") for name, part in model.named_parameters() if part.requires_grad}
