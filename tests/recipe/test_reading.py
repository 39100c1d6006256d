"""Recipes are read strictly: every mistake has one line, with place, what was found, what is expected and meant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ko_cpt_callbacks.errors import KoCPTError, RecipeError
from ko_cpt_callbacks.recipe import reading
from ko_cpt_callbacks.recipe.bundle import MAX_BYTES, find_recipe, recipe_ids
from ko_cpt_callbacks.recipe.reading import read_recipe
from ko_cpt_callbacks.recipe.schema import Lora

ROOT = Path(__file__).resolve().parents[2]

VALID = """\
id: tiny
title: Tiny
base:
  build:
    family: llama
    hidden_size: 64
    intermediate_size: 96
    num_hidden_layers: 1
    num_attention_heads: 4
    tokenizer: {algorithm: byte-level-bpe, vocab_size: 400, sources: [ko, en]}
    pretraining: {sources: [en], arguments: {max_steps: 6}}
  dtype: float32
  quantization: 8-bit
data:
  sequence_length: 64
  packing: false
  held_out: 0.3
  sources:
    ko: {language: ko, bundled: [ko_udhr.txt]}
    en: {language: en, bundled: [en_udhr.txt]}
  mix: {ko: 3, en: 1}
eval:
  ko: {source: ko}
  en: {source: en, retention: true}
stages:
  lora:
    trains: {output: all, layers: all}
    lora: {r: 8, lora_alpha: 16, target_modules: [q_proj]}
    arguments: {learning_rate: 3e-4, lr_scheduler_type: cosine}
    watch: {targets: ["eval_ko_ppl<20@end"], stop_on: [non-finite], grace: 10}
source:
  base: chosen, not measured
  data: chosen, not measured
  stages.lora: chosen, not measured
