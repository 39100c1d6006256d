"""What stands once for several stages: defaults, anchors, and a star in a key of ``--set``."""

from __future__ import annotations

from pathlib import Path

import pytest

from ko_cpt_callbacks.errors import RecipeError
from ko_cpt_callbacks.recipe.reading import RecipeFile, read_recipe

# A recipe of one's own: four stages, at most 25 lines.
OWN = """\
title: Four stages of my own
base: {build: {family: llama, hidden_size: 64, intermediate_size: 96, num_hidden_layers: 2, num_attention_heads: 4,
  tokenizer: {algorithm: byte-level-bpe, vocab_size: 400, sources: [ko]}}, dtype: float32, quantization: 8-bit}
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
defaults:
  arguments: {max_steps: 4, learning_rate: 1e-4, lr_scheduler_type: cosine, eval_strategy: steps, eval_steps: 2}
  watch: {baseline: redwhale, stop_on: [non-finite]}
stages:
  embedding: {trains: {input: all, output: all}}
  odd:
    trains: {layers: odd}
    lora: {r: 8, lora_alpha: 16, target_modules: [q_proj]}
    watch: {stage: odd-layers}
  even: {trains: {layers: even}, lora: odd, arguments: {max_steps: 8}}
  last: {trains: {input: all, output: all, layers: all}, lora: odd, watch: {baseline: null}}
"""


def _read(folder: Path, text: str, *overrides: str) -> RecipeFile:
    path = folder / "own.yaml"
    path.write_text(text, "utf-8")
    return read_recipe(path, overrides)


def _lines(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        _read(folder, text, *overrides)
    return str(caught.value).replace(str(folder / "own.yaml"), "FILE").splitlines()


def _changed(old: str, new: str) -> str:
    assert OWN.count(old) == 1
    return OWN.replace(old, new)


def test_a_recipe_of_one_s_own_is_short(tmp_path: Path) -> None:
    """Four stages in at most 25 lines: no id, no sources, what is common once; a stage's own value counts."""
    file = _read(tmp_path, OWN)
    stages = file.recipe.stages

    assert len(OWN.splitlines()) <= 25
    assert (file.recipe.id, len(stages)) == ("own", 4)
    assert [stage.arguments["max_steps"] for stage in stages.values()] == [4, 4, 8, 4]
    assert {stage.arguments["learning_rate"] for stage in stages.values()} == {1e-4}
    assert [stage.watch.stage for stage in stages.values()] == ["auto", "odd-layers", "auto", "auto"]
    assert [stage.watch.baseline for stage in stages.values()] == ["redwhale"] * 3 + [None]
    assert all(stage.watch.stop_on == ["non-finite"] for stage in stages.values())


def test_defaults_are_the_same_as_writing_them_out(tmp_path: Path) -> None:
    """What a run keeps of its recipe has no defaults left: the written-out recipe is the same one."""
    file = _read(tmp_path, OWN)
    common = "max_steps: 4, learning_rate: 1e-4, lr_scheduler_type: cosine, eval_strategy: steps, eval_steps: 2"
    watch = "stop_on: [non-finite]"
    long = OWN.replace(f"  arguments: {{{common}}}\n", "").replace(f"  watch: {{baseline: redwhale, {watch}}}\n", "")
    for old, new in (
        ("defaults:\n", ""),
        ("output: all}}\n", f"output: all}}, arguments: {{{common}}}, watch: {{baseline: redwhale, {watch}}}}}\n"),
        ("    trains: {layers: odd}\n", f"    trains: {{layers: odd}}\n    arguments: {{{common}}}\n"),
        ("{stage: odd-layers}", f"{{baseline: redwhale, stage: odd-layers, {watch}}}"),
        ("{max_steps: 8}", f"{{{common.replace('4,', '8,', 1)}}}, watch: {{baseline: redwhale, {watch}}}"),
        ("watch: {baseline: null}", f"arguments: {{{common}}}, watch: {{baseline: null, {watch}}}"),
    ):
        assert long.count(old) == 1, old
        long = long.replace(old, new)

    other = _read(tmp_path, long)
    assert file.document.values == other.document.values
    assert file.recipe == other.recipe


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "learning_rate: 1e-4",
            "learning_rate: '1e-4'",
            [
                'FILE:16: defaults.arguments.learning_rate: found the text "1e-4", expected a number, without '
                "quotation marks. Did you mean 1e-4?"
            ],
        ),
        (
            "stop_on: [non-finite]",
            "stop_on: [nonfinite], patience: 0",
            [
                "FILE:17: defaults.watch.patience: found 0, expected at least 1.",
                'FILE:17: defaults.watch.stop_on[0]: found the text "nonfinite", expected a finding\'s code. '
                "Did you mean non-finite?",
            ],
        ),
        (
            "arguments: {max_steps: 8}",
            "arguments: {max_steps: 8, eval_strategy: epoch, output_dir: x}",
            [
                "FILE:24: stages.even.arguments.output_dir: found an argument that ko-cpt train sets itself, expected "
                "none of output_dir, seed, data_seed, disable_tqdm, resume_from_checkpoint, push_to_hub."
            ],
        ),
        ("defaults:\n", "defaults: 3\nfoo:\n", [
            "FILE:15: defaults: found 3, expected a mapping.",
            "FILE:16: foo: found an unknown key, expected one of id, title, seed, task, base, tokenizer, data, eval, "
            "defaults, stages, source.",
            "FILE:20: stages.embedding.arguments: found nothing, expected this key.",
            "FILE:21: stages.odd.arguments: found nothing, expected this key.",
            "FILE:24: stages.odd.watch.stage: found the text \"odd-layers\" without a baseline, expected the baseline "
            "that this is a stage of.",
            "FILE:26: stages.last.arguments: found nothing, expected this key.",
        ]),
    ],
)  # fmt: skip
def test_a_mistake_of_all_stages_is_told_once(old: str, new: str, expected: list[str], tmp_path: Path) -> None:
    """A wrong default has the line of the default and is told once; what is one stage's is told of that stage."""
    assert _lines(tmp_path, _changed(old, new)) == expected


