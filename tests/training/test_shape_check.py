"""A model that is not what its recipe says is refused: what was decided from the shape would be wrong of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training.made_recipe import FIVE_STAGES, made_model, made_recipe

from ko_cpt_callbacks import ConfigurationError
from ko_cpt_callbacks.training.model.base import check_shape

pytestmark = pytest.mark.both_versions

STAGES = {"embedding": FIVE_STAGES["embedding"]}


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen2", "gpt_neox"])
def test_the_models_shape(family: str, tmp_path: Path) -> None:
    """The configuration that a model of the recipe's shape has is taken."""
    check_shape(made_model(family).config, made_recipe(tmp_path, STAGES, family=family).page)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"hidden_size": 32}, "hidden_size 32 and not 64"),
        ({"num_hidden_layers": 2, "vocab_size": 700}, "num_hidden_layers 2 and not 4, vocab_size 700 and not 600"),
        ({"num_key_value_heads": 1}, "num_key_value_heads 1 and not 2"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings True and not False"),
        ({"model_type": "qwen2"}, "family 'qwen2' and not 'llama'"),
    ],
)
def test_another_shape(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Every difference is named, with both values, and which file and key they stand in."""
    config = made_model("llama").config
    for name, value in changed.items():
        config.__dict__[name] = value
    with pytest.raises(ConfigurationError, match=f"base.shape: found in the config.json of nowhere: {said}; expected"):
        check_shape(config, made_recipe(tmp_path, STAGES).page)


def test_rows_longer_than_the_model_has_positions(tmp_path: Path) -> None:
    """It was made with 128 positions; rows of 129 tokens would be read past the last."""
    config = made_model("llama").config
    check_shape(config, made_recipe(tmp_path, STAGES, overrides=("data.sequence_length=128",)).page)
    with pytest.raises(ConfigurationError, match="sequence_length: found 129, expected at most the 128 tokens"):
        check_shape(config, made_recipe(tmp_path, STAGES, overrides=("data.sequence_length=129",)).page)
