"""The script of docs/recipes.md, a Trainer of its own with a bundled recipe, runs as it is printed, also with TRL."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny import byte_level_tokenizer, english, korean, llama
from transformers import DataCollatorForLanguageModeling

from ko_cpt_callbacks import Recipe

ROOT = Path(__file__).resolve().parents[2]
HEADING = "## Your own Trainer with a bundled recipe"
STEPS = 4

pytestmark = pytest.mark.both_versions


def snippet() -> str:
    """The section's only block of Python."""
    section = (ROOT / "docs" / "recipes.md").read_text("utf-8").split(f"\n{HEADING}\n", 1)[1].split("\n## ", 1)[0]
    (block,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return block


def shortened(code: str) -> str:
    """The same with a few steps in every stage."""
    changes = []
    for stage in Recipe.load("quickstart").stages:
        for name, value in (("max_steps", STEPS), ("eval_steps", 2), ("save_steps", STEPS)):
            changes.append(f"stages.{stage}.arguments.{name}={value}")
    short = code.replace('Recipe.load("quickstart")', f'Recipe.load("quickstart", {changes!r})')
    assert short != code
    return short


def names(folder: Path, *, for_trl: bool) -> dict[str, Any]:
    """What the snippet takes from the script around it."""
    tokenizer = byte_level_tokenizer()
    llama(len(tokenizer), hidden=64).save_pretrained(folder / "model")

    def rows(texts: tuple[str, ...]) -> Dataset:
        if for_trl:
            return Dataset.from_dict({"text": [text[:200] for text in texts]})
        return Dataset.from_dict({"input_ids": [tokenizer(text[:200])["input_ids"] for text in texts]})

    return {
        "MODEL": str(folder / "model"),
        "DEVICE": "cpu",
        "train": rows(korean()[:24]),
        "korean": rows(korean()[24:34]),
        "english": rows(english()[:6]),
        "collator": None if for_trl else DataCollatorForLanguageModeling(tokenizer, mlm=False),
        "tokenizer": tokenizer,
    }


@pytest.mark.parametrize("trl", [False, True], ids=["Trainer", "SFTTrainer"])
def test_the_snippet(trl: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage leaves a run folder of its own, with exact numbers and what the recipe watches for; what was
    trained has moved, the 8-bit weights have not."""
    monkeypatch.chdir(tmp_path)
    code = shortened(snippet())
    if trl:
        code = code.replace("    trainer = Trainer(", "    trainer = SFTTrainer(")
        code = code.replace('f"run/{stage}")', 'f"run/{stage}", SFTConfig)')
        code = f"from trl import SFTConfig, SFTTrainer\n{code}"
        assert "SFTTrainer(" in code and "SFTConfig)" in code
    space = names(tmp_path, for_trl=trl)
    exec(compile(code, "docs/recipes.md", "exec"), space)

    recipe, model = space["recipe"], space["model"]
    for stage in recipe.stages:
        record = tmp_path / "run" / stage / "ko_cpt"
        told = json.loads((record / "run.json").read_text("utf-8"))["watch"]
        assert told["targets"] == list(recipe.page.stages[stage].watch.targets)
        rows = [json.loads(line) for line in (record / "rows.jsonl").read_text("utf-8").splitlines()]
        last = [row for row in rows if row["kind"] == "eval" and row["step"] == STEPS]
        assert {row["split"] for row in last} == {"eval_ko", "eval_en"}
        assert all(row[f"{row['split']}_exact_loss"] > 0 for row in last)
        found = [json.loads(line) for line in (record / "findings.jsonl").read_text("utf-8").splitlines()]
        said = {item["code"] for item in found if item["severity"] != "info"}
        assert not {"adapters-frozen", "no-trainable-parameters", "embeddings-untied"} & said
    before = llama(len(byte_level_tokenizer()), hidden=64).state_dict()
    parts = dict(model.named_parameters())
    bodies = {name: part for name, part in parts.items() if part.dtype == torch.int8}
    assert len(bodies) == 14
    head = parts["base_model.model.lm_head.modules_to_save.default.weight"]
    assert not torch.equal(head.float(), before["lm_head.weight"])
    assert all(part.any() for name, part in parts.items() if "lora_B" in name)