def test_a_default_that_some_stages_cannot_use(tmp_path: Path) -> None:
    """It is told of those stages, with the default's line: the others are in order."""
    text = _changed("stop_on: [non-finite]", "patience: 2").replace("{max_steps: 8}", "{eval_strategy: 'no'}")

    assert _lines(tmp_path, text) == [
        "FILE:17: stages.even.watch.patience: found patience in a stage that evaluates at its end only, expected "
        "eval_strategy: steps with eval_steps in its arguments, or no patience."
    ]


def test_the_values_of_a_star(tmp_path: Path) -> None:
    """``*`` is every name that is there, of stages and of sources; a stage's own value is replaced too."""
    file = _read(tmp_path, OWN, "stages.*.arguments.max_steps=6", "data.sources.*.passes=2", "eval.ko.max_documents=3")

    assert [stage.arguments["max_steps"] for stage in file.recipe.stages.values()] == [6] * 4
    assert [source.passes for source in file.recipe.data.sources.values()] == [2, 2]
    assert file.overrides["stages.even.arguments.max_steps"] == 6
    assert _read(tmp_path, OWN, "data.mix.*=2").recipe.data.mix == {"ko": 2, "en": 2}
    # Later ones count, as without a star.
    later = _read(tmp_path, OWN, "stages.*.arguments.max_steps=6", "stages.odd.arguments.max_steps=7")
    assert [stage.arguments["max_steps"] for stage in later.recipe.stages.values()] == [6, 7, 6, 6]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("stages.*.arguments.max_steps=x", 'max_steps: found the text "x", expected a whole number.'),
        ("stagez.*.arguments.max_steps=1", "expected names in stagez. Did you mean stages?"),
        ("data.sources.*.filters.*.minimum=1", "nothing that * stands for, expected names in data.sources.ko.filters."),
        ("title.*=1", "found nothing that * stands for, expected names in title."),
    ],
)  # fmt: skip
def test_a_star_that_is_wrong(override: str, expected: str, tmp_path: Path) -> None:
    """A wrong value is told once, under the key that was given; a star that stands for nothing is a mistake."""
    line = _lines(tmp_path, OWN, override)[0]

    assert line.startswith(f"--set: {override.partition('=')[0].replace('sources.*', 'sources.ko')}: ")
    assert line.endswith(expected)


def test_anchors(tmp_path: Path) -> None:
    """A value may stand in several places by its name, and be merged into a mapping, whose own keys count."""
    text = _changed("arguments: {max_steps: 4", "arguments: &all {max_steps: 4")
    text = text.replace("arguments: {max_steps: 8}", "arguments: {<<: *all, max_steps: 8, eval_steps: 4}")
    file = _read(tmp_path, text)

    assert file.recipe.stages["even"].arguments == {
        "max_steps": 8, "learning_rate": 1e-4, "lr_scheduler_type": "cosine", "eval_strategy": "steps", "eval_steps": 4,
    }  # fmt: skip
    wrong = text.replace("learning_rate: 1e-4", "learning_rate: -1").replace("arguments: &all", "arguments: &all")
    assert _lines(tmp_path, wrong) == ["FILE:16: defaults.arguments.learning_rate: found -1, expected at least 0."]


def test_an_alias_that_is_wrong_in_one_place_only(tmp_path: Path) -> None:
    """What stands by an alias where it cannot is told of that place, not of the one that is in order."""
    text = _changed("  last: {trains: {input: all, output: all, layers: all}, lora: odd,", "  last: {trains: *which,")
    text = text.replace("    trains: {layers: odd}", "    trains: &which {layers: odd}")

    (line,) = _lines(tmp_path, text)
    assert "stages.last.trains.layers: found layers that move themselves, in 8-bit" in line
