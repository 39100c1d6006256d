"""With what an attempt trains: the same data give the same digest however they are kept, other data another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import TrainingArguments

from ko_cpt_callbacks.hf.trainer_reading import attempt_facts

ROWS = [{"input_ids": [i, i + 1, i + 2][: 1 + i % 3], "labels": [-100, i, i][: 1 + i % 3]} for i in range(50)]


def _facts(tmp_path: Path, dataset: Any = ROWS, processes: int = 1, **changes: Any) -> dict[str, dict[str, Any]]:
    args = TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True, **changes)
    facts = attempt_facts(args, {"quantization": "8-bit", "trainable_parameters": 7}, dataset, processes)
    assert json.loads(json.dumps(facts)) == facts
    return facts


def test_one_digest_for_one_text(tmp_path: Path) -> None:
    """A list, a Dataset in memory, a Subset of all its rows, rows of tensors: the same count and digest."""
    known = _facts(tmp_path)["data"]
    assert known["training_rows"] == 50
    tensors = [{name: torch.tensor(value) for name, value in row.items()} for row in ROWS]
    kept = datasets.Dataset.from_list(ROWS)
    for same in (tuple(ROWS), kept, kept.with_format("torch"), torch.utils.data.Subset(ROWS, range(50)), tensors):
        assert _facts(tmp_path, same)["data"] == known


def test_other_rows_other_labels_other_order(tmp_path: Path) -> None:
    """Each gives another digest; one row more, another count."""
    known = _facts(tmp_path)["data"]
    masked = [{**row, "labels": [-100] * len(row["labels"])} for row in ROWS]
    for other in (masked, ROWS[::-1], [{"input_ids": row["input_ids"]} for row in ROWS]):
        data = _facts(tmp_path, other)["data"]
        assert data["training_rows"] == 50 and data["training_data"] != known["training_data"]
    assert _facts(tmp_path, [*ROWS, ROWS[0]])["data"]["training_rows"] == 51
    texts = [{"text": "가"}, {"text": "나"}]
    assert _facts(tmp_path, texts)["data"] != _facts(tmp_path, texts[::-1])["data"]


def test_what_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    """A stream, a transform, a class of one's own, pixel values, nothing: no digest, and nobody's code was run."""

    class Own(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            raise AssertionError("read")

    kept = datasets.Dataset.from_list(ROWS)
    for unknown in (
        kept.to_iterable_dataset(), kept.with_transform(lambda rows: {}), Own(), torch.utils.data.Subset(Own(), [0]),
        [], [{"pixel_values": torch.zeros(2)}], [{"input_ids": torch.zeros(2)}], [(1, 2)], None,
    ):  # fmt: skip
        assert _facts(tmp_path, unknown)["data"] == {}


def test_rows_per_step(tmp_path: Path) -> None:
    """Batch times accumulation times processes: the same however it is cut up."""
    wide = _facts(tmp_path, per_device_train_batch_size=8)
    cut = _facts(tmp_path, processes=2, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    assert wide == cut
    assert wide["batch"] == {"rows_per_step": 8}
    assert _facts(tmp_path, per_device_train_batch_size=4) != wide


def test_what_does_not_move_the_weights_does_not_count(tmp_path: Path) -> None:
    """Length, logging, saving and evaluating; a scheduler, an optimizer and a seed do."""
    known = _facts(tmp_path)
    assert _facts(tmp_path, max_steps=7, logging_steps=1, save_steps=3, eval_steps=2, num_train_epochs=9) == known
    for name, value in (("lr_scheduler_type", "cosine"), ("optim", "adafactor"), ("seed", 1), ("adam_beta2", 0.95)):
        assert _facts(tmp_path, **{name: value})["arguments"][name] == value != known["arguments"][name]
