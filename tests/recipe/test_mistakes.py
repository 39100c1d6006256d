"""What cannot be trained is refused when a recipe is read: every combination has its sentence, with file and line.

None of it reaches a model: reading a recipe imports neither torch nor transformers (the last test).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ko_cpt_callbacks.errors import RecipeError
from ko_cpt_callbacks.recipe import reading
from ko_cpt_callbacks.recipe.reading import read_recipe

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"

VALID = f"""\
id: staged
title: Staged
base:
  model: someone/some-model
  shape:
    family: llama
    hidden_size: 64
    intermediate_size: 96
    num_hidden_layers: 4
    num_attention_heads: 4
    num_key_value_heads: 2
    vocab_size: 1000
    tie_word_embeddings: false
  dtype: bfloat16
  quantization: 8-bit
tokenizer:
  extend: {{source: ko, tokens: 100, minimum_count: 3, new_output_rows: first}}
data:
  sequence_length: 64
  packing: true
  held_out: 0.01
  sources:
    ko: {{language: ko, files: ["text/*.jsonl.gz", more.txt], filters: {{perplexity: {{model: m, low: 5, high: 90}}}}}}
    en: {{language: en, hub: someone/some-text, revision: {COMMIT}}}
  mix: {{ko: 48, en: 54}}
eval:
  ko: {{source: ko}}
  en: {{source: en, retention: true}}
stages:
  rows:
    trains: {{input: new, output: new}}
    arguments: {{max_steps: 4}}
  odd:
    trains: {{layers: odd}}
    lora: {{r: 8, lora_alpha: 16, target_modules: [q_proj]}}
    arguments: {{max_steps: 4, eval_strategy: steps, eval_steps: 2}}
    watch: {{targets: ["eval_ko_ppl<20@end"], baseline: redwhale, stage: odd-layers, patience: 3, min_delta: 1%}}
  some:
    trains: {{layers: [0, 3]}}
    lora: odd
    arguments: {{max_steps: 4}}
    watch: {{targets: [korean-loss-3], grace: "tokens:1e6"}}