"""

KEYS = "id, title, seed, task, base, tokenizer, data, eval, defaults, stages, source"
UNSOURCED = 'or what it begins with, under source: where it is from, or "chosen, not measured".'

# What is replaced in the valid recipe, by what, and every line that the error then has; FILE is the file's path.
WRONG: dict[str, tuple[str, str, list[str]]] = {
    "unknown key": (
        "title: Tiny",
        "title: Tiny\ncolour: red",
        [f"FILE:3: colour: found an unknown key, expected one of {KEYS}."],
    ),
    "misspelt key, inside": (
        "held_out: 0.3",
        "held_out: 0.3\n  mixx: {ko: 1}",
        [
            "FILE:18: data.mixx: found an unknown key, expected one of sequence_length, packing, held_out, "
            "sources, mix, mix_by, duplicates. Did you mean mix?",
        ],
    ),
    "missing key": ("title: Tiny\n", "", ["FILE:1: title: found nothing, expected this key."]),
    "empty text": ("title: Tiny", 'title: " "', ["FILE:2: title: found an empty text, expected a text."]),
    "duplicate key": (
        "  held_out: 0.3",
        "  held_out: 0.3\n  held_out: 0.4",
        ["FILE:18: data.held_out: found the key a second time, expected each key once (it is in line 17 too)."],
    ),
    "duplicate key, one line": (
        "{ko: 3, en: 1}",
        "{ko: 3, ko: 1}",
        ["FILE:21: data.mix.ko: found the key a second time, expected each key once (it is in line 21 too)."],
    ),
    "text for a number": (
        "r: 8,",
        'r: "8",',
        ['FILE:28: stages.lora.lora.r: found the text "8", expected a whole number. Did you mean 8?'],
    ),
    "text for an argument's number": (
        "learning_rate: 3e-4",
        "learning_rate: '3e-4'",
        [
            'FILE:29: stages.lora.arguments.learning_rate: found the text "3e-4", expected a number, without quotation '
            "marks. Did you mean 3e-4?",
        ],
    ),
    "word for a number": (
        "r: 8,",
        "r: eight,",
        ['FILE:28: stages.lora.lora.r: found the text "eight", expected a whole number.'],
    ),
    "fraction for a count": (
        "sequence_length: 64",
        "sequence_length: 64.5",
        ["FILE:15: data.sequence_length: found 64.5, expected a whole number."],
    ),
    "truth for a number": (
        "sequence_length: 64",
        "sequence_length: true",
        ["FILE:15: data.sequence_length: found true, expected a whole number."],
    ),
    "nothing for a number": (
        "sequence_length: 64",
        "sequence_length:",
        ["FILE:15: data.sequence_length: found nothing, expected a whole number."],
    ),
    "YAML 1.1 truth": (
        "retention: true",
        "retention: yes",
        ['FILE:24: eval.en.retention: found the text "yes", expected true or false.'],
    ),
    "NaN": ("held_out: 0.3", "held_out: .nan", ["FILE:17: data.held_out: found .nan, expected a finite number."]),
    "infinity": (
        "learning_rate: 3e-4",
        "learning_rate: -.inf",
        ["FILE:29: stages.lora.arguments.learning_rate: found -.inf, expected a finite number."],
    ),
    "overflow": (
        "held_out: 0.3",
        "held_out: 1e999",
        ["FILE:17: data.held_out: found 1e999, expected a finite number."],
    ),
    "too large": ("held_out: 0.3", "held_out: 30", ["FILE:17: data.held_out: found 30, expected less than 1."]),
    "no multiple": (
        "hidden_size: 64",
        "hidden_size: 100",
        ["FILE:6: base.build.hidden_size: found 100, expected a multiple of 32."],
    ),
    "heads do not divide": (
        "num_attention_heads: 4",
        "num_attention_heads: 3",
        ["FILE:9: base.build.num_attention_heads: found 3, expected a divisor of hidden_size 64."],
    ),
    "unknown word": (
        "quantization: 8-bit",
        "quantization: 8bit",
        ['FILE:13: base.quantization: found the text "8bit", expected none or 8-bit or 4-bit. Did you mean 8-bit?'],
    ),
    "one for a list": (
        "target_modules: [q_proj]",
        "target_modules: q_proj",
        [
            'FILE:28: stages.lora.lora.target_modules: found the text "q_proj", expected a list of names of linear '
            "layers, or all-linear."
        ],
    ),
    "empty list": (
        "target_modules: [q_proj]",
        "target_modules: []",
        ["FILE:28: stages.lora.lora.target_modules: found 0 entries, expected at least 1."],
    ),
    "list for a mapping": (
        "{ko: 3, en: 1}",
        "[ko, en]",
        ["FILE:21: data.mix: found a list of 2, expected a mapping."],
    ),
    "name that cannot be a key": (
        "  en: {source: en, retention: true}",
        "  en: {source: en, retention: true}\n  'a b': {source: ko}",
        [
            'FILE:25: eval.a b: found the text "a b", expected a name of at most 64 small letters, digits, - and _ '
            "that begins with a letter.",
        ],
    ),
    "object tag": (
        "title: Tiny",
        "title: !!python/object/apply:os.system [id]",
        ["FILE:2: title: found the tag !!python/object/apply:os.system, expected plain values without tags."],
    ),
    "own tag": (
        "title: Tiny",
        "title: !env HOME",
        ["FILE:2: title: found the tag !env, expected plain values without tags."],
    ),
    "a value inside itself": (
        "{ko: 3, en: 1}",
        "&mix {ko: 3, en: *mix}",
        ["FILE:21: data.mix.en: found an alias of a value that it stands in, expected an alias of another value."],
    ),
    "a merge of no mapping": (
        "{ko: 3, en: 1}",
        "{ko: 3, <<: 1}",
        [
            "FILE:21: data.mix: found << of something else than a mapping, expected one << with a mapping, or a list "
            "of mappings."
        ],
    ),
    "a default that is no argument": (
        "stages:\n",
        "defaults: {arguments: {learning_rat: 1e-4}}\nstages:\n",
        [
            "FILE:25: defaults.arguments.learning_rat: found an unknown argument, expected an argument of the "
            "installed transformers.TrainingArguments. Did you mean learning_rate?",
        ],
    ),
    "a default of another part": (
        "stages:\n",
        "defaults: {lora: {r: 8}}\nstages:\n",
        ["FILE:25: defaults.lora: found an unknown key, expected one of arguments, watch."],
    ),
    "a name that cannot be an id": (
        "id: tiny",
        "id: Tiny run",
        [
            'FILE:1: id: found the text "Tiny run", expected a name of at most 64 small letters, digits, - and _ that '
            "begins with a letter.",
        ],
    ),
    "key that is a number": (
        "title: Tiny",
        "title: Tiny\n3: 4",
        ["FILE:3: found a key that is no text, expected texts as keys."],
    ),
    "unknown source": (
        "en: {source: en,",
        "en: {source: eng,",
        ['FILE:24: eval.en.source: found the text "eng", expected one of data.sources (ko, en). Did you mean en?'],
    ),
    "unknown text": (
        "[ko_udhr.txt]",
        "[ko_uhdr.txt]",
        [
            'FILE:19: data.sources.ko.bundled[0]: found the text "ko_uhdr.txt", expected one of en_prose.jsonl, '
            "en_udhr.txt, ko_prose.jsonl, ko_statute.txt, ko_udhr.txt. Did you mean ko_udhr.txt?",
        ],
    ),
    "target of an absent set": (
        "eval_ko_ppl<20@end",
        "eval_kr_ppl<20@end",
        [
            "FILE:30: stages.lora.watch.targets[0]: found the set eval_kr, expected a set of eval (eval_ko, eval_en). "
            "Did you mean eval_ko?",
        ],
    ),
    "unknown code": (
        "[non-finite]",
        "[nonfinite]",
        [
            'FILE:30: stages.lora.watch.stop_on[0]: found the text "nonfinite", expected a finding\'s code. '
            "Did you mean non-finite?",
        ],
    ),
    "a name that is too long": (
        "  ko: {source: ko}\n",
        f"  ko: {{source: ko}}\n  {'a' * 65}: {{source: ko}}\n",
        [
            f'FILE:24: eval.{"a" * 65}: found the text "{"a" * 59}…", expected a name of at most 64 small letters, '
            "digits, - and _ that begins with a letter.",
        ],
    ),
    "a key that is no text beside others": (
        "  mix: {ko: 3, en: 1}",
        "  mix: {ko: three, en: 1, 3: 4}",
        [
            "FILE:21: data.mix: found a key that is no text, expected texts as keys.",
            'FILE:21: data.mix.ko: found the text "three", expected a number.',
        ],
    ),
    "too many layers to count": (
        "num_hidden_layers: 1",
        "num_hidden_layers: 1000000",
        ["FILE:8: base.build.num_hidden_layers: found 1000000, expected at most 10,000."],
    ),
    "a row that is too long": (
        "sequence_length: 64",
        "sequence_length: 100000001",
        ["FILE:15: data.sequence_length: found 100000001, expected at most 100,000,000."],
    ),
    "a size that is too large": (
        "intermediate_size: 96",
        "intermediate_size: 32000000000000000",
        ["FILE:7: base.build.intermediate_size: found 32000000000000000, expected at most 1,000,000,000,000."],
    ),
    "a seed that NumPy does not take": (
        "title: Tiny",
        "title: Tiny\nseed: 4294967296",
        ["FILE:3: seed: found 4294967296, expected less than 4,294,967,296."],
    ),
    "a number that cannot be computed with": (
        "learning_rate: 3e-4",
        f"learning_rate: 1{'0' * 400}",
        [f"FILE:29: stages.lora.arguments.learning_rate: found 1{'0' * 58}…, expected a number of at most 308 digits."],
    ),
    "hexadecimal digits without end": (
        "r: 8,",
        f"r: 0x{'f' * 5000},",
        [f"FILE:28: stages.lora.lora.r: found 0x{'f' * 57}…, expected a number of at most 308 digits."],
    ),
    "nested too deeply": (
        "lr_scheduler_type: cosine",
        f"lr_scheduler_kwargs: {{a: {'[' * 100}{']' * 100}}}",
        [
            f"FILE:29: stages.lora.arguments.lr_scheduler_kwargs.a{'[0]' * 27}: found lists or mappings nested too "
            "deeply, expected at most 32 levels."
        ],
    ),
    "several at once": (
        "title: Tiny\nbase:",
        "titel: Tiny\nseed: .nan\nseed: 1\nbase: 3\nbases:",
        [
            "FILE:1: title: found nothing, expected this key.",
            f"FILE:2: titel: found an unknown key, expected one of {KEYS}. Did you mean title?",
            "FILE:3: seed: found .nan, expected a finite number.",
            "FILE:5: base: found 3, expected a mapping.",
            f"FILE:6: bases: found an unknown key, expected one of {KEYS}. Did you mean base?",
        ],
    ),
}

# The same of a recipe that comes with the package: it says where every number is from.
UNSOURCED_WRONG: dict[str, tuple[str, str, list[str]]] = {
    "number without a source": (
        "  data: chosen",
        "  data.mix: chosen",
        [
            "FILE:15: data.sequence_length: found a number without a source, "
            f'expected "data.sequence_length", {UNSOURCED}',
            f'FILE:17: data.held_out: found a number without a source, expected "data.held_out", {UNSOURCED}',
        ],
    ),
    "target without a source": (
        "  stages.lora: chosen",
        "  stages.lora.lora: x\n  stages.lora.arguments: x\n  stages.lora.watch.grace: chosen",
        [
            "FILE:30: stages.lora.watch.targets[0]: found a number without a source, expected "
            f'"stages.lora.watch.targets[0]", {UNSOURCED}',
        ],
    ),
    "source of nothing": (
        "  data: chosen",
        "  data: x\n  data.mixx: chosen",
        [
            "FILE:34: source.data.mixx: found a source of a key that is not there, expected the key of a number. "
            "Did you mean data.mix?",
        ],
    ),
}

# Whole files that are no recipe.
NO_RECIPE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "FILE:1: found an empty file, expected a recipe."),
    "comments only": (b"# nothing\n", "FILE:1: found an empty file, expected a recipe."),
    "a list": (b"- a\n- b\n", "FILE:1: found a list of 2, expected a mapping."),
    "a text": (b"quickstart\n", 'FILE:1: found the text "quickstart", expected a mapping.'),
    "not closed": (
        b"id: x\nbase: {a: 1\nb: 2\n",
        "FILE:3: found no YAML (expected ',' or '}', but got ':' while parsing a flow mapping), "
        "expected a recipe in YAML 1.2.",
    ),
    "a tab": (
        b"id: x\nbase:\n\ta: 1\n",
        "FILE:3: found a tab, expected spaces: YAML takes no tab for indentation.",
    ),
    "aliases of aliases": (
        b"a: &a [1, 1, 1, 1]\n"
        + b"".join(b"%c: &%c [%s]\n" % (n + 1, n + 1, b", ".join([b"*%c" % n] * 9)) for n in b"abcdef"),
        "FILE:5: found aliases that come to more than 10,000 values, expected a recipe that does not multiply itself.",
    ),
    "an anchor a second time": (
        b"a: &x 1\nb: *x\nc: &x 2\n",
        "FILE:3: found an anchor of a name that is taken, expected each name once.",
    ),
    "two documents": (
        b"id: x\n---\nid: y\n",
        "FILE:2: found no YAML (but found another document expected a single document in the stream), "
        "expected a recipe in YAML 1.2.",
    ),
    "a directive": (
        b"%YAML 1.1\n---\nid: x\n",
        "FILE:1: found a directive, expected a recipe in YAML 1.2 without directives.",
    ),
    "not UTF-8": (b"id: x\ntitle: \xff\n", "FILE:2: found bytes that are no UTF-8, expected a text file in UTF-8."),
    "too deep": (
        b"id: x\nbase:\n  " + b"[" * 500,
        "FILE:3: found lists or mappings nested too deeply, expected a recipe.",
    ),
    "a control character": (
        b"id: x\ntitle: a\x07b\n",
        "FILE:2: found the character U+0007, which YAML does not allow, expected a recipe in YAML 1.2.",
    ),
    "a NUL": (
        b"id: x\n\n\x00",
        "FILE:3: found the character U+0000, which YAML does not allow, expected a recipe in YAML 1.2.",
    ),
    "too large": (
        b"#" * (MAX_BYTES + 1),
        f"FILE: found more than {MAX_BYTES:,} bytes, expected a recipe of a page or two.",
    ),
}


def _write(folder: Path, text: str | bytes) -> Path:
    path = folder / "tiny.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _lines(path: Path, overrides: Any = None) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read_recipe(path, overrides or [])
    return str(caught.value).replace(str(path), "FILE").splitlines()


@pytest.mark.both_versions
def test_what_is_valid_is_read(tmp_path: Path) -> None:
    """Values come as they are written, 3e-4 as a number; what is not written has its default."""
    recipe = read_recipe(_write(tmp_path, VALID)).recipe

    assert recipe.stages["lora"].arguments == {"learning_rate": 0.0003, "lr_scheduler_type": "cosine"}
    lora = recipe.stages["lora"].lora
    assert isinstance(lora, Lora) and lora.lora_dropout == 0.0
    assert recipe.stages["lora"].watch.grace == 10
    assert recipe.seed == 0
    assert (recipe.eval["ko"].retention, recipe.eval["en"].retention) == (False, True)
    assert list(recipe.data.sources) == ["ko", "en"]


@pytest.mark.both_versions
@pytest.mark.parametrize("name", WRONG)
def test_every_mistake_has_its_line(name: str, tmp_path: Path) -> None:
    """The whole error, word by word: all mistakes of a file, in its order, and nothing else."""
    old, new, expected = WRONG[name]
    assert VALID.count(old) == 1
    assert _lines(_write(tmp_path, VALID.replace(old, new))) == expected


@pytest.mark.parametrize("name", UNSOURCED_WRONG)
def test_a_bundled_recipe_says_where_its_numbers_are_from(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder of the bundled recipes a number without a source is a mistake; anywhere else it is none."""
    old, new, expected = UNSOURCED_WRONG[name]
    path = _write(tmp_path, VALID.replace(old, new))

    assert read_recipe(path).recipe.id == "tiny"
    monkeypatch.setattr(reading, "is_bundled", lambda path: True)
    assert _lines(path) == expected


