"""Numbers of a model from its shape are those of the model that transformers makes."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from peft import LoraConfig, get_peft_model
from training.small_tokenizer import byte_level
from transformers import AutoConfig

from ko_cpt_callbacks.recipe.bundle import find_recipe
from ko_cpt_callbacks.recipe.family import KINDS, NotCountedError, count_page, count_parameters, linear_paths
from ko_cpt_callbacks.recipe.model_schema import Base, Extension, MadeFamily, Shape, Tokenizer
from ko_cpt_callbacks.recipe.parameter_count import when_stages_begin
from ko_cpt_callbacks.recipe.reading import read_recipe
from ko_cpt_callbacks.training.model.layout import empty_model, read_layout
from ko_cpt_callbacks.training.model.weights import made_model

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
    "qwen3": {"family": "qwen3", "num_key_value_heads": 2, "head_dim": 32},
    "gemma": {"family": "gemma", "num_key_value_heads": 1, "head_dim": 32, "tie_word_embeddings": True},
    "gemma2": {"family": "gemma2", "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True},
    "phi3": {"family": "phi3", "num_key_value_heads": 2},
    "exaone4": {"family": "exaone4", "num_key_value_heads": 2, "head_dim": 24},
    "olmo2": {"family": "olmo2", "num_key_value_heads": 2},
    "granite": {"family": "granite", "num_key_value_heads": 2, "tie_word_embeddings": True},
    "cohere": {"family": "cohere", "num_key_value_heads": 2, "tie_word_embeddings": True},
    "cohere2": {"family": "cohere2", "num_key_value_heads": 2, "tie_word_embeddings": True},
    "smollm3": {"family": "smollm3", "num_key_value_heads": 2, "tie_word_embeddings": True},
    "hyperclovax": {"family": "hyperclovax", "num_key_value_heads": 2},
    "gpt2": {"family": "gpt2", "tie_word_embeddings": True, "max_position_embeddings": 50},
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
    sizes = {**shape.model_dump(exclude={"family"}, exclude_none=True), "pad_token_id": 0}
    if shape.family == "gpt2":
        sizes["n_inner"] = sizes.pop("intermediate_size")
    return empty_model(AutoConfig.for_model("gemma3_text" if shape.family == "gemma3" else shape.family, **sizes))


def _numbers(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", SHAPES)
def test_a_model_has_as_many_numbers(name: str) -> None:
    """Every family, tied and not, with grouped keys and heads of their own width: the exact count, and part by part
    what is read from the modules of the model."""
    shape = Shape(**{**SMALL, "vocab_size": 101, **SHAPES[name]})
    found, model = count_parameters(shape), _made(shape)

    assert found.total == _numbers(model)
    assert found == read_layout(model)


def test_no_family_is_left_out() -> None:
    """Each whose numbers are said to follow from its shape is counted here, and can be made on the spot."""
    assert {values["family"] for values in SHAPES.values()} == set(KINDS) == set(get_args(MadeFamily))


@pytest.mark.parametrize("family", get_args(MadeFamily))
def test_a_model_made_on_the_spot(family: str) -> None:
    """It has as many numbers as were counted before there was one."""
    keys = {"num_key_value_heads": 2} if KINDS[family].key_heads else {}
    tokenizer = byte_level()
    values = {
        "family": family, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "tokenizer": {"algorithm": "byte-level-bpe", "vocab_size": len(tokenizer), "sources": ["ko"]}, **keys,
    }  # fmt: skip
    base = Base.model_validate({"build": values, "dtype": "float32"})
    assert base.build is not None

    shape = base.sizes.model_copy(update={"max_position_embeddings": 48})
    assert count_parameters(shape) == read_layout(made_model(base.build, tokenizer, 48))


def test_nothing_is_guessed() -> None:
    """Of a family without a formula, of positions that are learnt and not told, and of a shape that only the hub knows:
    a sentence that says what is not estimated, and why."""
    small = {**SMALL, "vocab_size": 101}
    with pytest.raises(NotCountedError, match=r"^not estimated: how many numbers a mixtral has does not follow"):
        count_parameters(Shape(family="mixtral", **small))
    with pytest.raises(NotCountedError, match=r"^not estimated: a gpt2 learns its positions"):
        count_parameters(Shape(family="gpt2", **small))
    page = read_recipe(find_recipe("redwhale")).recipe
    bare = page.model_copy(update={"base": page.base.model_copy(update={"shape": None})})
    with pytest.raises(NotCountedError, match=rf"^not estimated: the shape of {page.base.model} is in its config.json"):
        count_page(bare)


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
    names = [linear.path for linear in count_parameters(shape).linears][modules]
    for layers in (None, [0, 2]):
        config = LoraConfig(r=5, target_modules=names, layers_to_transform=layers, task_type="CAUSAL_LM")
        model = get_peft_model(_made(shape), config)
        trained = sum(part.numel() for part in model.parameters() if part.requires_grad)

        assert count_parameters(shape).adapter(5, names, layers) == trained > 0


@pytest.mark.parametrize(("tokens", "multiple", "rows"), [(7, None, 107), (7, 64, 128), (28, 64, 128)])
def test_rows_are_filled_up(tokens: int, multiple: int | None, rows: int) -> None:
    """New rows come to the old ones, and are filled up to a multiple where that is asked."""
    count = count_parameters(Shape(**{**SMALL, "vocab_size": 100, "family": "llama"}))
    extend = Extension(source="ko", tokens=tokens, minimum_count=1, pad_to_multiple_of=multiple)
    page = read_recipe(find_recipe("quickstart")).recipe.model_copy(update={"tokenizer": Tokenizer(extend=extend)})

    assert when_stages_begin(page, count).rows == rows


@pytest.mark.parametrize("name", SHAPES)
def test_what_adapters_can_name(name: str) -> None:
    """The names that a recipe may give LoRA are those of the linear layers that are counted."""
    shape = Shape(**{**SMALL, "vocab_size": 100, **SHAPES[name]})
    assert linear_paths(shape.family) == tuple(linear.path for linear in count_parameters(shape).linears)
