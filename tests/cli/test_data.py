"""``ko-cpt data`` makes the rows that ``ko-cpt train`` then trains on, and says what it left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_recipe import small_recipe
from tiny import korean
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.recipe.reading import read_recipe
from ko_cpt_callbacks.training.run import RunOptions, run_recipe

RECIPE = small_recipe(
    "ko: {language: ko, files: texts.jsonl, filters: {hangul_share: {minimum: 0.5}}}", mix="{ko: 1}", held_out=0.2
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """With a text that is twice there, one in English, and a line that is no JSON."""
    texts = [text for text in korean() if len(text) > 150][:30]
    lines = [json.dumps({"text": text}) for text in [*texts, "English " * 30]]
    (tmp_path / "texts.jsonl").write_text("\n".join([*lines, "{broken", *lines[:3]]), encoding="utf-8")
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a machine without a GPU")
def test_rows_of_a_recipe_that_trains_on_a_gpu(recipe: Path, tmp_path: Path) -> None:
    """They are made where there is none, and the folder keeps the recipe as it is: a GPU goes on with it."""
    recipe.write_text(RECIPE.replace("use_cpu: true", "bf16: true"), encoding="utf-8")
    run = tmp_path / "run"
    made = CliRunner().invoke(app, ["data", str(recipe), "--output", str(run), "--workers", "1", "--skip-bad"])
    assert made.exit_code == 0, made.output
    assert (run / "data" / "report.json").exists()
    plan = json.loads((run / "ko_cpt" / "plan.json").read_text("utf-8"))
    assert plan["recipe"]["stages"]["all"]["arguments"] == {
        "max_steps": 2, "per_device_train_batch_size": 2, "report_to": "none", "bf16": True,
    }  # fmt: skip
    refused = CliRunner().invoke(app, ["train", str(recipe), "--output", str(run), "--resume"])
    assert refused.exit_code == 2
    assert "bf16: found true where there is no CUDA GPU" in refused.output


def test_rows_before_the_training(recipe: Path, tmp_path: Path) -> None:
    """A bad line is refused with its place, or left out and listed; the training goes on with these rows."""
    run = tmp_path / "run"
    command = ["data", str(recipe), "--output", str(run), "--workers", "1"]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2
    assert f"{tmp_path / 'texts.jsonl'}, which cannot be read as JSON objects (line 32: " in refused.output

    made = CliRunner().invoke(app, [*command, "--skip-bad"])
    assert made.exit_code == 0, made.output
    assert "texts.jsonl: 1 left out, which cannot be read (first line 32: " in made.output
    assert made.output.rstrip().endswith(f"ko-cpt train {recipe} --output {run} --resume")

    report = json.loads((run / "data" / "report.json").read_text("utf-8"))
    entry = report["train"]["sources"]["ko"]
    dropped = {part["filter"]: part["dropped_documents"] for part in entry["filters"]}
    assert dropped["hangul-share"] == 1
    assert dropped["exact-duplicates"] + dropped["held-out-duplicates"] <= 3
    assert report["bad"]["rows"] == 1
    assert sum(entry["lengths"].values()) == entry["documents"]
    assert report["train"]["mixture"]["ko"]["tokens"] == 1
    assert report["eval"]["ko"]["rows"] > 0

    rows = {path.name: path.stat().st_mtime_ns for path in (run / "data").iterdir() if path.is_dir()}
    run_recipe(read_recipe(recipe), run, RunOptions(resume=True))
    again = json.loads((run / "data" / "report.json").read_text("utf-8"))
    assert again == report  # what was left out when the rows were made, too
    assert {path.name: path.stat().st_mtime_ns for path in (run / "data").iterdir() if path.is_dir()} == rows
    assert (run / "stages" / "01-all" / "model").is_dir()
