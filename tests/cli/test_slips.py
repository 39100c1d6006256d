"""What people get wrong in a recipe, one slip each: ``ko-cpt validate`` says it, with what was probably meant.

Written from the page alone, as somebody types who has not read the checks: keys, paths, indentation, types, ranges,
units, words, sets, stages, texts, encodings.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app

RECIPE = """\
title: Mine
base:
  model: base
  dtype: bfloat16
  quantization: 8-bit
tokenizer:
  extend: {source: ko, tokens: 800, minimum_count: 30}
data:
  sequence_length: 512
  packing: true
  held_out: 0.02
  sources:
    ko: {language: ko, files: ko.jsonl}
    en: {language: en, files: [en.txt]}
  mix: {ko: 3, en: 1}
eval:
  ko: {source: ko, max_documents: 200}
  en: {source: en, retention: true}
defaults:
  arguments: {max_steps: 100, learning_rate: 1e-4, warmup_steps: 5, per_device_train_batch_size: 8,
    lr_scheduler_type: cosine, eval_strategy: steps, eval_steps: 10, optim: adamw_torch}
stages:
  rows:
    trains: {input: new, output: new}
  odd:
    trains: {layers: odd}
    lora: {r: 8, lora_alpha: 16, target_modules: [q_proj, v_proj]}
    watch: {targets: ["eval_ko_bits_per_byte<-2%@end"], stop_on: [non-finite], patience: 3}
  even:
    trains: {layers: even}
    lora: odd
