"""What a stage trains moves, by name, and nothing else does; bit by bit, over real steps of a real Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import collate, korean
from training.made_recipe import FIVE_STAGES, LAYERS, LORA, TIED, loaded, made_model, made_recipe, trainable
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Trainer

from ko_cpt_callbacks import ConfigurationError, Recipe
from ko_cpt_callbacks.compare.stage import Trains
from ko_cpt_callbacks.hf.model.trained_parts import read_stage

pytestmark = pytest.mark.both_versions

FAMILIES = ("llama", "gemma3", "qwen2")
_MLP = ["mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight"]
_ATTENTION = [f"self_attn.{name}_proj.weight" for name in "qkvo"]
_NORMS = ["input_layernorm.weight", "post_attention_layernorm.weight"]
BLOCK = {
    "llama": [*_ATTENTION, *_MLP, *_NORMS],
    "gemma3": [
        *_ATTENTION,
        "self_attn.q_norm.weight",
        "self_attn.k_norm.weight",
        *_MLP,
        *_NORMS,
        "pre_feedforward_layernorm.weight",
        "post_feedforward_layernorm.weight",
    ],
    "qwen2": [*_ATTENTION, *(f"self_attn.{name}_proj.bias" for name in "qkv"), *_MLP, *_NORMS],
}
ADAPTER = [f"{module}.lora_{part}.default.weight" for module in ("self_attn.q_proj", "mlp.down_proj") for part in "AB"]
INDICES = {"odd": [1, 3], "even": [0, 2], "two": [0, 3], "all": [0, 1, 2, 3], "embedding": []}
SCALES = {"8-bit": "SCB", "4-bit": "absmax"}
WORDS = {"odd": "odd", "even": "even", "two": "some", "all": "all", "embedding": "none"}


def expected(family: str, stage: str, *, adapters: bool) -> set[str]:
    """The names by hand."""
    parts = ADAPTER if adapters else BLOCK[family]
    names = {f"model.layers.{index}.{part}" for index in INDICES[stage] for part in parts}
    if stage in ("embedding", "all"):
        whole = ".modules_to_save.default.weight" if adapters else ".weight"
        names |= {f"model.embed_tokens{whole}", *(() if TIED[family] else (f"lm_head{whole}",))}
    if stage == "all" and not adapters:
        names.add("model.norm.weight")
    return names


def numbers(model: Any) -> dict[str, torch.Tensor]:
    """A copy of everything that a forward pass uses, quantised weights with their scales too."""
    return {name: part.detach().clone() for name, part in model.state_dict().items()}


def trained(recipe: Recipe, model: Any, stage: str, folder: Path, **arguments: Any) -> Any:
    """A few steps of the Trainer on Korean."""
    rows = [
        {"input_ids": [(7 * place + ord(letter)) % 600 for place, letter in enumerate(text[:40])]}
        for text in korean()[:9]
    ]
    trainer = Trainer(
        model=model,
        args=recipe.training_arguments(stage, folder / stage, **arguments),
        train_dataset=rows,  # type: ignore[arg-type]
        data_collator=collate,
    )
    trainer.train()
    assert all(torch.isfinite(part).all() for part in model.parameters() if part.is_floating_point())
    return trainer


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Names of what is not bit by bit as it was."""
    assert before.keys() == after.keys()
    return {name.removeprefix("base_model.model.") for name in before if not torch.equal(before[name], after[name])}


def same(names: set[str], family: str) -> set[str]:
    """With the head where it is the embedding: a state dict has it twice."""
    if TIED[family]:
        names |= {name.replace("model.embed_tokens", "lm_head") for name in names if "embed_tokens" in name}
    return names


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_themselves(family: str, tmp_path: Path) -> None:
    """In full precision, stage after stage: the names with a gradient are those written here, these move and nothing
    else does, and the stage is read from the model as what it is."""
    recipe = made_recipe(tmp_path, FIVE_STAGES, family=family)
    model = loaded(recipe, made_model(family), tmp_path / "base")
    for stage in recipe.stages:
        model = recipe.apply_trainable(model, stage)
        wanted = expected(family, stage, adapters=False)
        assert trainable(model) == wanted
        rows = "all" if stage in ("embedding", "all") else "none"
        assert read_stage(model).trains == Trains(rows, rows, WORDS[stage], "none")
        before = numbers(model)
        trained(recipe, model, stage, tmp_path)
        assert moved(before, numbers(model)) == same(wanted, family)


@pytest.mark.parametrize(("family", "quantization"), [*((family, "8-bit") for family in FAMILIES), ("llama", "4-bit")])
def test_over_a_quantised_body(family: str, quantization: str, tmp_path: Path) -> None:
    """With one adapter for the whole run: embeddings (and head) alone, adapters of odd, of even, of two layers, then
    all; what has no gradient stays bit by bit, the quantised weights and their scales too."""
    recipe = made_recipe(tmp_path, FIVE_STAGES, family=family, quantization=quantization)
    model = loaded(recipe, made_model(family), tmp_path / "base")
    seen = set()
    for stage in recipe.stages:
        model = recipe.apply_trainable(model, stage)
        seen.add(id(model))
        wanted = expected(family, stage, adapters=True)
        assert trainable(model) == wanted
        facts = read_stage(model)
        rows, adapter = ("all", "none") if stage == "embedding" else ("none", "lora")
        rows = "all" if stage == "all" else rows
        assert facts.trains == Trains(rows, rows, WORDS[stage], adapter)
        assert (facts.quantization, facts.tied) == (quantization, "tied" if TIED[family] else "untied")
        before = numbers(model)
        assert any(name.endswith(SCALES[quantization]) for name in before)
        trained(recipe, model, stage, tmp_path)
        assert moved(before, numbers(model)) == same(wanted, family)
    assert len(seen) == 1


