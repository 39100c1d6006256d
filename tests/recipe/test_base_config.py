"""A model's shape is read from its config.json as it stands there, whatever its family calls the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from training.made_family import FAMILIES, INSTALLED, SIZES, made_config
from transformers import AutoConfig

from ko_cpt_callbacks.recipe import base_config as module
from ko_cpt_callbacks.recipe.base_config import (
    BaseConfig,
    UnreadableConfigError,
    config_of,
    differences,
    model_folder,
    read_config,
)
from ko_cpt_callbacks.recipe.model_schema import Shape

LLAMA: dict[str, Any] = {"model_type": "llama", **SIZES, "tie_word_embeddings": False}


def written(folder: Path, values: Any) -> Path:
    """A folder with that configuration."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(values if isinstance(values, str) else json.dumps(values), "utf-8")
    return folder


def shape(values: dict[str, Any]) -> Shape:
    """The shape of a configuration that has one."""
    found = config_of(values).shape
    assert found is not None
    return found


@pytest.mark.parametrize("name", INSTALLED)
def test_what_transformers_writes(name: str, tmp_path: Path) -> None:
    """The file of every family as it is saved: the sizes that it was made with, and what its class has by default."""
    config = made_config(name)
    config.save_pretrained(tmp_path)
    found, text = read_config(tmp_path), config.get_text_config()

    assert found.shape is not None
    assert (found.model_type, found.shape.family) == (name, text.model_type)
    sizes = (found.shape.hidden_size, found.shape.num_hidden_layers, found.shape.vocab_size)
    assert sizes == (64, 3, 900)
    assert found.shape.num_attention_heads == 4
    assert (found.shape.num_key_value_heads or 4) == getattr(text, "num_key_value_heads", 4)
    assert found.shape.intermediate_size == (256 if name == "gpt2" else 128)
    assert found.shape.max_position_embeddings == 128
    assert found.shape.tie_word_embeddings is FAMILIES[name].tied
    assert found.unusual == (("more than its text model",) if name == "gemma3" else ())


@pytest.mark.parametrize("name", INSTALLED)
def test_what_the_class_leaves_out(name: str, tmp_path: Path) -> None:
    """Gemma 3's own file names four numbers and leaves the others to the class: they are the class's, where it is
    installed."""
    family = made_config(name).get_text_config().model_type
    text = AutoConfig.for_model(family)
    found = shape({"model_type": family})

    assert (found.hidden_size, found.vocab_size) == (text.hidden_size, text.vocab_size)
    assert found.head_dim in (None, getattr(text, "head_dim", None))
    assert found.tie_word_embeddings is bool(text.tie_word_embeddings)


def test_names_of_old_families() -> None:
    """GPT-2's n_embd and n_layer, whose inner width is four times the width where it says nothing; Bloom's; OPT's."""
    gpt2 = {"model_type": "gpt2", "n_embd": 96, "n_layer": 2, "n_head": 3, "vocab_size": 50, "n_positions": 64}
    found = shape({**gpt2, "n_inner": None, "intermediate_size": 7, "tie_word_embeddings": True})
    assert (found.hidden_size, found.num_hidden_layers, found.num_attention_heads) == (96, 2, 3)
    assert (found.intermediate_size, found.max_position_embeddings) == (384, 64)
    assert shape({**gpt2, "n_inner": 100, "tie_word_embeddings": True}).intermediate_size == 100

    bloom = {"model_type": "bloom", "hidden_size": 96, "n_layer": 2, "n_head": 3, "vocab_size": 50}
    assert shape({**bloom, "tie_word_embeddings": True}).intermediate_size == 384
    opt = {**bloom, "model_type": "opt", "num_hidden_layers": 2, "num_attention_heads": 3, "ffn_dim": 100}
    assert shape({**opt, "tie_word_embeddings": True}).intermediate_size == 100


def test_without_transformers_nothing_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file leaves to the class is not known then: no shape, and the names that were looked for."""
    monkeypatch.setattr(module, "class_defaults", lambda family: None)
    assert shape(LLAMA).hidden_size == 64

    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    found = config_of({"model_type": "gemma3", "text_config": text, "vision_config": {}})
    heads = "num_attention_heads or n_head or n_heads or num_heads"
    assert found == BaseConfig("gemma3", None, (heads, "vocab_size", "tie_word_embeddings"))


def test_what_a_formula_takes_for_granted() -> None:
    """A bias where the family has none, a norm that it has: said, since its numbers are then others."""
    assert config_of(LLAMA).unusual == ()
    assert config_of({**LLAMA, "attention_bias": True}).unusual == ("attention_bias true",)
    post = {**LLAMA, "model_type": "hyperclovax", "use_post_norm": False}
    assert config_of(post).unusual == ("use_post_norm false",)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("{", "a config.json that is no JSON"),
        ("[" * 100_000, "a config.json that is no JSON"),
        ("[]", "a config.json without a model_type"),
        ({**LLAMA, "model_type": 3}, "a config.json without a model_type"),
        ({**LLAMA, "hidden_size": "wide"}, 'hidden_size "wide" in its config.json'),
        ({**LLAMA, "num_hidden_layers": 0}, "num_hidden_layers 0 in its config.json"),
        ({**LLAMA, "vocab_size": [1]}, r"vocab_size \[1\] in its config.json"),
    ],
)
def test_what_cannot_be_read(values: Any, said: str, tmp_path: Path) -> None:
    """What is wrong with the file, in a few words."""
    with pytest.raises(UnreadableConfigError, match=f"^{said}$"):
        read_config(written(tmp_path, values))


def test_a_folder_without_a_file(tmp_path: Path) -> None:
    """No file, and one that is far too large."""
    with pytest.raises(UnreadableConfigError, match=r"^no config.json that can be read \(No such file or directory\)$"):
        read_config(tmp_path)
    with pytest.raises(UnreadableConfigError, match=r"^a config.json of more than 4,194,304 bytes$"):
        read_config(written(tmp_path, " " * (module.MAX_BYTES + 1)))


def test_where_a_model_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the recipe first, then where the command is given; anything else is an id of the hub."""
    for place in ("recipes/mine", "here/mine", "here/other"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")

    assert model_folder("mine", tmp_path / "recipes") == tmp_path / "recipes" / "mine"
    assert model_folder("other", tmp_path / "recipes") == Path("other")
    assert model_folder("Qwen/Qwen3-8B", tmp_path / "recipes") is None
    assert model_folder("x" * 5000, tmp_path / "recipes") is None


def test_differences() -> None:
    """Each number that is not the same, with both; another family alone; what is only written otherwise is the same."""
    one = Shape(family="qwen3", hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                vocab_size=100)  # fmt: skip

    assert list(differences(one, one.model_copy(update={"head_dim": 16, "num_key_value_heads": 4}))) == []
    assert list(differences(one.model_copy(update={"family": "gemma3_text"}), one)) == [
        ("family", "gemma3_text", "qwen3")
    ]
    found = one.model_copy(update={"head_dim": 128, "num_key_value_heads": 2, "tie_word_embeddings": True})
    assert list(differences(found, one)) == [
        ("tie_word_embeddings", True, False), ("num_key_value_heads", 2, 4), ("head_dim", 128, 16),
    ]  # fmt: skip
