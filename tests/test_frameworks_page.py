"""docs/frameworks.md and README.md: their snippets are short, and do what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import tiny
from ruamel.yaml import YAML

from ko_cpt_callbacks.integrations.block import read_block

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [ROOT / "docs" / "frameworks.md", ROOT / "docs" / "ko" / "frameworks.md"]


def _snippets(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def test_three_lines_each() -> None:
    """Three of Python and two of YAML, the same in both languages."""
    english, korean = ([_snippets(page, language) for language in ("python", "yaml")] for page in PAGES)
    assert english == korean
    assert [text.count("\n") for texts in english for text in texts] == [3, 3, 3, 3, 3]


@pytest.mark.parametrize("page", [PAGES[0], README], ids=["guide", "README"])
@pytest.mark.parametrize("number", [0, 1], ids=["Trainer", "TRL"])
def test_the_python_snippets_run(tmp_path: Path, page: Path, number: int) -> None:
    """Each trains and has the exact loss of both sets in its log."""
    from transformers import Trainer, TrainingArguments
    from trl import SFTConfig, SFTTrainer

    settings: dict[str, Any] = {
        "output_dir": str(tmp_path),
        "max_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "save_strategy": "no",
    }
    tokenizer = tiny.byte_level_tokenizer()
    rows = [{**row, "labels": row["input_ids"]} for row in tiny.packed(tiny.korean(), tokenizer, 32)[:12]]
    if number:
        from datasets import Dataset

        rows, args = Dataset.from_list([{"input_ids": row["input_ids"]} for row in rows]), SFTConfig(**settings)
        model = tiny.llama(len(tokenizer))
        bound = {"SFTTrainer": lambda *a, **k: SFTTrainer(*a, **{"processing_class": tokenizer, **k})}
    else:
        args, model, bound = TrainingArguments(**settings), tiny.llama(len(tokenizer)), {"Trainer": Trainer}
    sets = dict.fromkeys(("train", "ko", "en", "korean", "english"), rows)
    space: dict[str, Any] = {**bound, **sets, "model": model, "args": args, "tokenizer": tokenizer}
    exec(_snippets(page, "python")[number], space)
    if page == README:  # its two do not train yet
        space["trainer"].train()
    history = space["trainer"].state.log_history
    assert any("eval_ko_exact_loss" in row for row in history)
    assert any("eval_en_exact_loss" in row for row in history)


@pytest.mark.parametrize("number", [0, 1], ids=["Axolotl", "LLaMA-Factory"])
def test_the_blocks_can_be_used(number: int) -> None:
    """Each block is one that the plugin and the launcher take; training by them is a test marked framework."""
    page = YAML(typ="safe").load(_snippets(PAGES[0], "yaml")[number])
    assert read_block(page["ko_cpt"]).callback() is not None
