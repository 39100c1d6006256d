"""Which stages share an adapter, and what it holds for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ko_cpt_callbacks.recipe.parameter_count import layer_indices, stage_adapter, stage_lora
from ko_cpt_callbacks.recipe.reading import read_recipe
from ko_cpt_callbacks.recipe.schema import Page

HEAD = """\
id: made
title: Made
base:
  model: nowhere
  shape: {family: llama, hidden_size: 64, intermediate_size: 96, num_hidden_layers: 4, num_attention_heads: 4,
          vocab_size: 1000}
  dtype: bfloat16
  quantization: WORD
data: {sequence_length: 64, packing: true, held_out: 0.1, sources: {ko: {language: ko, bundled: [ko_udhr.txt]}}, mix: {ko: 1}}
eval: {ko: {source: ko}}
source: {base: x, data: x, stages: x}
stages:
"""  # noqa: E501
LORA = "lora: {r: 8, lora_alpha: 16, target_modules: [q_proj]}"
OTHER = "lora: {r: 4, lora_alpha: 16, target_modules: [q_proj]}"


def _page(folder: Path, word: str, *stages: str) -> Page:
    lines = [f"  s{number}: {{trains: {stage}, arguments: {{}}}}\n" for number, stage in enumerate(stages)]
    path = folder / "made.yaml"
    path.write_text(HEAD.replace("WORD", word) + "".join(lines), "utf-8")
    return read_recipe(path).recipe


def _said(page: Page) -> list[Any]:
    found = []
    for name in page.stages:
        adapter = stage_adapter(page, name)
        held = None if adapter is None else (adapter.stages, adapter.layers, adapter.input, adapter.output)
        found.append(held)
    return found


def test_one_for_a_quantised_run(tmp_path: Path) -> None:
    """Over an 8-bit body every stage has it, and it holds what any of them trains."""
    page = _page(tmp_path, "8-bit", "{output: all}", f"{{layers: odd}}, {LORA}", "{layers: [0]}, lora: s1")
    assert _said(page) == [(("s0", "s1", "s2"), (0, 1, 3), False, True)] * 3
    assert stage_lora(page, "s0") is None
    assert stage_lora(page, "s2") == page.stages["s1"].lora


def test_neighbours_share_one(tmp_path: Path) -> None:
    """In full precision stages that follow each other with the same settings, named or repeated, share one; a stage
    without, or with other settings, ends it."""
    page = _page(
        tmp_path,
        "none",
        "{input: all, output: all}",
        f"{{layers: odd}}, {LORA}",
        "{layers: even, input: all}, lora: s1",
        f"{{layers: all}}, {OTHER}",
        "{layers: odd}",
        f"{{layers: odd}}, {LORA}",
        f"{{layers: odd}}, {LORA}",
    )
    assert _said(page) == [
        None,
        (("s1", "s2"), None, True, False),
        (("s1", "s2"), None, True, False),
        (("s3",), None, False, False),
        None,
        (("s5", "s6"), (1, 3), False, False),
        (("s5", "s6"), (1, 3), False, False),
    ]


@pytest.mark.parametrize(
    ("layers", "count", "expected"),
    [
        ("none", 4, ()),
        ("odd", 4, (1, 3)),
        ("even", 5, (0, 2, 4)),
        ("odd", 1, ()),
        ("all", 3, (0, 1, 2)),
        ([3, 1], 4, (1, 3)),
    ],
)
def test_layers_are_counted_from_zero(layers: Any, count: int, expected: tuple[int, ...]) -> None:
    """odd is 1, 3, 5, …, as RedWhale's stages are."""
    assert layer_indices(layers, count) == expected
