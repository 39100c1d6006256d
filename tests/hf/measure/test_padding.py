"""Pads among the labels: seen at the first batch, and silent where packing uses the same token."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import DataCollatorForLanguageModeling

from ko_cpt_callbacks import KoCPTCallback
from ko_cpt_callbacks.hf.measure.measurement import PaddingCounts, add_padding, count_padding
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.registry import ALL_RULES
from ko_cpt_callbacks.run.reading import read_run

pytestmark = pytest.mark.both_versions
PAD = 2


def _counts(labels: list[list[int]], mask: list[list[int]] | None = None) -> list[int]:
    batch: dict[str, Any] = {"labels": torch.tensor(labels)}
    if mask is not None:
        batch["attention_mask"] = torch.tensor(mask)
    found = count_padding(batch, PAD)
    assert found is not None
    return found.tolist()[:4]


@pytest.mark.parametrize(
    ("labels", "mask", "expected"),
    [
        ([[5, 6, 7, 8]], None, [0, 0, 1, 4]),
        ([[5, 6, -100, -100]], [[1, 1, 0, 0]], [0, 0, 1, 2]),
        ([[5, 6, PAD, PAD]], [[1, 1, 0, 0]], [2, 1, 1, 4]),
        ([[5, 6, PAD, PAD]], None, [0, 1, 1, 4]),
        ([[PAD, PAD, 5, 6], [5, 6, 7, 8]], None, [0, 1, 2, 8]),
        ([[5, PAD, 6, PAD]], None, [0, 0, 1, 4]),
        ([[5, PAD, PAD, 6]], None, [0, 0, 1, 4]),
        ([[-100, -100, 5, PAD]], None, [0, 0, 1, 2]),
    ],
)
def test_counts(labels: list[list[int]], mask: list[list[int]] | None, expected: list[int]) -> None:
    """Labelled positions behind the mask, rows with pads at an end, rows, labelled positions."""
    assert _counts(labels, mask) == expected


def test_ranks_are_added_up() -> None:
    """Counts of all ranks are added; a rank that saw nothing adds nothing."""
    assert add_padding([[1, 0, 2, 8], None, [0, 1, 2, 8]]) == PaddingCounts(1, 1, 4, 16)
    assert add_padding([None, None]) is None


def _padded_with_labels(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """The mistake: rows padded to one length, the pads copied into the labels."""
    tokenizer = tiny.byte_level_tokenizer()
    batch = tokenizer.pad([{"input_ids": item["input_ids"]} for item in features], padding="max_length",
                          max_length=96, return_tensors="pt")  # fmt: skip
    return {**batch, "labels": batch["input_ids"].clone()}


def _findings(folder: Path, rows: list[dict[str, Any]], collator: Any, **told: Any) -> list[Any]:
    tokenizer = tiny.byte_level_tokenizer()
    callback = KoCPTCallback(outputs=["files"], **told)
    trainer = tiny.trainer(
        tiny.llama(len(tokenizer)), folder, rows, rows[:4], data_collator=collator, callbacks=[callback],
        eval_strategy="steps", eval_steps=3,
    )  # fmt: skip
    trainer.train()
    return [(item.split, item.step) for item in callback.findings if item.code == "padding-in-loss"]


def test_the_padding_mistake_is_caught_at_the_first_batch(tmp_path: Path) -> None:
    """A real tokenizer and a collator that labels the pads: found after step 1, and again in the evaluation."""
    rows = tiny.rows(tiny.korean()[40:60], tiny.byte_level_tokenizer(), 60)
    assert _findings(tmp_path, rows, _padded_with_labels) == [("train", 1), ("eval", 3)]


def test_a_stop_is_asked_for_at_once(tmp_path: Path) -> None:
    """With stop_on the run ends after its first step."""
    rows = tiny.rows(tiny.korean()[40:60], tiny.byte_level_tokenizer(), 60)
    assert _findings(tmp_path, rows, _padded_with_labels, stop_on=["padding-in-loss"])[0] == ("train", 1)


def test_packed_rows_with_pad_as_separator_are_silent(tmp_path: Path) -> None:
    """Where the end-of-text token is the pad token too, packed rows that end with it are healthy."""
    tokenizer = tiny.byte_level_tokenizer()
    separator = tokenizer.pad_token_id
    stream = [token for row in tiny.rows(tiny.korean(), tokenizer, 500) for token in [*row["input_ids"], separator]]
    blocks = [{"input_ids": stream[at : at + 64], "labels": stream[at : at + 64]} for at in range(0, 64 * 20, 64)]
    assert _findings(tmp_path, blocks, None) == []


def test_prompt_masked_rows_and_padded_rows_are_silent(tmp_path: Path) -> None:
    """A collator that ignores pads, and rows whose prompt is masked, are healthy."""
    tokenizer = tiny.byte_level_tokenizer()
    rows = tiny.rows(tiny.korean()[40:60], tokenizer, 60)
    assert _findings(tmp_path / "a", rows, DataCollatorForLanguageModeling(tokenizer, mlm=False)) == []
    prompts = [{**row, "labels": [-100] * 5 + row["input_ids"][5:]} for row in rows]
    assert _findings(tmp_path / "b", prompts, tiny.collate) == []


@pytest.mark.parametrize(
    ("labels", "batch", "expected"),
    [
        ([[5, 6, 7, 8]], {"input_ids": [[5, 6, 7, 8]]}, 0),
        ([[-100, 6, 7, 8]], {"input_ids": [[5, 6, 7, 8]]}, 0),
        ([[-100, -100, 7, 8]], {"input_ids": [[5, 6, 7, 8]]}, 1),
        ([[5, 6, -100, -100]], {"input_ids": [[5, 6, PAD, PAD]]}, 0),
        ([[-100, -100, -100, 6]], {"input_ids": [[PAD, PAD, 5, 6]]}, 0),
        ([[5, 6, -100, -100]], {"input_ids": [[5, 6, 7, 7]], "attention_mask": [[1, 1, 0, 0]]}, 0),
        ([[-100, 6, -100, 8]], {"input_ids": [[5, 6, 7, 8]], "position_ids": [[0, 1, 0, 1]]}, 0),
        ([[-100, 6, -100, 8]], {"input_ids": [[5, 6, 7, 8]]}, 1),
        ([[-100, -100, 7, 8]], {}, 1),
    ],
)
def test_text_without_a_label(labels: list[list[int]], batch: dict[str, Any], expected: int) -> None:
    """Text that is not trained on: neither pads nor the first token of a text count."""
    found = count_padding({"labels": torch.tensor(labels), **{k: torch.tensor(v) for k, v in batch.items()}}, PAD)
    assert found is not None and found.tolist()[4] == expected


@pytest.mark.parametrize(
    ("ids", "labels", "mask", "ends"),
    [
        ([5, 6, PAD], [5, 6, -100], [1, 1, 1], 1),
        ([5, 6, PAD, PAD], [5, 6, -100, -100], [1, 1, 1, 0], 1),
        ([5, 6, 7, PAD], [5, 6, 7, -100], [1, 1, 1, 0], 0),
        ([5, 6, PAD, PAD], [5, 6, -100, -100], [1, 1, 1, 1], 0),
        ([5, 6, PAD], [5, 6, -100], None, 0),
        ([5, PAD, 6, 7], [5, -100, 6, 7], None, 1),
        ([5, PAD, PAD, 6], [5, -100, -100, 6], None, 0),
        ([5, PAD, 6, 7], [-100, -100, 6, 7], [1, 1, 1, 1], 0),
        ([5, 6, PAD], [5, 6, PAD], [1, 1, 1], 0),
        ([PAD, PAD, 5, PAD], [-100, -100, 5, -100], [0, 0, 1, 1], 1),
    ],
)
def test_ends_that_are_not_trained(ids: list[int], labels: list[int], mask: list[int] | None, ends: int) -> None:
    """A pad token without a label ends a text where the mask, or more text behind it, says so, and a label precedes it;
    a pad, a masked prompt's end and what may be a pad do not count."""
    batch = {"input_ids": torch.tensor([ids]), "labels": torch.tensor([labels])}
    if mask is not None:
        batch["attention_mask"] = torch.tensor([mask])
    found = count_padding(batch, PAD)
    assert found is not None and found.tolist()[5:7] == [ends, labels.count(PAD)]


