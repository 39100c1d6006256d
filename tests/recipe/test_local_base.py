"""A base that is a folder is looked at with the recipe: its shape need not be typed, and what is typed must agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import offline
from training.made_family import LORA, SIZES, made_config, written_recipe
from transformers import AutoConfig
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.errors import ConfigurationError, RecipeError
from ko_cpt_callbacks.recipe.family import count_page
from ko_cpt_callbacks.recipe.memory import recipe_memory
from ko_cpt_callbacks.recipe.plausibility import recipe_notes
from ko_cpt_callbacks.recipe.reading import read_recipe
from ko_cpt_callbacks.recipe.smoke import smoke_recipe

STAGES: dict[str, Any] = {
    "rows": {"trains": {"input": "all", "output": "all"}},
    "odd": {"trains": {"layers": "odd"}, "lora": LORA},
}
SHAPE: dict[str, Any] = {
    "family": "qwen3", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 900,
}  # fmt: skip


def a_recipe(folder: Path, family: str, *overrides: str, **base: Any) -> list[str]:
    """A recipe of a folder with that family's config.json, and no weights: the mistakes in it, without its name."""
    made_config(family).save_pretrained(folder / "model")
    path = written_recipe(folder, "model", STAGES, **base)
    try:
        read_recipe(path, overrides)
    except RecipeError as error:
        return str(error).replace(f"{path}:1: ", "").splitlines()
    return []


def validated(path: Path) -> tuple[int, str]:
    """Exit status of ``ko-cpt validate`` and what it prints."""
    found = CliRunner().invoke(app, ["validate", str(path)])
    return found.exit_code, (found.stdout if found.exit_code == 0 else found.stderr).replace(f"{path}", "FILE")


def test_the_shape_is_that_of_the_file(tmp_path: Path) -> None:
    """Numbers that are read need no source, and the recipe knows them all."""
    assert a_recipe(tmp_path, "qwen3", quantization="8-bit") == []
    found = read_recipe(tmp_path / "made.yaml")

    read = found.recipe.base.sizes.model_dump(exclude_none=True)
    assert read == {**SHAPE, "tie_word_embeddings": False, "max_position_embeddings": 128}
    assert "shape" not in found.document.values["base"]


def test_what_is_typed_for_another_model_is_not_used(tmp_path: Path) -> None:
    """The shape of the folder counts, also for what is checked; the numbers that are others are noted, not refused."""
    assert a_recipe(tmp_path, "qwen3", shape={**SHAPE, "hidden_size": 96, "num_hidden_layers": 9}) == []
    found = read_recipe(tmp_path / "made.yaml")
    assert found.recipe.base.sizes.num_hidden_layers == 3
    (note,) = [note for note in recipe_notes(found) if note.startswith("note: base.shape:")]
    said = "the config.json of model says hidden_size 64 (not 96), num_hidden_layers 3 (not 9)"
    assert note == f"note: base.shape: not used: {said}"
    assert note in validated(tmp_path / "made.yaml")[1].splitlines()

    layers = "stages.odd.trains.layers=[1, 5]"
    (line,) = a_recipe(tmp_path, "qwen3", layers, shape={**SHAPE, "num_hidden_layers": 9})
    assert line == "--set: stages.odd.trains.layers[1]: found 5, expected a layer from 0 to 2."
    assert a_recipe(tmp_path, "qwen3", shape=SHAPE) == []
    assert not any(note.startswith("note: base.shape:") for note in recipe_notes(read_recipe(tmp_path / "made.yaml")))
    a_recipe(tmp_path, "qwen3", shape={**SHAPE, "family": "gemma3"})
    assert "says family qwen3 (not gemma3)" in read_recipe(tmp_path / "made.yaml").base.note