source: {{base: x, tokenizer: x, data: x, stages: x}}
"""

# What is replaced in the valid recipe, by what, and every line that the error then has. An unused old text is an error.
WRONG: dict[str, tuple[dict[str, str], list[str]]] = {
    "neither model nor build": (
        {"  model: someone/some-model\n": ""},
        ["3: base: found neither model nor build, expected one of them."],
    ),
    "a shape beside build": (
        {
            "  model: someone/some-model\n": "  build: {family: llama, hidden_size: 64, intermediate_size: 96, "
            "num_hidden_layers: 4, num_attention_heads: 4, tokenizer: {algorithm: byte-level-bpe, vocab_size: 400, "
            "sources: [kor]}}\n"
        },
        [
            '4: base.build.tokenizer.sources[0]: found the text "kor", expected one of data.sources (ko, en). '
            "Did you mean ko?",
            "5: base.shape: found a shape beside build, expected no shape: build says it all.",
        ],
    ),
    "an unknown family": (
        {"family: llama": "family: lama"},
        [
            '6: base.shape.family: found the text "lama", expected a model_type that the installed transformers makes '
            "a causal language model of. Did you mean llama?"
        ],
    ),
    "key heads that do not divide": (
        {"num_key_value_heads: 2": "num_key_value_heads: 3"},
        ["11: base.shape.num_key_value_heads: found 3, expected a divisor of num_attention_heads 4."],
    ),
    "no precision": ({"  dtype: bfloat16\n": ""}, ["3: base.dtype: found nothing, expected this key."]),
    "an adapter on layers that are not there": (
        {"target_modules: [q_proj]}": "target_modules: [q_prog, up_proj, up_proj]}"},
        [
            '35: stages.odd.lora.target_modules[0]: found the text "q_prog", expected a linear layer of '
            "llama's blocks (q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj), or all-linear; embedding "
            "and head: trains. Did you mean q_proj?",
            '35: stages.odd.lora.target_modules[2]: found the text "up_proj" a second time, expected each layer once.',
        ],
    ),
    "layers in 8-bit that move themselves": (
        {"    lora: {r: 8, lora_alpha: 16, target_modules: [q_proj]}\n": "", "lora: odd": "lora: odds"},
        [
            "34: stages.odd.trains.layers: found layers that move themselves, in 8-bit, expected lora in this "
            "stage, or "
            "base.quantization: none.",
            '39: stages.some.lora: found the text "odds", expected settings, or the name of an earlier stage '
            'with lora.',
        ],
    ),
    "the same in 4-bit": (
        {"quantization: 8-bit": "quantization: 4-bit", "    lora: odd\n": ""},
        [
            "39: stages.some.trains.layers: found layers that move themselves, in 4-bit, expected lora in this "
            "stage, or "
            "base.quantization: none."
        ],
    ),
    "embeddings in 8-bit without any adapter": (
        {
            "trains: {layers: odd}": "trains: {input: all}",
            "    lora: {r: 8, lora_alpha: 16, target_modules: [q_proj]}\n": "",
            "trains: {layers: [0, 3]}": "trains: {output: all}",
            "    lora: odd\n": "",
        },
        [
            "15: base.quantization: found 8-bit, and no stage with lora, expected lora in one stage, or none: a "
            "quantised model without an adapter is not trained by the Trainer."
        ],
    ),
    "two adapters over one 8-bit body": (
        {"lora: odd": "lora: {r: 16, lora_alpha: 16, target_modules: [q_proj]}"},
        [
            "40: stages.some.lora: found an adapter with other settings than that of stage odd, expected odd, to go on "
            "with it: over an 8-bit body one adapter is made for the whole run."
        ],
    ),
    "an adapter that was merged before": (
        {
            "quantization: 8-bit": "quantization: none",
            "  some:\n": "  plain: {trains: {layers: even}, arguments: {}}\n  some:\n",
        },
        [
            "41: stages.some.lora: found the adapter of stage odd, which was merged into the weights before this "
            "stage, "
            "expected settings: a new adapter."
        ],
    ),
    "an adapter without layers": (
        {"trains: {layers: [0, 3]}": "trains: {input: all, output: all}"},
        [
            "40: stages.some.lora: found an adapter, and no layers that move through it, expected trains.layers odd, "
            "even, all or a list, or no lora."
        ],
    ),
    "a stage that trains nothing": (
        {"trains: {input: new, output: new}": "trains: {input: none}", "extend: {source": "extend: {source"},
        [
            "17: tokenizer.extend: found new tokens whose rows no stage trains, expected a stage with input or output "
            "new, or all.",
            "31: stages.rows.trains: found a stage in which nothing moves, expected one of input, output and layers "
            "that is not none.",
        ],
    ),
    "layers that are not there": (
        {"layers: [0, 3]": "layers: [0, 4, 0]"},
        [
            "39: stages.some.trains.layers[1]: found 4, expected a layer from 0 to 3.",
            "39: stages.some.trains.layers[2]: found layer 0 a second time, expected each layer once.",
        ],
    ),
    "a layer below 0": (
        {"layers: [0, 3]": "layers: [0, -1]"},
        ["39: stages.some.trains.layers[1]: found -1, expected at least 0."],
    ),
    "a word for layers": (
        {"layers: odd": "layers: oddd"},
        ['34: stages.odd.trains.layers: found the text "oddd", expected none or odd or even or all. Did you mean odd?'],
    ),
    "the odd layers of one": (
        {"num_hidden_layers: 4": "num_hidden_layers: 1", "layers: [0, 3]": "layers: all"},
        [
            "34: stages.odd.trains.layers: found the odd layers of a model with one layer, which is layer 0, expected "
            "layers that are there."
        ],
    ),
    "new rows of a tokenizer that is kept": (
        {
            "tokenizer:\n  extend: {source: ko, tokens: 100, minimum_count: 3, new_output_rows: first}\n": "",
            "tokenizer: x, ": "",
        },
        [
            "29: stages.rows.trains.input: found new rows, and a tokenizer that is kept, expected all, or a "
            "tokenizer.extend that adds some."
        ],
    ),
    "input alone of tied embeddings": (
        {
            "tie_word_embeddings: false": "tie_word_embeddings: true",
            "{input: new, output: new}": "{input: new}",
            ", new_output_rows: first": "",
        },
        [
            "31: stages.rows.trains: found input new and output none of a model in which both are one matrix, expected "
            "the same for both, or base.untie: true."
        ],
    ),
    "two beginnings of one row": (
        {"tie_word_embeddings: false": "tie_word_embeddings: true"},
        [
            "17: tokenizer.extend.new_output_rows: found first where the input has mean, and both are one matrix, "
            "expected the same for both, or base.untie: true."
        ],
    ),
    "nothing to untie": (
        {"  dtype: bfloat16": "  untie: true\n  dtype: bfloat16"},
        [
            "14: base.untie: found two matrices already, expected tie_word_embeddings: true in the shape, or no untie."
        ],
    ),
    "decay that moves old rows": (
        {"    arguments: {max_steps: 4}\n  odd:": "    arguments: {weight_decay: 0.1}\n  odd:"},
        [
            "32: stages.rows.arguments.weight_decay: found 0.1 beside new rows that train alone, expected 0: decay "
            "would move the old rows too."
        ],
    ),
    "weights in float16": (
        {"dtype: bfloat16": "dtype: float16"},
        [
            "14: base.dtype: found float16 for weights that are trained (stages rows), expected bfloat16 or float32: "
            "small gradients are 0 in float16. Did you mean bfloat16?"
        ],
    ),
    "a target of a set that is not evaluated": (
        {"eval_ko_ppl<20@end": "eval_kr_ppl<20@end"},
        [
            "37: stages.odd.watch.targets[0]: found the set eval_kr, expected a set of eval (eval_ko, eval_en). "
            "Did you mean eval_ko?"
        ],
    ),
    "a target twice": (
        {"[korean-loss-3]": "[korean-loss-3, korean-loss-3]"},
        ["42: stages.some.watch.targets[1]: found the same target a second time, expected each once."],
    ),
    "a preset and nothing to learn": (
        {"ko: {source: ko}": "ko: {source: ko, retention: true}"},
        [
            "42: stages.some.watch.targets[0]: found korean-loss-3 and only sets that must not be forgotten, "
            "expected a set "
            "that is learned."
        ],
    ),
    "an unknown baseline": (
        {"baseline: redwhale": "baseline: redwale"},
        [
            '37: stages.odd.watch.baseline: found the text "redwale", expected an id that ko-cpt baselines lists. '
            "Did you mean redwhale?"
        ],
    ),
    "an unknown stage of a baseline": (
        {"stage: odd-layers": "stage: odd-layer"},
        [
            '37: stages.odd.watch.stage: found the text "odd-layer", expected auto or a stage of redwhale (embedding, '
            "odd-layers, even-layers, lora, sft). Did you mean odd-layers?"
        ],
    ),
    "a stage without a baseline": (
        {"baseline: redwhale, ": ""},
        [
            '37: stages.odd.watch.stage: found the text "odd-layers" without a baseline, expected the baseline that '
            "this is a stage of."
        ],
    ),
    "a delta without patience": (
        {"patience: 3, ": ""},
        ['37: stages.odd.watch.min_delta: found the text "1%" without patience, expected patience with it.'],
    ),
    "a delta in quotation marks": (
        {"min_delta: 1%": 'min_delta: "0.01"'},
        [
            '37: stages.odd.watch.min_delta: found the text "0.01", expected a number, without quotation marks. '
            "Did you mean 0.01?"
        ],
    ),
    "a share of nothing, and a wait for no number": (
        {"min_delta: 1%": "min_delta: some", "grace: \"tokens:1e6\"": "grace: tokens:many"},
        [
            '37: stages.odd.watch.min_delta: found the text "some", expected nats per token (0.01), or a percentage '
            "(1%).",
            '42: stages.some.watch.grace: found the text "tokens:many", expected optimizer steps, or a text such as '
            "tokens:1e6.",
        ],
    ),
    "key heads of a family without": (
        {"family: llama": "family: gpt_neox", "[q_proj]": "[dense]"},
        [
            "11: base.shape.num_key_value_heads: found 2, expected 4, as many as attention heads: gpt_neox has no "
            "others.",
        ],
    ),
    "instruction tuning on bundled texts": (
        {"title: Staged": "title: Staged\ntask: sft", "packing: true": "packing: false",
         'files: ["text/*.jsonl.gz", more.txt]': "bundled: [ko_udhr.txt]", "revision: ": "prompt: p, revision: "},
        [
            "24: data.sources.ko.bundled: found texts without prompts, expected files or hub, with prompt, for task: "
            "sft.",
        ],
    ),
    "a grace that is none": (
        {"tokens:1e6": "token:1e6"},
        [
            '42: stages.some.watch.grace: found the text "token:1e6", expected optimizer steps, or a text such as '
            "tokens:1e6."
        ],
    ),
    "a mixture of what is no source": (
        {"{ko: 48, en: 54}": "{kor: 48, en: 54}", "source: ko, tokens": "source: kor, tokens"},
        [
            '17: tokenizer.extend.source: found the text "kor", expected one of data.sources (ko, en). '
            "Did you mean ko?",
            '25: data.mix.kor: found the text "kor", expected one of data.sources (ko, en). Did you mean ko?',
        ],
    ),
    "a source from nowhere": (
        {"hub: someone/some-text, ": ""},
        [
            "24: data.sources.en: found none of bundled, files and hub, expected one of bundled, files and hub.",
        ],
    ),
    "a source from two places": (
        {"hub: someone/some-text, ": "hub: someone/some-text, bundled: [en_udhr.txt], "},
        ["24: data.sources.en: found bundled and hub, expected one of bundled, files and hub."],
    ),
    "a branch of a data set": (
        {COMMIT: "main"},
        ['24: data.sources.en.revision: found the text "main", expected the commit of the data set, 40 hex digits.'],
    ),
    "a revision of files": (
        {"language: ko, files": "language: ko, split: train, files"},
        ["23: data.sources.ko.split: found a split of files, expected no split: only what is on the hub has one."],
    ),
    "a file of an unknown kind": (
        {"more.txt": "more.pdf"},
        [
            '23: data.sources.ko.files[1]: found the text "more.pdf", expected a name that ends in .txt, .jsonl, '
            ".json, .csv (packed as .gz, .zst, .xz, .bz2 or not) or .parquet, or a folder."
        ],
    ),
    "a band without an inside": (
        {"low: 5": "low: 90"},
        ["23: data.sources.ko.filters.perplexity.low: found 90, expected less than high 90."],
    ),
    "a filter for an n that is none": (
        {"filters: {perplexity": "filters: {repetition: {top: {two: 0.2}}, perplexity"},
        [
            '23: data.sources.ko.filters.repetition.top.two: found the text "two", expected a whole number of '
            "at most four digits in quotation marks."
        ],
    ),
    "instruction tuning without prompts": (
        {"title: Staged": "title: Staged\ntask: sft"},
        [
            "21: data.packing: found true, expected false for task: sft: an answer sees its own prompt alone.",
            "24: data.sources.ko.prompt: found nothing, expected the field of the prompt, for task: sft.",
            "25: data.sources.en.prompt: found nothing, expected the field of the prompt, for task: sft.",
        ],
    ),
    "a prompt in pretraining": (
        {"language: ko, files": "language: ko, prompt: question, files"},
        ["23: data.sources.ko.prompt: found a prompt, expected none, or task: sft."],
    ),
    "modules_to_save beside trains": (
        {"target_modules: [q_proj]}": "target_modules: [q_proj], modules_to_save: [lm_head]}"},
        [
            "35: stages.odd.lora.modules_to_save: found an unknown key, expected one of r, lora_alpha, lora_dropout, "
            "target_modules, use_rslora."
        ],
    ),
    "patience where nothing is evaluated": (
        {", eval_strategy: steps, eval_steps: 2": ""},
        [
            "37: stages.odd.watch.patience: found patience in a stage that evaluates at its end only, expected "
            "eval_strategy: steps with eval_steps in its arguments, or no patience."
        ],
    ),
    "patience, and evaluation turned off": (
        {"eval_strategy: steps, eval_steps: 2": "eval_strategy: no"},
        [
            "37: stages.odd.watch.patience: found patience in a stage that evaluates at its end only, expected "
            "eval_strategy: steps with eval_steps in its arguments, or no patience."
        ],
    ),
    "a code twice": (
        {"grace: \"tokens:1e6\"": "stop_on: [non-finite, target-met, non-finite]"},
        ["42: stages.some.watch.stop_on[2]: found the same code a second time, expected each once."],
    ),
    "a code of an earlier version": (
        {"grace: \"tokens:1e6\"": "stop_on: [stopped-before]"},
        [
            '42: stages.some.watch.stop_on[0]: found the text "stopped-before", expected note, as it is called now.'
        ],
    ),
    "a deadline after the end": (
        {"eval_ko_ppl<20@end": "eval_ko_ppl<20@step:2000"},
        [
            "37: stages.odd.watch.targets[0]: found a deadline at step 2,000, expected a deadline in the stage's "
            "max_steps 4, or @end."
        ],
    ),
    "sets that are missing": (
        {"eval:\n  ko: {source: ko}\n  en: {source: en, retention: true}\n": ""},
        ["1: eval: found nothing, expected this key."],
    ),
    "no sets": (
        {"eval:\n  ko: {source: ko}\n  en: {source: en, retention: true}\n": "eval: {}\n"},
        ["26: eval: found 0 entries, expected at least 1."],
    ),
    "what is below two values that do not agree": (
        {
            "  model: someone/some-model\n": "  model: someone/some-model\n  build: {family: llama}\n",
            "num_key_value_heads: 2": "num_key_value_heads: 3",
            "dtype: bfloat16": "dtype: float16",
            "{base: x, ": "{",
        },
        [
            "3: base: found both model and build, expected one of them.",
            *(
                f"5: base.build.{key}: found nothing, expected this key."
                for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "tokenizer")
            ),
            *(
                f"{line}: base.shape.{key}: found a number without a source, expected \"base.shape.{key}\", or what it "
                'begins with, under source: where it is from, or "chosen, not measured".'
                for line, key in enumerate(
                    ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"], 8)
            ),
            "12: base.shape.num_key_value_heads: found 3, expected a divisor of num_attention_heads 4.",
            "13: base.shape.vocab_size: found a number without a source, expected \"base.shape.vocab_size\", or what "
            'it begins with, under source: where it is from, or "chosen, not measured".',
            "15: base.dtype: found float16 for weights that are trained (stages rows), expected bfloat16 or float32: "
            "small gradients are 0 in float16. Did you mean bfloat16?",
        ],
    ),
    "what is below new tokens that no stage trains": (
        {"trains: {input: new, output: new}": "trains: {layers: even}\n    lora: odd", "tokenizer: x, ": ""},
        [
            "17: tokenizer.extend: found new tokens whose rows no stage trains, expected a stage with input or output "
            "new, or all.",
            *(
                f"17: tokenizer.extend.{key}: found a number without a source, expected \"tokenizer.extend.{key}\", or "
                'what it begins with, under source: where it is from, or "chosen, not measured".'
                for key in ("tokens", "minimum_count")
            ),
            '32: stages.rows.lora: found the text "odd", expected settings, or the name of an earlier stage with lora.',
        ],
    ),
    "several, of all parts": (
        {
            "packing: true": "packing: 1",
            "layers: odd": "layer: odd",
            "baseline: redwhale": "baseline: nothing",
            "{base: x, ": "{",
        },
        [
            *(
                f"{line}: base.shape.{key}: found a number without a source, expected \"base.shape.{key}\", or what it "
                'begins with, under source: where it is from, or "chosen, not measured".'
                for line, key in enumerate(
                    ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                     "num_key_value_heads", "vocab_size"], 7)
            ),
            "20: data.packing: found 1, expected true or false.",
            "34: stages.odd.trains.layer: found an unknown key, expected one of input, output, layers. "
            "Did you mean layers?",
            "37: stages.odd.watch.baseline: found the text \"nothing\", expected an id that ko-cpt baselines lists.",
        ],
    ),
}  # fmt: skip


def _file(folder: Path, text: str) -> Path:
    path = folder / "staged.yaml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.both_versions
def test_the_valid_one_is_valid(tmp_path: Path) -> None:
    """The recipe that the table changes has no mistake; it is read as it is written."""
    page = read_recipe(_file(tmp_path, VALID)).recipe
    assert page.stages["some"].trains.layers == [0, 3]
    assert page.stages["some"].lora == "odd"
    assert page.stages["odd"].watch.min_delta == "1%"
    assert page.base.sizes.num_key_value_heads == 2
    assert not page.base.tied


@pytest.mark.both_versions
@pytest.mark.parametrize("name", WRONG)
def test_every_combination_has_its_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole error, word by word: every mistake with its line, and nothing else.

    The file lies where the bundled recipes lie: they alone have to say where their numbers are from.
    """
    monkeypatch.setattr(reading, "is_bundled", lambda path: True)
    changes, expected = WRONG[name]
    text = VALID
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = _file(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert str(caught.value).splitlines() == [f"{path}:{line}" for line in expected]


def test_there_are_enough() -> None:
    """The table has at least twenty entries."""
    assert len(WRONG) >= 20


READ = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "accelerate", "datasets", "bitsandbytes"):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Refuse())
from ko_cpt_callbacks import Recipe, RecipeError
told = []
for path in json.loads(sys.stdin.read()):
    try:
        Recipe.load(path)
    except RecipeError as error:
        told.append(str(error))
print(json.dumps(told))
"""


def test_none_reaches_a_model(tmp_path: Path) -> None:
    """All of them are refused by `Recipe.load` with torch and the like blocked: nothing was loaded. A family alone is
    taken as it is: only transformers knows all."""
    paths = []
    known = [changes for name, (changes, _) in WRONG.items() if name != "an unknown family"]
    for number, changes in enumerate(known):
        text = VALID
        for old, new in changes.items():
            text = text.replace(old, new)
        (tmp_path / str(number)).mkdir()
        paths.append(str(_file(tmp_path / str(number), text)))
    found = subprocess.run(
        [sys.executable, "-c", READ],
        input=json.dumps(paths),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert found.returncode == 0, found.stderr
    assert [bool(text) for text in json.loads(found.stdout)] == [True] * len(known)
