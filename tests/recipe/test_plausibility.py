"""What is allowed and hardly ever meant: a note with the usual range and its source, and never a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ko_cpt_callbacks.errors import RecipeError
from ko_cpt_callbacks.recipe import arguments
from ko_cpt_callbacks.recipe.bundle import find_recipe, recipe_ids
from ko_cpt_callbacks.recipe.installed import installed_choices
from ko_cpt_callbacks.recipe.plausibility import (
    FEWEST_TOKENS,
    HIGHEST_RATE,
    LOWEST_RATE,
    MOST_EPOCHS,
    MOST_TOKENS,
    recipe_notes,
)
from ko_cpt_callbacks.recipe.reading import read_recipe

RECIPE = """\
title: Plain
base:
  model: someone/some-model
  shape: {family: llama, hidden_size: 64, intermediate_size: 96, num_hidden_layers: 4, num_attention_heads: 4,
    vocab_size: 1000}
  dtype: bfloat16
data:
  sequence_length: 512
  packing: true
  held_out: 0.01
  sources: {ko: {language: ko, files: text.jsonl, passes: 2}, en: {language: en, files: more.jsonl}}
  mix: {ko: 3, en: 1}
eval: {ko: {source: ko}, en: {source: en, retention: true}}
defaults:
  arguments: {max_steps: 100, learning_rate: 1e-4, warmup_steps: 10, per_device_train_batch_size: 16}
stages:
  one: {trains: {input: all, output: all}}
  two: {trains: {layers: all}}
"""


def _notes(folder: Path, *overrides: str, text: str = RECIPE) -> list[str]:
    path = folder / "plain.yaml"
    path.write_text(text, "utf-8")
    return recipe_notes(read_recipe(path, overrides))


@pytest.mark.parametrize("id", recipe_ids())
def test_bundled_recipes_are_usual(id: str) -> None:
    """Of their arguments nothing is said; only of a baseline that no run can be compared with."""
    notes = recipe_notes(read_recipe(find_recipe(id)))
    assert [note for note in notes if ".watch.baseline: " not in note] == []


def test_what_is_usual(tmp_path: Path) -> None:
    """Nothing is said, at the ends of the ranges too."""
    assert _notes(tmp_path) == []
    for rate in (LOWEST_RATE, HIGHEST_RATE):
        assert _notes(tmp_path, f"defaults.arguments.learning_rate={rate}") == []
    rows = (FEWEST_TOKENS // 512, MOST_TOKENS // 512)
    for number in rows:
        assert _notes(tmp_path, f"defaults.arguments.per_device_train_batch_size={number}") == []
    assert _notes(tmp_path, "defaults.arguments.warmup_steps=99") == []
    epochs = ["defaults.arguments.max_steps=-1", f"defaults.arguments.num_train_epochs={MOST_EPOCHS / 2}"]
    assert _notes(tmp_path, *epochs) == []


ONE = "stages.one.arguments"
RATE = "is no usual learning rate; usual are 1e-06 to 0.01 (published: 1e-5, llama-2-ko, to 2e-4, Chinese-LLaMA; "


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["defaults.arguments.learning_rate=2e4"], f"stages.*.arguments.learning_rate: 20000 {RATE}"),
        (["stages.two.arguments.learning_rate=9e-7"], f"stages.two.arguments.learning_rate: 9e-07 {RATE}"),
        (["stages.one.arguments.learning_rate=0.011"], f"stages.one.arguments.learning_rate: 0.011 {RATE}"),
        (["stages.one.arguments.learning_rate=0"], f"stages.one.arguments.learning_rate: 0 {RATE}"),
        (
            ["stages.two.arguments.warmup_steps=100"],
            "stages.two.arguments.warmup_steps: the warm-up of 100 steps takes all of the stage's 100; usual are 5 %",
        ),
        (
            ["defaults.arguments.per_device_train_batch_size=7"],
            "stages.*.arguments.gradient_accumulation_steps: 7 rows × 1 × 512 tokens are 3,584 a step and card; usual "
            "are 4,096 to 8,388,608 (published: 32,768, medgemma_korean, to 8,388,608, Thunder-LLM;",
        ),
        (
            ["stages.two.arguments.gradient_accumulation_steps=1025"],
            "stages.two.arguments.gradient_accumulation_steps: 16 rows × 1,025 × 512 tokens are 8,396,800 a step",
        ),
        (
            ["stages.two.arguments.max_steps=-1"],
            "stages.two.arguments.num_train_epochs: 3 epochs of 2 passes of ko go over the text 6 times; up to 4 "
            "repeated text is worth almost as much as new text (Muennighoff et al. 2023, https://arxiv.org/abs/2305",
        ),
        (
            ["data.sources.ko.passes=1", f"{ONE}.max_steps=-1", f"{ONE}.num_train_epochs=5"],
            "stages.one.arguments.num_train_epochs: 5 epochs go over the text 5 times; up to 4 ",
        ),
        (
            ["stages.two.arguments.metric_for_best_model=eval_kor_loss"],
            "stages.two.arguments.metric_for_best_model: eval_kor_loss is of no set of eval (ko, en), and ends the "
            "training in an error; probably eval_ko_loss is meant",
        ),
        (
            ["stages.two.watch.baseline=medgemma-a6000-a"],
            "stages.two.watch.baseline: medgemma-a6000-a will be shown, but not compared with: medgemma-a6000-a is no "
            "reference for continued pretraining",
        ),
    ],
)
def test_what_is_not(overrides: list[str], expected: str, tmp_path: Path) -> None:
    """One note, of all stages together where it is the same for all, with the usual range and where that is from."""
    (line,) = _notes(tmp_path, *overrides)

    assert line.startswith(f"note: {expected}")


def test_a_share_of_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm-up by share that is all of the stage, where the installed transformers has one."""
    monkeypatch.setattr(arguments, "installed_arguments", lambda: None)

    assert _notes(tmp_path, f"{ONE}.warmup_ratio=0.1") == []
    (line,) = _notes(tmp_path, f"{ONE}.warmup_ratio=1")
    assert line.startswith(f"note: {ONE}.warmup_ratio: the warm-up takes all of the stage; usual are 5 %")