@pytest.mark.parametrize(
    ("family", "overrides", "told"),
    [
        (
            "qwen3",
            ["stages.odd.trains.layers=[1, 3]"],
            "--set: stages.odd.trains.layers[1]: found 3, expected a layer from 0 to 2.",
        ),
        (
            "qwen3",
            ["data.sequence_length=129"],
            "--set: data.sequence_length: found 129, expected at most the 128 tokens that model has positions for.",
        ),
        (
            "gemma2",
            ["stages.rows.trains.output=none"],
            "stages.rows.trains: found input all and output none of a model in which both are one matrix, expected the "
            "same for both, or base.untie: true.",
        ),
        (
            "qwen3",
            ["base.untie=true"],
            "--set: base.untie: found two matrices already, expected tie_word_embeddings: true in the shape, or no "
            "untie.",
        ),
        (
            "phi3",
            ["stages.odd.lora.target_modules=[q_proj]"],
            '--set: stages.odd.lora.target_modules[0]: found the text "q_proj", expected a linear layer of '
            "phi3's blocks (o_proj, qkv_proj, gate_up_proj, down_proj), or all-linear; embedding and head: trains. "
            "Did you mean qkv_proj?",
        ),
    ],
)
def test_what_does_not_fit_the_model(family: str, overrides: list[str], told: str, tmp_path: Path) -> None:
    """What the recipe trains is looked for in the shape that was read, as in one that is typed."""
    assert a_recipe(tmp_path, family, *overrides) == [told]


def test_a_model_that_transformers_has_no_code_of(tmp_path: Path) -> None:
    """Told before it is loaded, with the family that was probably meant; the same of a family that is typed."""
    a_recipe(tmp_path, "qwen3")
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text("utf-8").replace('"qwen3"', '"qwen33"'), "utf-8")
    found = 'base.model: found model_type the text "qwen33" in its config.json, expected one'
    expected = "that the installed transformers makes a causal language model of. Did you mean qwen3?"
    with pytest.raises(RecipeError) as caught:
        read_recipe(tmp_path / "made.yaml")
    assert str(caught.value) == f"{tmp_path / 'made.yaml'}:1: {found} {expected}"

    source = ["source.base=x"]
    path = written_recipe(tmp_path, "org/qwen", STAGES, shape={**SHAPE, "family": "qwen33"})
    with pytest.raises(RecipeError, match=r"family: found the text \"qwen33\", .* Did you mean qwen3\?$"):
        read_recipe(path, source)
    file = read_recipe(written_recipe(tmp_path, "org/qwen", STAGES, shape=SHAPE), source)
    assert file.recipe.base.sizes.family == "qwen3"


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    """A folder of that name is not taken for an id of the hub."""
    (tmp_path / "model").mkdir()
    with pytest.raises(RecipeError, match=r"base.model: found a folder with no config.json that can be read"):
        read_recipe(written_recipe(tmp_path, "model", STAGES))


def test_a_model_of_the_hub(tmp_path: Path) -> None:
    """Valid without a shape: what cannot be estimated is said; --smoke, which has nothing to go by, says so."""
    path = written_recipe(tmp_path, "Qwen/Qwen3-8B", STAGES, revision="main")
    assert validated(path)[0] == 0
    said = "recipe made, 2 stages, memory not estimated: the shape of Qwen/Qwen3-8B is in its config.json, which ko-cpt"
    assert said in validated(path)[1]
    shown = CliRunner().invoke(app, ["recipes", "show", str(path), "--json"])
    values = json.loads(shown.stdout)
    assert (values["family"], values["parameters"], values["gpu_memory_bytes"]) == (None, None, None)
    with pytest.raises(ConfigurationError, match=r"^--smoke bundled: found no base.shape that tells it, expected "):
        smoke_recipe(read_recipe(path))