@pytest.mark.parametrize(
    ("labels", "rows", "tokens"),
    [
        ([[5, 6] + [9] * 8, [5] + [9] * 9, list(range(10, 20))], 2, 17),
        ([[9] * 8 + [5, 6], [5] * 10], 1, 10),
        ([[5, 6, 7] + [9] * 7], 0, 0),
        ([[5, 6] + [-100] * 8], 0, 0),
        ([[9] * 8 + [5, 6], [9] * 9 + [7]], 2, 17),
    ],
)
def test_rows_that_end_alike(labels: list[list[int]], rows: int, tokens: int) -> None:
    """Rows with eight or more labels of one token at one end, and these labels; what is not labelled does not count."""
    found = count_padding({"labels": torch.tensor(labels)}, None)
    assert found is not None and found.tolist()[7:] == [rows, tokens]


def _ends_with_pad(pad: str) -> Any:
    tokenizer = copy.deepcopy(tiny.byte_level_tokenizer())
    tokenizer.pad_token = pad
    return tokenizer


def _found(folder: Path, rows: Any, code: str, collator: Any, tokenizer: Any, **settings: Any) -> list[Any]:
    callback = KoCPTCallback(outputs=["files"])
    tiny.trainer(
        tiny.llama(len(tiny.byte_level_tokenizer())), folder, rows, None, data_collator=collator,
        processing_class=tokenizer, callbacks=[callback], max_steps=1, **settings,
    ).train()  # fmt: skip
    read = read_run(folder / "ko_cpt").observations()
    offline = Monitor([rule for rule in ALL_RULES if rule.code == code]).judge(read)[1]
    live = [item for item in callback.findings if item.code == code]
    assert list(offline) == live
    return [(item.severity, item.variant) for item in live]


