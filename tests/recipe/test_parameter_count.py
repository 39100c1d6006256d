"""Numbers of a model from its shape are those of the model that transformers makes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from ko_cpt_callbacks.recipe.model_schema import Shape
from ko_cpt_callbacks.recipe.parameter_count import count_page, count_parameters, linear_names
from ko_cpt_callbacks.recipe.reading import find_recipe, read_recipe

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
NEOX = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]

# Small, and of the sizes that recipes have; on the meta device nothing is allocated.
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama", "num_key_value_heads": 2},
    "llama, wide heads": {"family": "llama", "num_key_value_heads": 2, "head_dim": 32},
    "llama, all heads": {"family": "llama", "tie_word_embeddings": True},
    "mistral": {"family": "mistral", "num_key_value_heads": 1, "head_dim": 24},
    "gemma3": {"family": "gemma3", "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True},
    "gemma3, untied": {"family": "gemma3", "num_key_value_heads": 2, "head_dim": 32},
    "gpt_neox": {"family": "gpt_neox"},
    "qwen2": {"family": "qwen2", "num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen2, untied": {"family": "qwen2", "num_key_value_heads": 4},
}
SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}

# Printed on the model's card, or in its name: an independent check of shape and count.
PRINTED: dict[str, tuple[dict[str, Any], int]] = {
    "EleutherAI/polyglot-ko-1.3b": (
        {"family": "gpt_neox", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
         "num_attention_heads": 16, "vocab_size": 30080},
        1_331_810_304,
    ),
    "EleutherAI/polyglot-ko-5.8b": (
        {"family": "gpt_neox", "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 28,
         "num_attention_heads": 16, "vocab_size": 30080},
        5_885_059_072,
    ),
    "meta-llama/Llama-3.1-8B": (
        {"family": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256},
        8_030_261_248,
    ),
}  # fmt: skip


def _made(shape: Shape) -> Any:
    """The model of that shape, without memory for its numbers."""
    config = AutoConfig.for_model(
        "gemma3_text" if shape.family == "gemma3" else shape.family,
        **shape.model_dump(exclude={"family"}, exclude_none=True),
    )
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def _numbers(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", SHAPES)
def test_a_model_has_as_many_numbers(name: str) -> None:
    """Every family, tied and not, with grouped keys and heads of their own width: the exact count."""
    shape = Shape(**{**SMALL, "vocab_size": 101, **SHAPES[name]})

    assert count_parameters(shape).total == _numbers(_made(shape))


@pytest.mark.parametrize("name", PRINTED)
def test_the_printed_number_comes_out(name: str) -> None:
    """Models as large as those of the recipes: as their cards say, and as transformers makes them."""
    values, printed = PRINTED[name]
    shape = Shape(**values)

    assert count_parameters(shape).total == printed == _numbers(_made(shape))


@pytest.mark.parametrize("id", ["redwhale", "thunder", "medgemma-a6000-8bit", "polyglot-scratch", "quickstart"])
def test_a_recipe_s_model_has_as_many_numbers(id: str) -> None:
    """With the rows of new tokens, and two matrices where a recipe unties one."""
    base = read_recipe(find_recipe(id)).recipe.base
    found = count_page(read_recipe(find_recipe(id)).recipe)
    shape = base.sizes.model_copy(update={"vocab_size": found.rows, "tie_word_embeddings": base.tied})

    assert found.total == _numbers(_made(shape))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("modules", [slice(None), slice(1)], ids=["all linear layers", "one of them"])
def test_adapters_have_as_many_numbers(name: str, modules: slice) -> None:
    """LoRA as PEFT puts it on: in all blocks, and in two of three."""
    shape = Shape(**{**SMALL, "vocab_size": 101, **SHAPES[name]})
    names = (NEOX if shape.family == "gpt_neox" else LINEARS)[modules]
    for layers in (None, [0, 2]):
        config = LoraConfig(r=5, target_modules=names, layers_to_transform=layers, task_type="CAUSAL_LM")
        model = get_peft_model(_made(shape), config)
        trained = sum(part.numel() for part in model.parameters() if part.requires_grad)

        assert count_parameters(shape).adapter(5, names, None if layers is None else len(layers)) == trained > 0


def test_rows_are_filled_up() -> None:
    """New rows come to the old ones, and are filled up to a multiple where that is asked."""
    shape = Shape(**{**SMALL, "vocab_size": 100, "family": "llama"})

    assert count_parameters(shape, new_rows=7).rows == 107
    assert count_parameters(shape, new_rows=7, multiple=64).rows == 128
    assert count_parameters(shape, new_rows=28, multiple=64).rows == 128


@pytest.mark.parametrize("name", SHAPES)
def test_what_adapters_can_name(name: str) -> None:
    """The names that a recipe may give LoRA are those of the linear layers that are counted."""
    shape = Shape(**{**SMALL, "vocab_size": 100, **SHAPES[name]})
    assert linear_names(shape.family) == tuple(linear.name for linear in count_parameters(shape).linears)