def test_experts_are_counted_and_not_adapted(tmp_path: Path) -> None:
    """Of a family without a formula the model is made on the meta device: its numbers, its layers' names; a fused
    expert, which no adapter of a linear layer reaches, is refused by name."""
    pytest.importorskip("transformers", minversion="5.0")
    assert a_recipe(tmp_path, "mixtral", quantization="8-bit") == []
    path = tmp_path / "made.yaml"
    assert " GiB on one GPU" in validated(path)[1]
    shown = CliRunner().invoke(app, ["recipes", "show", str(path), "--json"])
    assert json.loads(shown.stdout)["parameters"] == 2 * 900 * 64 + 64 + 3 * (12288 + 4 * 3 * 64 * 128 + 4 * 64 + 128)

    words = "(q_proj, k_proj, v_proj, o_proj), or all-linear; embedding and head: trains."
    for name, found, near in (
        ("q_porj", '"q_porj"', " Did you mean q_proj?"),
        ("down_proj", '"down_proj", which is one parameter for all experts of a layer: no adapter of a linear layer '
         "reaches it", " Did you mean o_proj?"),
    ):  # fmt: skip
        lora = {**LORA, "target_modules": ["o_proj", name]}
        written_recipe(tmp_path, "model", {**STAGES, "odd": {**STAGES["odd"], "lora": lora}}, quantization="8-bit")
        status, text = validated(path)
        assert (status, text.splitlines()) == (2, [
            f"ko-cpt validate: stages.odd.lora.target_modules[1]: found the text {found}, expected a linear layer of "
            f"model's blocks {words}{near}"
        ])  # fmt: skip


def test_what_bitsandbytes_leaves_alone(tmp_path: Path) -> None:
    """A family whose linear layers are all of a class of their own stays as large as it is: refused before a weight is
    loaded, and taken without quantization."""
    pytest.importorskip("transformers", minversion="5.0")
    sizes = {key: value for key, value in SIZES.items() if not key.startswith("num_key")}
    AutoConfig.for_model("falcon", **sizes).save_pretrained(tmp_path / "model")
    status, text = validated(written_recipe(tmp_path, "model", STAGES, quantization="8-bit"))
    assert (status, text.strip()) == (
        2,
        "ko-cpt validate: base.quantization: found linear layers that bitsandbytes leaves as they are "
        "(query_key_value, dense, dense_h_to_4h, dense_4h_to_h), expected those of the blocks in 8-bit; set "
        "quantization: none",
    )
    assert validated(written_recipe(tmp_path, "model", STAGES))[0] == 0


@pytest.mark.parametrize(("family", "measured"), [("llama", True), ("gemma3_text", True), ("qwen3", False)])
def test_whose_activations_they_are(family: str, measured: bool, tmp_path: Path) -> None:
    """A family that was measured has figures of its own; of any other it is said that they are Llama's."""
    a_recipe(tmp_path, family)
    for memory in recipe_memory(read_recipe(tmp_path / "made.yaml").recipe):
        (how,) = (term.how for term in memory.terms if term.name == "activations")
        assert how.endswith(f"; estimated as llama's; not measured for {family}") is not measured


def test_without_torch(tmp_path: Path) -> None:
    """The same recipe where torch and transformers cannot be imported: the formula's number where the family has one,
    else what is not estimated."""
    families = ("qwen3", "gemma3", "mixtral")
    for family in families:
        (tmp_path / family).mkdir()
        a_recipe(tmp_path / family, family, quantization="8-bit")
    paths = {family: tmp_path / family / "made.yaml" for family in families}
    ended = offline(*(["recipes", "show", str(path), "--json"] for path in paths.values()))
    for (family, path), one in zip(paths.items(), ended, strict=True):
        assert (one.returncode, one.stderr) == (0, "")
        found = json.loads(one.stdout)
        if family == "qwen3":
            with_torch = json.loads(CliRunner().invoke(app, ["recipes", "show", str(path), "--json"]).stdout)
            assert found["parameters"] == with_torch["parameters"] == count_page(read_recipe(path).recipe).total
            assert found["gpu_memory_bytes"] == with_torch["gpu_memory_bytes"] > 2**30
        else:
            assert (found["parameters"], found["gpu_memory_bytes"]) == (None, None)