def test_sources_of_one_s_own_are_anything(tmp_path: Path) -> None:
    """In a recipe of one's own they may be left out, or name keys that are gone."""
    bare = VALID.partition("source:\n  base")[0]

    assert read_recipe(_write(tmp_path, bare)).recipe.source == {}
    assert read_recipe(_write(tmp_path, f"{bare}source: {{gone: x}}\n")).recipe.source == {"gone": "x"}
    assert "expected a mapping" in _lines(_write(tmp_path, f"{bare}source: 3\n"))[0]


def test_the_id(tmp_path: Path) -> None:
    """It is what the recipe says, or the file's name; a file whose name is none is told how to say one."""
    given = _write(tmp_path, VALID.replace("id: tiny", "id: teeny"))
    assert read_recipe(given).recipe.id == "teeny"
    unnamed = _write(tmp_path, VALID.replace("id: tiny\n", ""))
    assert read_recipe(unnamed).recipe.id == "tiny"
    assert read_recipe(unnamed).document.values["id"] == "tiny"
    assert read_recipe(unnamed, ["id=other"]).recipe.id == "other"
    odd = unnamed.rename(tmp_path / "My Recipe 2.yaml")
    assert _lines(odd) == [
        'FILE:1: id: found none, and the file\'s name, the text "My Recipe 2", cannot be one, expected a name of small '
        "letters, digits, - and _. Did you mean id: my-recipe-2?"
    ]


