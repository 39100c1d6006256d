"""A model that is not what its recipe says is refused: what was decided from the shape would be wrong of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training.made_recipe import FIVE_STAGES, made_model, made_recipe

from ko_cpt_callbacks import ConfigurationError
from ko_cpt_callbacks.recipe.base_config import differences
from ko_cpt_callbacks.training.model.config import with_config

pytestmark = pytest.mark.both_versions

STAGES = {"embedding": FIVE_STAGES["embedding"]}


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen2", "gpt_neox"])
def test_the_models_shape(family: str, tmp_path: Path) -> None:
    """The configuration that a model of the recipe's shape has is taken."""
    page = made_recipe(tmp_path, STAGES, family=family).page
    assert with_config(page, made_model(family).config) == page


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"hidden_size": 32}, "hidden_size 32 and not 64"),
        ({"num_hidden_layers": 2, "vocab_size": 700}, "num_hidden_layers 2 and not 4, vocab_size 700 and not 600"),
        ({"num_key_value_heads": 1}, "num_key_value_heads 1 and not 2"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings True and not False"),
    ],
)
def test_another_shape(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Every difference is named, with both values, and which file and key they stand in."""
    config = made_model("llama").config
    for name, value in changed.items():
        config.__dict__[name] = value
    with pytest.raises(ConfigurationError, match=f"base.shape: found in the config.json of nowhere: {said}; expected"):
        with_config(made_recipe(tmp_path, STAGES).page, config)


def test_another_family(tmp_path: Path) -> None:
    """It is said alone: what else differs follows from it."""
    with pytest.raises(ConfigurationError, match=r"config.json of nowhere: family 'qwen2' and not 'llama'; expected"):
        with_config(made_recipe(tmp_path, STAGES).page, made_model("qwen2").config)


def test_a_recipe_without_a_shape_gets_the_model_s(tmp_path: Path) -> None:
    """As its configuration gives it; then the recipe says what it would say with it."""
    whole = made_recipe(tmp_path, STAGES).page
    bare = whole.model_copy(update={"base": whole.base.model_copy(update={"shape": None})})
    assert bare.base.known_sizes is None

    found = with_config(bare, made_model("llama").config)
    assert found.base.shape is not None
    assert list(differences(found.base.shape, whole.base.sizes)) == []
    assert found.base.shape.max_position_embeddings == 128


def test_rows_longer_than_the_model_has_positions(tmp_path: Path) -> None:
    """It was made with 128 positions; rows of 129 tokens would be read past the last."""
    config = made_model("llama").config
    with_config(made_recipe(tmp_path, STAGES, overrides=("data.sequence_length=128",)).page, config)
    with pytest.raises(ConfigurationError, match="sequence_length: found 129, expected at most the 128 tokens"):
        with_config(made_recipe(tmp_path, STAGES, overrides=("data.sequence_length=129",)).page, config)
