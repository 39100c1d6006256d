"""Small real trainings that go wrong in one way each, and the same ones without the fault."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import tiny
import torch
from e2e import job
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, Trainer

from ko_cpt_callbacks import KoCPTCallback

STEPS = 80
BATCH = 4
"""Rows of an optimizer step, over all processes."""
HELD_OUT = 16
"""Blocks of each language that are evaluated; the Korean ones of training come next."""
POISONED_STEP = 41
"""The first step whose rows have labels drawn at random."""
NAN_STEP = 33
"""The step whose loss is NaN. The next row is that of step 35."""


class InOrder(Trainer):
    """Trains on its rows in the order in which they stand, so that a step's rows are known."""

    def _get_train_sampler(self, *args: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def run(
    folder: str, fault: str, *, faulty: bool = True, stop_on: tuple[str, ...] = (), **changes: Any
) -> dict[str, Any]:
    """One run of `STEPS` steps; a row in the log for each, an evaluation every five.

    Args:
        folder: ``output_dir``.
        fault: ``rate-too-high``, ``labels-poisoned``, ``few-rows``, ``english-forgotten`` or ``nan-batch``.
        faulty: Whether it is there; if not, the run is the same but for it.
        stop_on: For the callback.
        changes: Training arguments.
    """
    korean, english = _blocks(tiny.korean()), _blocks(tiny.english())
    sets = {"ko": korean[:HELD_OUT]}
    train, rate = korean[HELD_OUT : HELD_OUT + BATCH * STEPS], 1e-2
    own: dict[str, Any] = {}
    if fault == "rate-too-high":
        rate, own = 3.0 if faulty else rate, {"warmup_steps": 30}
    elif fault == "labels-poisoned" and faulty:
        first = BATCH * (POISONED_STEP - 1)
        train = [*train[:first], *map(_poisoned, train[first:])]
    elif fault == "few-rows" and faulty:
        train = train[: 3 * BATCH]
    elif fault == "english-forgotten":
        sets["en"], rate = english[:HELD_OUT], 3e-3
        if not faulty:  # Every second row is English.
            train = [row for pair in zip(train, english[HELD_OUT:], strict=False) for row in pair][: len(train)]
    elif fault == "nan-batch":
        own = {"logging_steps": 5}
    world = int(os.environ.get("WORLD_SIZE", "1"))
    settings = {
        "max_steps": STEPS,
        "learning_rate": rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 5,
        "per_device_train_batch_size": BATCH // world,
        "per_device_eval_batch_size": 8,
        "eval_strategy": "steps",
        "eval_steps": 5,
        "eval_on_start": True,
        "metric_for_best_model": "eval_ko_exact_loss",
        "load_best_model_at_end": False,
        **({"ddp_backend": "gloo"} if world > 1 else {}),
        **own,
        **changes,
    }
    model = _base() if fault == "english-forgotten" else _llama()
    watcher = KoCPTCallback(stop_on=stop_on)
    others = [job.NanLoss(model, [NAN_STEP])] if fault == "nan-batch" and faulty else []
    trainer = tiny.trainer(
        model, Path(folder), train, sets, callbacks=[watcher, *others], trainer_class=InOrder, **settings
    )
    trainer.train()
    trainer.save_state()
    checkpoints = sorted(path.name for path in Path(folder).glob("checkpoint-*"))
    return {**job.report(trainer, watcher), "checkpoints": checkpoints}


def _blocks(texts: tuple[str, ...]) -> list[dict[str, Any]]:
    """Blocks of 32 tokens in a random order that is always the same: no part of the text stands together."""
    packed = tiny.packed(texts, tiny.byte_level_tokenizer(), 32)
    random.Random(0).shuffle(packed)
    return packed


def _poisoned(row: dict[str, Any]) -> dict[str, Any]:
    """The row with any tokens for labels."""
    draw, size = random.Random(sum(row["labels"])), len(tiny.byte_level_tokenizer())
    return {**row, "labels": [draw.randrange(size) for _ in row["labels"]]}


def _llama() -> PreTrainedModel:
    return tiny.llama(len(tiny.byte_level_tokenizer()), layers=1)


def _base() -> PreTrainedModel:
    """A Llama that knows some English, and a little Korean: every model that is trained on does."""
    model = _llama()
    rows = [*_blocks(tiny.english())[HELD_OUT:], *_blocks(tiny.korean())[-100:]]
    random.Random(0).shuffle(rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for start in range(0, len(rows), 8):
        model(**tiny.collate(rows[start : start + 8])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model
