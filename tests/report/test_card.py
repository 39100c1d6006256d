"""``ko-cpt card``: what a run measured as the hub reads it, and a section that names cannot break."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from check.made_run import sums, write_run
from huggingface_hub import ModelCard
from report.page import HOSTILE, rows, state
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app

OWN = """---
license: apache-2.0
language: ko
tags:
- mine
model-index:
- name: my-model
  results:
  - task:
      type: text-generation
    dataset:
      name: KMMLU
      type: kmmlu
    metrics:
    - type: accuracy
      value: 0.5
      name: KMMLU accuracy
---

# My model

Words of mine.
"""


def _card(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["card", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def _results(text: str) -> dict[str, Any]:
    data: Any = ModelCard(text, ignore_metadata_errors=False).data
    return {one.metric_name: one.metric_value for one in data.eval_results or ()}


def test_the_card_has_the_exact_numbers(tmp_path: Path) -> None:
    """The hub's own reader finds loss, perplexity and bits per byte of every set, and the base model."""
    scored = sums()
    run = write_run(tmp_path / "run", {"eval_ko": scored}, run={"model": {"name_or_path": "org/base"}})
    text = _card(run)
    found = _results(text)
    assert found["eval_ko_exact_loss"] == pytest.approx(scored.nll.sum() / scored.tokens.sum())
    assert set(found) == {"eval_ko_exact_loss", "eval_ko_ppl", "eval_ko_bits_per_byte"}
    data: Any = ModelCard(text).data
    assert data.base_model == "org/base"
    assert text.count("\n---\n") == 1
    assert "## Training, as measured" in text


def test_the_trainers_loss_is_no_exact_number(tmp_path: Path) -> None:
    """A run without the callback has a section, in which the loss is called the Trainer's, and no result;
    nothing of it is called exact."""
    text = _card(state(tmp_path / "run", rows(100), max_steps=100))
    assert _results(text) == {}
    assert "(Trainer's)" in text
    assert "no exact loss was measured" in text
    assert "standard error" not in text


def test_a_card_that_there_is_keeps_its_own(tmp_path: Path) -> None:
    """Words, metadata and other results stay; what the run says is written once, and again in its place."""
    run, file = write_run(tmp_path / "run", {"eval_ko": sums()}), tmp_path / "README.md"
    file.write_text(OWN, "utf-8")
    _card(run, "-o", str(file))
    once = file.read_text("utf-8")
    _card(run, "-o", str(file))
    assert file.read_text("utf-8") == once
    data: Any = ModelCard(once).data
    assert (data.license, data.language, data.model_name) == ("apache-2.0", "ko", "my-model")
    assert data.tags == ["mine", "ko-cpt"]
    assert "KMMLU accuracy" in _results(once)
    assert "Words of mine." in once


def test_numbers_of_an_earlier_run_go(tmp_path: Path) -> None:
    """A card brought up to date from a run with other sets has that run's numbers alone, beside its owner's."""
    file = tmp_path / "README.md"
    file.write_text(OWN.replace("KMMLU accuracy", "their_ppl"), "utf-8")
    _card(write_run(tmp_path / "first", {"eval_ko": sums()}), "-o", str(file))
    assert {"their_ppl", "eval_ko_ppl"} <= set(_results(file.read_text("utf-8")))
    file.write_text(file.read_text("utf-8").replace("their_ppl", "KMMLU accuracy"), "utf-8")
    _card(write_run(tmp_path / "second", {"eval_legal": sums()}), "-o", str(file))
    names = {"KMMLU accuracy", *(f"eval_legal_{metric}" for metric in ("exact_loss", "ppl", "bits_per_byte"))}
    assert set(_results(file.read_text("utf-8"))) == names


@pytest.mark.parametrize("name", ["../base", "./base"])
def test_a_folder_beside_is_no_base_model(tmp_path: Path, name: str) -> None:
    """A relative path is no name on the hub."""
    run = write_run(tmp_path / "run", {"eval_ko": sums()}, run={"model": {"name_or_path": name}})
    text = _card(run)
    data: Any = ModelCard(text).data
    assert data.base_model is None
    assert name not in text


def test_hostile_names_are_inert(tmp_path: Path) -> None:
    """Names of sets and models open no tag, link, table cell, mention or code, and break no front matter."""
    name = f"{HOSTILE}|x|`y`[a](http://b)![i](c)@all www.d.e\n---\n# big"
    run = write_run(tmp_path / "run", {f"eval_{name}": sums()}, run={"versions": {name: "1"}}, keep_rows=False)
    text = _card(run)
    assert len(_results(text)) == 3
    body = text.split("\n---\n", 1)[1]
    for mark in "<|`[]!@":
        bare = re.findall(rf"(?<!\\){re.escape(mark)}", body)
        ours = {"<": 2, "!": 2, "|": len(re.findall(r"(?<!\\)\|", body))}
        assert len(bare) == ours.get(mark, 0), mark
    table = [line for line in body.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 2  # two tables, each with whole rows
    assert not re.search(r"^# big|http://|www\.d", body, re.MULTILINE)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", text)


def test_where_files_were_is_not_published(tmp_path: Path) -> None:
    """A local base model and the paths of the run's files are in no card."""
    run = write_run(tmp_path / "run", {"eval_ko": sums()}, run={"model": {"name_or_path": "/home/me/base"}})
    text = _card(run)
    assert "/home/me" not in text
    assert str(tmp_path) not in text


def test_a_card_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    """Broken front matter is one line on stderr, and the file stays."""
    run, file = write_run(tmp_path / "run", {"eval_ko": sums()}), tmp_path / "README.md"
    file.write_text("---\nlicense: [\n---\nmine", "utf-8")
    result = CliRunner().invoke(app, ["card", run, "-o", str(file)])
    assert result.exit_code == 2
    assert "front matter" in result.stderr
    assert file.read_text("utf-8") == "---\nlicense: [\n---\nmine"


def test_the_card_speaks_korean(tmp_path: Path) -> None:
    """With --lang ko the section is Korean."""
    assert "## 학습 측정 결과" in _card(write_run(tmp_path / "run", {"eval_ko": sums()}), "--lang", "ko")