def test_the_end_token_as_pad(tmp_path: Path) -> None:
    """transformers' own collator with pad == eos: the end is no target, which generation would show; with a pad of its
    own, with labels made before padding, and with rows that have no end, nothing is said."""
    rows = tiny.rows(tiny.korean()[40:60], tiny.byte_level_tokenizer(), 10_000)
    same, own = _ends_with_pad("</s>"), _ends_with_pad("<pad>")
    code = "eos-not-trained"
    collator = DataCollatorForLanguageModeling(same, mlm=False)
    assert _found(tmp_path / "a", rows, code, collator, same) == [("warning", "")]
    assert _found(tmp_path / "b", rows, code, DataCollatorForLanguageModeling(own, mlm=False), own) == []
    assert _found(tmp_path / "c", rows, code, partial(tiny.collate, pad=1), same) == []
    cut = [{"input_ids": row["input_ids"][:40]} for row in rows if len(row["input_ids"]) > 40]
    assert _found(tmp_path / "d", cut, code, collator, same) == []
    prompts = [{**row, "labels": [-100] * 20 + row["input_ids"][20:40]} for row in cut]
    for row in prompts:
        row["input_ids"] = [*row["input_ids"][:10], 1, *row["input_ids"][11:]]  # a prompt with turns, and a cut answer
    assert _found(tmp_path / "e", prompts, code, partial(tiny.collate, pad=1), same) == []


def _filled(features: list[dict[str, Any]], token: int = 7) -> dict[str, torch.Tensor]:
    """Rows filled up to 96 tokens with a token that nobody knows, all labelled, without a mask."""
    ids = torch.tensor([[*row["input_ids"], *[token] * 96][:96] for row in features])
    return {"input_ids": ids, "labels": ids.clone()}


def test_pads_that_nobody_tells_of(tmp_path: Path) -> None:
    """No mask and no tokenizer: rows that end with runs of one label are a warning; packed text is silent."""
    rows = tiny.rows(tiny.korean()[40:60], tiny.byte_level_tokenizer(), 60)
    assert _found(tmp_path / "a", rows, "padding-in-loss", _filled, None) == [("warning", "equal")]
    packed = tiny.packed(tiny.korean(), tiny.byte_level_tokenizer())
    assert _found(tmp_path / "b", packed, "padding-in-loss", _filled_not, None) == []


def _filled_not(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    ids = torch.tensor([row["input_ids"] for row in features])
    return {"input_ids": ids, "labels": ids.clone()}