@pytest.mark.parametrize("name", NO_RECIPE)
def test_what_is_no_recipe(name: str, tmp_path: Path) -> None:
    """A file that cannot be a recipe at all: one line, no traceback of a library."""
    payload, expected = NO_RECIPE[name]
    assert _lines(_write(tmp_path, payload)) == [expected]


def test_an_unreadable_target_says_why(tmp_path: Path) -> None:
    """A target that is none is refused when the recipe is read, with the parser's own reason."""
    (line,) = _lines(_write(tmp_path, VALID.replace("eval_ko_ppl<20@end", "eval_ko_ppl<0.5@end")))
    assert line.startswith('FILE:30: stages.lora.watch.targets[0]: found the text "eval_ko_ppl<0.5@end" (target ')
    assert "no perplexity is below 1" in line


def test_overrides(tmp_path: Path) -> None:
    """``--set`` puts a YAML value in the place of the recipe's, or where there was none; it needs no source."""
    changes = ["stages.lora.lora.r=16", "seed=7", "data.sources.ko.bundled=[ko_prose.jsonl]"]
    file = read_recipe(_write(tmp_path, VALID), changes)

    assert file.document.values["stages"]["lora"]["lora"]["r"] == 16
    assert file.recipe.seed == 7
    assert file.recipe.data.sources["ko"].bundled == ["ko_prose.jsonl"]
    assert file.overrides == {
        "stages.lora.lora.r": 16,
        "seed": 7,
        "data.sources.ko.bundled": ["ko_prose.jsonl"],
    }


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", '--set: found the text "seed", expected KEY=VALUE. Did you mean stages.lora.arguments.max_steps=4?'),
        (
            "stages.lra.lora.r=4",
            "--set: stages.lra: found no mapping, expected one of lora. Did you mean lora?",
        ),
        ("stages.lora.lora.r=x", '--set: stages.lora.lora.r: found the text "x", expected a whole number.'),
        (
            "stages.lora.lora.rank=4",
            "--set: stages.lora.lora.rank: found an unknown key, expected one of r, lora_alpha, lora_dropout, "
            "target_modules, use_rslora.",
        ),
        (
            "tokenizr.extend.tokens=40",
            f"--set: tokenizr: found an unknown key, expected one of {KEYS}. Did you mean tokenizer?",
        ),
        (
            "data.sources.ko.filters.hangulshare.minimum=0.3",
            "--set: data.sources.ko.filters.hangulshare: found an unknown key, expected one of hangul_share, "
            "repetition, perplexity. Did you mean hangul_share?",
        ),
        (
            "data.sources.ko.filters.hangul_share.minimun=0.3",
            "--set: data.sources.ko.filters.hangul_share.minimum: found nothing, expected this key.\n"
            "--set: data.sources.ko.filters.hangul_share.minimun: found an unknown key, expected one of minimum. "
            "Did you mean minimum?",
        ),
        (
            "stages.lora.lora.target_modules.0=q_proj",
            "--set: stages.lora.lora.target_modules: found a list of 1, expected the whole list: "
            "stages.lora.lora.target_modules=[…, …].",
        ),
        ("title.ko=3", '--set: title: found the text "Tiny", expected a mapping to set ko in.'),
        ("seed.of.all=3", "--set: seed: found a mapping (of), expected a whole number."),
        ("data.held_out=.nan", "--set: data.held_out: found .nan, expected a finite number."),
    ],
)
def test_wrong_overrides(override: str, expected: str, tmp_path: Path) -> None:
    """A mistake of ``--set`` names the option, not a line of the file that is in order."""
    assert _lines(_write(tmp_path, VALID), [override]) == expected.split("\n")