"""
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 800,
    "tie_word_embeddings": False,
}  # fmt: skip
KOREAN = "한국어 글이 여기에 있습니다.\n" * 60
ROWS = "".join(json.dumps({"text": line}, ensure_ascii=False) + "\n" for line in KOREAN.splitlines())

# What is typed instead of what, and words that the message has.
TYPED: dict[str, tuple[str, str, str]] = {
    "a key that is misspelt": ("held_out:", "heldout:", "Did you mean held_out?"),
    "a key of another library": ("sequence_length:", "max_seq_length:", "data.max_seq_length: found an unknown key"),
    "a key at the wrong place": ("  quantization: 8-bit\n", "load_in_8bit: true\n", "load_in_8bit: found an unknown"),
    "a key that is forgotten": ("  packing: true\n", "", "data.packing: found nothing, expected this key"),
    "a key twice": ("  packing: true\n", "  packing: true\n  packing: false\n", "found the key a second time"),
    "an argument that is misspelt": ("learning_rate:", "learning_rat:", "Did you mean learning_rate?"),
    "an argument of an old version": ("eval_strategy:", "evaluation_strategy:", "Did you mean eval_strategy?"),
    "an argument outside of arguments": (
        "    trains: {layers: even}\n", "    trains: {layers: even}\n    max_steps: 5\n", "stages.even.max_steps:",
    ),
    "an argument that the command sets": ("max_steps: 100", "output_dir: out, max_steps: 100", "sets itself"),
    "a tab": ("  packing: true", "\tpacking: true", "found a tab, expected spaces"),
    "one space too few": ("  held_out: 0.02", " held_out: 0.02", "found no YAML"),
    "a colon without a space": ("title: Mine", "title:Mine", "found no YAML"),
    "a quote that is not closed": ("title: Mine", 'title: "Mine', "found no YAML"),
    "a bracket that is not closed": ("[q_proj, v_proj]", "[q_proj, v_proj", "found no YAML"),
    "a number in quotation marks": ("learning_rate: 1e-4", 'learning_rate: "1e-4"', "Did you mean 1e-4?"),
    "a word for a number": ("max_steps: 100", "max_steps: all", "defaults.arguments.max_steps: found the text"),
    "a unit in a number": ("sequence_length: 512", "sequence_length: 2k", 'found the text "2k", expected a whole'),
    "a fraction for a count": ("tokens: 800", "tokens: 0.8", "found 0.8, expected a whole number"),
    "yes for true": ("retention: true", "retention: yes", 'found the text "yes", expected true or false'),
    "a share in percent": ("held_out: 0.02", "held_out: 2", "found 2, expected less than 1"),
    "a percent sign": ("held_out: 0.02", "held_out: 2%", 'found the text "2%", expected a number'),
    "a negative step": ("max_steps: 100", "max_steps: -100", "found -100, expected at least 1, or -1"),
    "no batch": ("per_device_train_batch_size: 8", "per_device_train_batch_size: 0", "found 0, expected at least 1"),
    "a learning rate without its minus": ("learning_rate: 1e-4", "learning_rate: 1e4", "10000 is no usual learning"),
    "a warm-up of another run": ("warmup_steps: 5", "warmup_steps: 500", "takes all of the stage's 100"),
    "too many epochs": ("max_steps: 100", "num_train_epochs: 10", "10 epochs go over the text 10 times"),
    "another way to write 8-bit": ("8-bit", "int8", 'base.quantization: found the text "int8", expected none or 8-bit'),
    "a short word for a type": ("bfloat16", "bf16", 'base.dtype: found the text "bf16", expected bfloat16'),
    "a scheduler that is misspelt": ("cosine", "cosin", "Did you mean cosine?"),
    "an optimizer that there is not": ("adamw_torch", "adamw", 'optim: found the text "adamw", expected one of'),
    "a source that there is not": ("{source: en, retention", "{source: eng, retention", "Did you mean en?"),
    "a mix of another source": ("mix: {ko: 3, en: 1}", "mix: {ko: 3, eng: 1}", "Did you mean en?"),
    "a mix as a list": ("mix: {ko: 3, en: 1}", "mix: [ko, en]", "data.mix: found a list of 2, expected a mapping"),
    "a set that is not evaluated": ("eval_ko_bits", "eval_kor_bits", "Did you mean eval_ko?"),
    "a metric that there is not": ("bits_per_byte<", "bpb<", "expected a target"),
    "a target without quotation marks in its number": ("<-2%@end", "<2%@end", "expected a target"),
    "a code that is misspelt": ("[non-finite]", "[nonfinite]", "Did you mean non-finite?"),
    "a baseline that there is not": ("patience: 3", "patience: 3, baseline: redwale", "Did you mean redwhale?"),
    "a baseline that nothing can be compared with": (
        "patience: 3", "patience: 3, baseline: medgemma-a6000-a", "will be shown, but not compared with",
    ),
    "patience that nothing counts": ("eval_strategy: steps, ", "", "patience in a stage that evaluates at its end"),
    "layers that are not there": ("layers: odd}", "layers: [1, 4]}", "expected a layer from 0 to 3"),
    "layers in 8 bits without an adapter": ("    lora: odd\n", "", "layers that move themselves, in 8-bit"),
    "an adapter of another stage": ("    lora: odd\n", "    lora: od\n", "Did you mean odd?"),
    "a module of another family": ("[q_proj, v_proj]", "[query, v_proj]", "target_modules[0]: found the text"),
    "a stage in which nothing moves": ("{input: new, output: new}", "{}", "found a stage in which nothing moves"),
    "new rows of no new tokens": (
        "tokenizer:\n  extend: {source: ko, tokens: 800, minimum_count: 30}\n", "", "and a tokenizer that is kept",
    ),
    "a folder of a model that is not there": ("model: base", "model: ./bases", "base.model: found no folder ./bases"),
    "a file that is not there": ("files: ko.jsonl", "files: kor.jsonl", "Did you mean"),
    "a pattern that fits nothing": ("files: [en.txt]", "files: ['en/*.txt']", "found no file"),
    "a file of another kind": ("files: [en.txt]", "files: [en.docx]", "expected a name that ends in .txt, .jsonl"),
    "another field": ("files: ko.jsonl", "files: ko.jsonl, field: txt", "Did you mean text?"),
    "a corpus of the hub without its commit": ("files: [en.txt]", "hub: org/text", "the commit of the data set"),
    "two origins": ("files: [en.txt]", "files: [en.txt], hub: org/text", "expected one of bundled, files and hub"),
}  # fmt: skip

# What is in the file of the Korean text instead, and words that the message has.
TEXTS: dict[str, tuple[bytes, str]] = {
    "CP949": (ROWS.encode("cp949"), "likely CP949: iconv -f CP949 -t UTF-8"),
    "UTF-16": (ROWS.encode("utf-16"), "likely UTF-16: iconv -f UTF-16 -t UTF-8"),
    "a text in a jsonl": (KOREAN.encode(), "line 1 of which is no JSON"),
    "gzip under another name": (gzip.compress(ROWS.encode()), "which is not in UTF-8"),
    "another field": (ROWS.replace('"text"', '"content"').encode(), "Did you mean content?"),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a base, two texts and a recipe that is right."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(CONFIG), "utf-8")
    (tmp_path / "ko.jsonl").write_text(ROWS, "utf-8")
    (tmp_path / "en.txt").write_text("Some English text.\n" * 60, "utf-8")
    (tmp_path / "mine.yaml").write_text(RECIPE, "utf-8")
    return tmp_path


def _validate() -> tuple[int, str]:
    result = CliRunner().invoke(app, ["validate", "mine.yaml"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout + result.stderr


def test_the_recipe_is_right() -> None:
    """Nothing is said of it: what is said below is said of the slip."""
    status, said = _validate()

    assert status == 0
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", TYPED)
def test_a_slip_of_the_recipe(name: str, here: Path) -> None:
    """It is told, in few lines, with the words that a user needs."""
    old, new, expected = TYPED[name]
    assert old in RECIPE
    (here / "mine.yaml").write_text(RECIPE.replace(old, new, 1), "utf-8")
    _, said = _validate()
    told = [line for line in said.splitlines() if not line.startswith("mine.yaml: recipe mine, ")]

    assert expected in said
    assert 1 <= len(told) <= 3
    assert "Traceback" not in said


@pytest.mark.parametrize("name", TEXTS)
def test_a_slip_of_the_text(name: str, here: Path) -> None:
    """It is told with the file, and with what to do."""
    content, expected = TEXTS[name]
    (here / "ko.jsonl").write_bytes(content)
    status, said = _validate()

    assert status == 2
    assert expected in said and "ko.jsonl" in said


def test_there_are_enough() -> None:
    """At least forty, each caught before anything is loaded."""
    assert len(TYPED) + len(TEXTS) >= 40
