"""A healthy run whose batches are grouped by length, logged at every step."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed

from ko_cpt_callbacks import KoCPTCallback

VOCABULARY = 300


def _rows() -> list[dict[str, Any]]:
    """Texts of made words, the frequent ones far more often, of very different lengths."""
    draw = random.Random(0)
    words = [[draw.randrange(3, VOCABULARY) for _ in range(draw.randrange(2, 6))] for _ in range(150)]
    rows = []
    for _ in range(660):
        row: list[int] = []
        length = max(6, int(draw.lognormvariate(3.6, 0.8)))
        while len(row) < length:
            row += words[min(int(draw.expovariate(0.05)), 149)]
        rows.append({"input_ids": row[:length], "labels": row[:length], "length": length})
    return rows


def _collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    longest = max(row["length"] for row in batch)

    def padded(name: str, value: int) -> torch.Tensor:
        return torch.tensor([row[name] + [value] * (longest - row["length"]) for row in batch])

    ids = padded("input_ids", 0)
    return {"input_ids": ids, "labels": padded("labels", -100), "attention_mask": (ids != 0).long()}


def test_nothing_is_wrong(tmp_path: Path) -> None:
    """The loss jumps at every mega-batch, from its longest rows to its shortest, and the evaluation falls: no
    warning, no error."""
    set_seed(0)
    rows = _rows()
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    callback = KoCPTCallback(outputs=())
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=150, eval_strategy="steps", eval_steps=50, eval_on_start=True,
        logging_steps=1, learning_rate=2e-3, per_device_train_batch_size=4, per_device_eval_batch_size=8,
        report_to="none", use_cpu=True, save_strategy="no", disable_tqdm=True, remove_unused_columns=False,
        train_sampling_strategy="group_by_length",
    )  # fmt: skip
    Trainer(
        LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **sizes)), arguments, train_dataset=rows[60:],
        eval_dataset=rows[:60], data_collator=_collate, callbacks=[callback],
    ).train()  # fmt: skip
    alarms = [(one.code, one.step) for one in callback.findings if one.severity != "info"]
    assert alarms == []
