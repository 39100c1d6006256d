"""One training of a run, from its beginning or from its last checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import (
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from ko_cpt_callbacks.hf.callback import KoCPTCallback
from ko_cpt_callbacks.training.bar import ProgressBar
from ko_cpt_callbacks.training.folder import last_checkpoint
from ko_cpt_callbacks.training.interrupt import InterruptSave
from ko_cpt_callbacks.training.text import Piece
from ko_cpt_callbacks.training.tokenizer import token_rows


@dataclass(frozen=True)
class Texts:
    """What a phase trains on and is evaluated on."""

    train: Sequence[Piece]
    evaluated: dict[str, Sequence[Piece]]


def train_phase(
    title: str,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    texts: Texts,
    arguments: TrainingArguments,
    length: int,
    callback: KoCPTCallback,
) -> Trainer:
    """Train, watched; Ctrl-C leaves a checkpoint.

    Args:
        title: For the progress bar.
        model: What is trained, in place.
        tokenizer: Its tokenizer.
        texts: To train on and to evaluate.
        arguments: The Trainer's; their ``output_dir`` may hold checkpoints of this phase, and then the last is
            gone on from.
        length: Tokens of the longest row.
        callback: What watches.

    Raises:
        InterruptedTrainingError: After Ctrl-C, with a checkpoint saved.
    """
    rows = token_rows(texts.train, tokenizer, length)
    checkpoint = last_checkpoint(Path(str(arguments.output_dir)), planned_steps(arguments, len(rows)))
    if checkpoint is not None:
        arguments.eval_on_start = False  # it was done, and would stand in the log a second time
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=_Rows(rows),
        eval_dataset={name: _Rows(token_rows(pieces, tokenizer, length)) for name, pieces in texts.evaluated.items()},
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
        callbacks=[callback],
    )
    trainer.remove_callback(PrinterCallback)  # it would print every row whole, between the callback's lines
    with closing(ProgressBar(title)) as bar, InterruptSave() as interrupt:
        trainer.add_callback(bar)
        trainer.add_callback(interrupt)  # last: it leaves when everyone has heard of the checkpoint
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return trainer


class _Rows(list[dict[str, Any]]):
    """Rows as a dataset."""


def planned_steps(arguments: TrainingArguments, rows: int) -> int:
    """Optimizer steps of a training on one process."""
    if arguments.max_steps > 0:
        return int(arguments.max_steps)
    per_step = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    return int(-(-rows // per_step) * arguments.num_train_epochs)