def test_overrides_make_the_mappings_that_the_file_leaves_out(tmp_path: Path) -> None:
    """An optional part is reached too, where the file has nothing or says nothing; so is one that another made."""
    path = _write(
        tmp_path, VALID.replace("    watch: {", "    # watch: {").replace("title: Tiny", "title: Tiny\ntokenizer:")
    )
    changes = [
        "data.sources.ko.filters.hangul_share.minimum=0.3",
        "data.sources.ko.filters.repetition.top.2=0.5",
        "tokenizer.extend.source=ko",
        "tokenizer.extend.tokens=40",
        "tokenizer.extend.minimum_count=2",
        "stages.lora.arguments.lr_scheduler_kwargs.num_cycles=2",
        "stages.lora.watch.stop_on=[non-finite]",
    ]
    file = read_recipe(path, changes)

    filters = file.recipe.data.sources["ko"].filters
    assert filters.hangul_share is not None and filters.hangul_share.minimum == 0.3
    assert filters.repetition is not None and filters.repetition.top == {"2": 0.5}
    assert file.recipe.tokenizer is not None and file.recipe.tokenizer.extend.tokens == 40
    assert file.recipe.stages["lora"].arguments["lr_scheduler_kwargs"] == {"num_cycles": 2}
    assert file.recipe.stages["lora"].watch.stop_on == ["non-finite"]
    assert sorted(file.overrides) == sorted(change.partition("=")[0] for change in changes)