def test_a_baseline_with_bits_per_byte_can_be_compared_with(tmp_path: Path) -> None:
    """RedWhale's can; nothing is said."""
    assert _notes(tmp_path, "stages.*.watch.baseline=redwhale") == []


def test_a_model_made_on_the_spot(tmp_path: Path) -> None:
    """Its batch may be of any size; its own pretraining is looked at too."""
    build = "{family: llama, hidden_size: 64, intermediate_size: 96, num_hidden_layers: 1, num_attention_heads: 4, "
    build += "tokenizer: {algorithm: byte-level-bpe, vocab_size: 400, sources: [ko]}, "
    build += "pretraining: {sources: [en], arguments: {max_steps: 3, warmup_steps: 4}}}"
    head, rest = RECIPE.split("  model: ", 1)
    text = f"{head}  build: {build}\n  dtype: {rest.split('  dtype: ', 1)[1]}"

    (line,) = _notes(tmp_path, "defaults.arguments.per_device_train_batch_size=1", text=text)
    assert line.startswith("note: base.build.pretraining.arguments.warmup_steps: the warm-up of 4 steps takes all of")


# -- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.both_versions
@pytest.mark.parametrize(
    ("name", "value", "near"),
    [
        ("lr_scheduler_type", "cosin", "cosine"),
        ("eval_strategy", "step", "steps"),
        ("save_strategy", "epochs", "epoch"),
        ("optim", "adamw8bit", "adamw_8bit"),
        ("optim", "adam", "adamw_torch"),
    ],
)
def test_a_word_that_an_argument_does_not_know(name: str, value: str, near: str, tmp_path: Path) -> None:
    """Refused when the recipe is read, with the words that there are and the one that was probably meant."""
    with pytest.raises(RecipeError) as caught:
        _notes(tmp_path, f"defaults.arguments.{name}={value}")

    said = str(caught.value)
    assert said.startswith(f'--set: defaults.arguments.{name}: found the text "{value}", expected one of ')
    assert said.endswith(f" Did you mean {near}?")


@pytest.mark.both_versions
def test_the_words_are_the_class_s_own() -> None:
    """What is read from the source is what the imported class knows."""
    from transformers import SchedulerType
    from transformers.trainer_utils import IntervalStrategy
    from transformers.training_args import OptimizerNames

    words: dict[str, Any] = dict(installed_choices())
    enums = {"lr_scheduler_type": SchedulerType, "optim": OptimizerNames, "eval_strategy": IntervalStrategy}
    for name, enum in enums.items():
        assert set(words[name]) == {item.value for item in enum}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("class A(", {}),
        ("class A(Other):\n    B = 'b'\n", {}),
        ("class A(ExplicitEnum):\n    B = 'b'\n    C = 3\n", {"x": ("b",)}),
    ],
)
def test_a_source_that_is_not_understood(source: str, words: dict[str, Any], tmp_path: Path) -> None:
    """No words, so that nothing is refused by mistake."""
    (tmp_path / "trainer_utils.py").write_text(source, "utf-8")
    (tmp_path / "training_args.py").write_text("class TrainingArguments:\n    x: A | str\n", "utf-8")
    assert installed_choices(tmp_path) == words