def test_the_head_of_a_tied_model_made_two(tmp_path: Path) -> None:
    """With ``untie``, input and head are two equal matrices of which each can train alone; saved and loaded they are
    two."""
    stages = {"input": {"input": "all"}, "output": {"output": "all"}}
    recipe = made_recipe(tmp_path, stages, family="qwen2", base={"untie": True})
    model = loaded(recipe, made_model("qwen2"), tmp_path / "base")
    for stage, name in (("input", "model.embed_tokens.weight"), ("output", "lm_head.weight")):
        model = recipe.apply_trainable(model, stage)
        if stage == "input":
            assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
        assert trainable(model) == {name}
        before = numbers(model)
        trained(recipe, model, stage, tmp_path)
        assert moved(before, numbers(model)) == {name}
    model.save_pretrained(tmp_path / "after")
    again = type(model).from_pretrained(tmp_path / "after")
    assert not again.config.tie_word_embeddings
    assert moved(numbers(model), numbers(again)) == set()
    assert not torch.equal(again.lm_head.weight, again.model.embed_tokens.weight)


def test_half_of_one_matrix_is_refused(tmp_path: Path) -> None:
    """A model that is tied where the recipe's shape says that it is not: its head alone cannot train."""
    recipe = made_recipe(tmp_path, {"output": {"output": "all"}})
    with pytest.raises(ConfigurationError, match="one matrix, expected two, to train input none and output all"):
        recipe.apply_trainable(made_model("llama", tie_word_embeddings=True), "output")


def test_integers_do_not_train(tmp_path: Path) -> None:
    """A recipe of full precision on a model in 8 bits is refused, not trained in silence."""
    eight = made_recipe(tmp_path, FIVE_STAGES, quantization="8-bit")
    model = loaded(eight, made_model("llama"), tmp_path / "base")
    with pytest.raises(ConfigurationError, match=r"layer 1: found torch.int8 weights, which have no gradient"):
        made_recipe(tmp_path, FIVE_STAGES).apply_trainable(model, "odd")


def test_the_layers_that_a_stage_names(tmp_path: Path) -> None:
    """One layer through LoRA has adapters in that layer alone."""
    recipe = made_recipe(tmp_path, {"one": {"layers": [2]}}, adapters={"one": LORA})
    assert trainable(recipe.apply_trainable(made_model("llama"), "one")) == {
        f"model.layers.2.{name}" for name in ADAPTER
    }


def test_a_model_of_another_depth(tmp_path: Path) -> None:
    """A model with more layers than the recipe's: one that would get no adapter is told, and one that is not there."""
    recipe = made_recipe(tmp_path, {"odd": {"layers": "odd"}}, adapters={"odd": LORA})
    with pytest.raises(ConfigurationError, match="layers: found no adapter in layer 5, expected one"):
        recipe.apply_trainable(made_model("llama", num_hidden_layers=6), "odd")
    recipe = made_recipe(tmp_path, {"last": {"layers": [3]}})
    with pytest.raises(ConfigurationError, match=r"layers: found 2 in the model, expected \[3\] to be among them"):
        recipe.apply_trainable(made_model("llama", num_hidden_layers=2), "last")


@pytest.mark.parametrize("quantization", ["none", "8-bit"])
def test_names_of_another_family(quantization: str, tmp_path: Path) -> None:
    """GPT-NeoX (Polyglot-Ko) calls its parts otherwise, and its head has one name in each version of transformers."""
    model = made_model("gpt_neox")
    head = next(name for name, part in model.named_modules() if part is model.get_output_embeddings())
    lora = {**LORA, "target_modules": ["query_key_value", "dense_h_to_4h"]}
    stages = {name: FIVE_STAGES[name] for name in ("embedding", "odd")}
    adapters = {} if quantization == "none" else {"odd": lora}
    recipe = made_recipe(tmp_path, stages, family="gpt_neox", quantization=quantization, adapters=adapters)
    model = loaded(recipe, model, tmp_path / "base")
    for stage in recipe.stages:
        model = recipe.apply_trainable(model, stage)
        whole = ".modules_to_save.default.weight" if adapters else ".weight"
        found = trainable(model)
        if stage == "embedding":
            assert found == {f"gpt_neox.embed_in{whole}", f"{head}{whole}"}
        else:
            assert {name.split(".")[2] for name in found} == {"1", "3"}
            assert len(found) == (8 if adapters else 24)
        before = numbers(model)
        trained(recipe, model, stage, tmp_path)
        assert moved(before, numbers(model)) == found


def test_a_vision_tower_stands_still(tmp_path: Path) -> None:
    """Of a Gemma 3 with a vision tower the language model alone is trained: its attention has the same names."""
    text = made_model("gemma3").config.to_dict()
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    config = Gemma3Config(text_config=text, vision_config={**vision, "image_size": 28, "patch_size": 14})
    stages = {"odd": {"layers": "odd"}, "all": {"input": "all", "output": "all", "layers": "all"}}
    plain = made_recipe(tmp_path, stages, family="gemma3")
    through = made_recipe(tmp_path, stages, family="gemma3", adapters={"odd": LORA, "all": "odd"})
    for recipe, count in ((plain, 53 - 1), (through, 16)):
        model = recipe.apply_trainable(Gemma3ForConditionalGeneration(config), "odd")
        assert all(
            ".language_model.layers." in name and name.split(".layers.")[1][0] in "13" for name in trainable(model)
        )
        model = recipe.apply_trainable(model, "all")
        names = trainable(model)
        assert not [name for name in names if "vision" in name or "projector" in name]
        assert len([name for name in names if ".layers." in name]) == count
        assert not [name for name, _ in model.named_parameters() if "vision" in name and "lora_" in name]