def test_what_an_override_leaves_open_is_asked_of_it(tmp_path: Path) -> None:
    """A part that an override began needs its other keys; that is the override's mistake, not a line's."""
    assert _lines(_write(tmp_path, VALID), ["tokenizer.extend.tokens=40"]) == [
        "--set: tokenizer.extend.source: found nothing, expected this key.",
        "--set: tokenizer.extend.minimum_count: found nothing, expected this key.",
    ]


def test_an_override_in_another_s_value(tmp_path: Path) -> None:
    """What was set to no mapping has nothing inside; that is told once."""
    assert _lines(_write(tmp_path, VALID), ["tokenizer=3", "tokenizer.extend.tokens=4"]) == [
        "--set: tokenizer: found 3, expected a mapping to set extend.tokens in."
    ]


def test_one_override_without_a_list(tmp_path: Path) -> None:
    """A single text is one override; a value that is no text is told as such."""
    path = _write(tmp_path, VALID)

    assert read_recipe(path, "seed=3").recipe.seed == 3
    assert _lines(path, "sed=3") == [f"--set: sed: found an unknown key, expected one of {KEYS}. Did you mean seed?"]
    assert _lines(path, [3]) == ["--set: found 3, expected KEY=VALUE. Did you mean stages.lora.arguments.max_steps=4?"]


