"""Every recipe that comes with the package, tried out on a CPU: all stages, real classes, real quantisation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import forked
import pytest
from e2e import run_files
from training import job_recipe

from ko_cpt_callbacks import Recipe
from ko_cpt_callbacks.recipe.bundle import recipe_ids
from ko_cpt_callbacks.recipe.smoke import STEPS, smoke_recipe

FILES = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))
CLASSES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "gemma3": "Gemma3ForCausalLM",
           "gpt_neox": "GPTNeoXForCausalLM", "qwen2": "Qwen2ForCausalLM"}  # fmt: skip


def test_no_recipe_is_left_out() -> None:
    """The recipes that are tried out are the files of the folder."""
    assert list(recipe_ids()) == FILES != []


@pytest.mark.parametrize("name", recipe_ids())
def test_a_recipe_holds_together(name: str, tmp_path: Path) -> None:
    """Every stage does its three steps on a model of its family, in its precision and quantisation; what it trains
    moves and everything else is bit for bit as before; nothing is loaded from elsewhere."""
    recipe = Recipe.load(name)
    folder = tmp_path / "run"
    arguments = ["train", name, "--smoke", "bundled", "--output", str(folder)]
    outcome = forked.run(job_recipe.ko_cpt, arguments, folder=tmp_path, timeout=300)
    assert forked.value(outcome) == 0, outcome.text
    plan = json.loads((folder / "ko_cpt" / "plan.json").read_text("utf-8"))
    assert plan["finished"] is True
    assert [stage["name"] for stage in plan["stages"]] == list(recipe.stages)
    base = recipe.page.base
    config = json.loads((folder / "base" / "model" / "config.json").read_text("utf-8"))
    assert config["architectures"] == [CLASSES[base.sizes.family]]
    for stage in plan["stages"]:
        assert f"  {stage['name']}: " in outcome.text and "others are bit for bit as before" in outcome.text
        run = run_files.run(folder / stage["folder"])
        assert run["model"]["quantization"] == base.quantization
        rows = run_files.rows(folder / stage["folder"])
        assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, STEPS + 1))
        assert all(row["loss"] > 0 and row["grad_norm"] > 0 for row in rows if row["kind"] == "train")
        evaluated = {row["split"] for row in rows if row["kind"] == "eval" and row["step"] == STEPS}
        assert evaluated == {f"eval_{name}" for name in recipe.page.eval}
    assert outcome.text.count("bit for bit") == len(recipe.stages)
    said = outcome.text.splitlines()[-1]
    assert re.fullmatch(rf"smoke ok: {len(recipe.stages)} stages?, the right tensors moved, [\d.]+ GiB estimated", said)
    assert all(run_files.findings(folder / stage["folder"]) == [] for stage in plan["stages"])
    assert ("new tokens" in outcome.text) == (recipe.page.tokenizer is not None)
    fertility = json.loads((folder / "data" / "report.json").read_text("utf-8"))["fertility"]
    if recipe.page.tokenizer is None:
        assert fertility is None
    else:
        assert 0 < fertility["after"]["tokens_per_character"] <= fertility["before"]["tokens_per_character"]


@pytest.mark.parametrize("name", recipe_ids())
def test_what_matters_is_kept(name: str) -> None:
    """Small, a recipe trains the same parts through the same adapters, in the same precision, on the same mix."""
    page, small = Recipe.load(name).page, smoke_recipe(Recipe.load(name).file).recipe
    assert list(small.stages) == list(page.stages)
    for stage, part in page.stages.items():
        assert small.stages[stage].lora == part.lora
        assert small.stages[stage].trains == part.trains or isinstance(part.trains.layers, list)
        assert small.stages[stage].watch.baseline == part.watch.baseline
    for key in ("dtype", "quantization", "untie"):
        assert getattr(small.base, key) == getattr(page.base, key)
    assert (small.base.sizes.family, small.base.tied) == (page.base.sizes.family, page.base.tied)
    for key in ("mix", "mix_by", "packing"):
        assert getattr(small.data, key) == getattr(page.data, key)
    assert (small.task, small.seed) == (page.task, page.seed)
    assert small.eval.keys() == page.eval.keys()
    assert all(part.hub is None and part.files is None for part in small.data.sources.values())