def test_finding_a_recipe(tmp_path: Path) -> None:
    """By id, or by path; another word is told what was probably meant."""
    path = _write(tmp_path, VALID)
    assert find_recipe("quickstart").name == "quickstart.yaml"
    assert find_recipe(str(path)) == path
    for wrong, hint in (("quikstart", " Did you mean quickstart?"), ("x.yaml", "")):
        with pytest.raises(RecipeError) as caught:
            find_recipe(wrong)
        known = ", ".join(recipe_ids())
        assert str(caught.value) == (
            f"recipe {wrong}: found no such id or file, expected one of {known}, or a path.{hint}"
        )
    with pytest.raises(RecipeError, match=f"found a folder, expected a file, or one of {known}. Did you mean {path}?"):
        find_recipe(str(tmp_path))
    assert issubclass(RecipeError, KoCPTError)


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + ".yaml", "a" * 5000, "a/" * 5000, "a\0b"])
def test_a_name_that_no_file_can_have(name: str) -> None:
    """Too long for the system, or with a NUL: no such recipe, and the name is cut where it is long."""
    with pytest.raises(RecipeError, match=r"^recipe .*: found no such id or file") as caught:
        find_recipe(name)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("digits", [13, 30, 300, 400])
@pytest.mark.parametrize(
    ("old", "key"),
    [
        ("hidden_size: 64", "base.build.hidden_size"),
        ("num_hidden_layers: 1", "base.build.num_hidden_layers"),
        ("num_attention_heads: 4", "base.build.num_attention_heads"),
        ("vocab_size: 400", "base.build.tokenizer.vocab_size"),
        ("sequence_length: 64", "data.sequence_length"),
        ("r: 8", "stages.lora.lora.r"),
        ("grace: 10", "stages.lora.watch.grace"),
    ],
)
def test_no_size_is_too_large_to_compute_with(digits: int, old: str, key: str, tmp_path: Path) -> None:
    """Every size has a largest value, so that nothing overflows or is counted for ever afterwards."""
    assert VALID.count(old) == 1
    text = VALID.replace(old, f"{old.partition(':')[0]}: 1{'0' * digits}")
    (told,) = [line for line in _lines(_write(tmp_path, text)) if f": {key}: found 1000" in line]

    assert ("expected a number of at most 308 digits" if digits > 308 else "expected at most ") in told


OFFLINE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "accelerate", "datasets", "bitsandbytes"):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Refuse())
import json
from ko_cpt_callbacks.recipe.bundle import find_recipe
from ko_cpt_callbacks.recipe.reading import read_recipe
print(json.dumps(read_recipe(find_recipe("quickstart")).recipe.model_dump()))
"""


def test_reading_needs_no_torch() -> None:
    """With torch and the like refusing to be imported, the quickstart is found and read."""
    found = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["id"] == "quickstart"
