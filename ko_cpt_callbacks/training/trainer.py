"""One training of a run, from its beginning or from its last checkpoint."""

from __future__ import annotations

import inspect
import json
import math
import shutil
import signal
import sys
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

import torch
from datasets import Dataset  # type: ignore[import-untyped]
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import (
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.hf.callback import KoCPTCallback
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.run.file import STATE_FILE
from ko_cpt_callbacks.training.data.packing import COLUMN, IGNORED, LABELS


class Batcher:
    """Fills rows up to the longest; what it fills in is no target and is not attended to.

    transformers' own collator takes every token that is the pad token for padding: with a pad token that is the end
    token too, as many models have it, no document would end.

    Args:
        tokenizer: Its pad token is filled in, or its end token.
        model: Some ask which tokens are of a picture: none.
    """

    def __init__(self, tokenizer: Any, model: nn.Module) -> None:
        given = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        self._pad = next(index for index in given if index is not None)
        inner: Any = model
        while hasattr(inner, "get_base_model"):
            inner = inner.get_base_model()
        self._types = "token_type_ids" in inspect.signature(inner.forward).parameters

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Row by row ``input_ids`` and, where they differ, ``labels``."""
        length = max(len(row[COLUMN]) for row in rows)
        ids = torch.full((len(rows), length), self._pad, dtype=torch.long)
        labels = torch.full_like(ids, IGNORED)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            size = len(row[COLUMN])
            ids[place, :size] = torch.tensor(row[COLUMN])
            labels[place, :size] = torch.tensor(row.get(LABELS, row[COLUMN]))
            mask[place, :size] = 1
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        return {**batch, "token_type_ids": torch.zeros_like(ids)} if self._types else batch


class InterruptedTrainingError(Exception):
    """Training was stopped by its user, with a checkpoint saved.

    Attributes:
        step: The optimizer step of the checkpoint.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.step = step


class InterruptSave(TrainerCallback):
    """Turns the first Ctrl-C into a checkpoint and a stop; the second stops at once.

    A context manager, in the main thread. Add it after every callback that has something to do with a save.
    Asking the Trainer to stop would end the run as if it were complete, with all that is reported of a run at its end;
    leaving after the save does not.
    """

    def __init__(self) -> None:
        self._wanted = False
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Ask for a checkpoint; after the last step there is nothing left to stop."""
        if self._leaves(state):
            control.should_save = True
        return control

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave.

        Raises:
            InterruptedTrainingError: If Ctrl-C was pressed.
        """
        if self._leaves(state):
            raise InterruptedTrainingError(state.global_step)

    def _leaves(self, state: TrainerState) -> bool:
        return self._wanted and state.global_step < state.max_steps

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self._wanted:
            raise KeyboardInterrupt
        self._wanted = True
        tqdm.write("Ctrl-C: saving a checkpoint after this step (again: stop at once, back to the last checkpoint)")


# Seconds between two drawings where no one looks on: each is a line in a log file.
_INTERVAL_IN_FILE: Final = 10.0
_INTERVAL: Final = 0.2


class ProgressBar(TrainerCallback):
    """Shows steps, time left and the training loss on stderr.

    Args:
        title: What is in progress.
    """

    def __init__(self, title: str) -> None:
        self._title = printable(title)
        self._bar: tqdm[Any] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar, at the step that a resumed training begins from."""
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc=self._title,
            unit="step",
            dynamic_ncols=True,
            mininterval=_INTERVAL if sys.stderr.isatty() else _INTERVAL_IN_FILE,
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Go on by what was done."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the latest training loss."""
        if self._bar is not None and logs and isinstance(logs.get(keys.LOSS), float):
            self._bar.set_postfix_str(f"loss {logs[keys.LOSS]:.3f}", refresh=False)

    def close(self) -> None:
        """Leave the bar as it stands, also after an interruption."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def train_stage(
    title: str,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    evaluated: Mapping[str, Dataset],
    arguments: TrainingArguments,
    callback: KoCPTCallback,
) -> Trainer:
    """Train, watched, and evaluate at the end whatever the arguments say; Ctrl-C leaves a checkpoint.

    Args:
        title: For the progress bar.
        model: What is trained, in place.
        tokenizer: Its tokenizer.
        rows: To train on.
        evaluated: To evaluate, by name.
        arguments: The Trainer's; their ``output_dir`` may hold checkpoints of this phase, and then the last that
            leaves something to do is gone on from.
        callback: What watches.

    Raises:
        InterruptedTrainingError: After Ctrl-C, with a checkpoint saved; on one process alone.
    """
    folder = Path(str(arguments.output_dir))
    stopped = _stopped_at(folder)
    checkpoint = last_checkpoint(folder, min(planned_steps(arguments, len(rows)), stopped), arguments.world_size)
    if arguments.process_index == 0 and stopped < math.inf:
        # The stop is forgotten as soon as it trains again: killed once more, it would go on from beyond it.
        remove_checkpoints(folder, int(stopped))
    if checkpoint is not None:
        arguments.eval_on_start = False  # it was done, and would stand in the log a second time
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=dict(evaluated),
        data_collator=Batcher(tokenizer, model),
        processing_class=tokenizer,
        callbacks=[callback, _LastEvaluation()],
    )
    trainer.remove_callback(PrinterCallback)  # it would print every row whole, between the callback's lines
    with ExitStack() as stack:
        if trainer.is_world_process_zero():
            trainer.add_callback(stack.enter_context(closing(ProgressBar(title))))
        if arguments.world_size == 1:  # several processes hear of Ctrl-C at different steps, and would not agree
            trainer.add_callback(stack.enter_context(InterruptSave()))  # last: it leaves when all know the checkpoint
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return trainer


def planned_steps(arguments: TrainingArguments, rows: int) -> int:
    """Optimizer steps of a training."""
    if arguments.max_steps > 0:
        return int(arguments.max_steps)
    per_batch = arguments.per_device_train_batch_size * arguments.world_size * max(1, arguments.n_gpu)
    batches = rows // per_batch if arguments.dataloader_drop_last else -(-rows // per_batch)
    steps = max(1, -(-batches // arguments.gradient_accumulation_steps))
    return math.ceil(float(steps * arguments.num_train_epochs))


class _LastEvaluation(TrainerCallback):
    """Asks for an evaluation after the last step, planned or not: what a stage reached is compared with the next.

    Add it after what may stop the training.
    """

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Ask at the last step, and where a stop was asked for in the step; log there too: it has the tokens."""
        if state.global_step >= state.max_steps or control.should_training_stop:
            control.should_evaluate = control.should_log = True
        return control

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Ask where a stop was asked for by what was logged; the Trainer evaluates after it logs."""
        if control.should_training_stop:
            control.should_evaluate = True
        return control


def _stopped_at(folder: Path) -> float:
    """The step at which this training stopped itself; infinity where it did not.

    Its checkpoint is the training's end, and a resumed Trainer would train one step too many there.
    """
    try:
        stop = json.loads((folder / keys.FOLDER / keys.RUN_FILE).read_text(encoding="utf-8"))["stop"]
        return math.inf if stop is None else int(stop["step"])
    except (OSError, ValueError, TypeError, KeyError):
        return math.inf


# A kill leaves files that are not there or cut off: going on from such a checkpoint ends in an error, or, where the
# optimizer or the random state is missing, in another training without a word.
_TORCH: Final = ("*.pt", "*.pth", "*.bin")
# The optimizer's state: in one file, or cut into parts by FSDP or DeepSpeed.
_OPTIMIZER: Final = ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*")
# The schedule's; DeepSpeed may keep its own among its parts. Without it a Trainer begins the schedule anew, and takes
# the optimizer's state from nowhere either, without a word.
_SCHEDULE: Final = ("scheduler.pt", "global_step*")


def last_checkpoint(folder: Path, max_steps: float, processes: int = 1) -> Path | None:
    """The latest checkpoint that one can go on from exactly and that leaves a step to do; None to begin anew.

    Args:
        folder: The training's.
        max_steps: A Trainer resumed from the checkpoint of the very last step would train one step too many.
        processes: How many have to find their random state.
    """
    for step, path in sorted(_numbered(folder).items(), reverse=True):
        if step < max_steps and _is_whole(path, processes):
            return path
    return None


def remove_checkpoints(folder: Path, from_step: float = 0) -> None:
    """Delete the checkpoints of a training, those before a step left alone; copies under other names stay."""
    for step, path in _numbered(folder).items():
        if step >= from_step:
            shutil.rmtree(path, ignore_errors=True)


def _numbered(folder: Path) -> dict[int, Path]:
    """What the Trainer named ``checkpoint-N``; a ``checkpoint-best`` is somebody's own."""
    names = {path.name.removeprefix("checkpoint-"): path for path in folder.glob("checkpoint-*")}
    return {int(name): path for name, path in names.items() if name.isdecimal()}


def _is_whole(path: Path, processes: int) -> bool:
    ranks = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    if not all((path / name).is_file() for name in ranks):
        return False
    if not all(any(True for name in names for _ in path.glob(name)) for names in (_OPTIMIZER, _SCHEDULE)):
        return False
    torch_files = (file for pattern in _TORCH for file in path.glob(pattern) if file.name != "training_args.bin")
    try:
        # The last file of a checkpoint, in one process: one that parses closes it.
        int(json.loads((path / STATE_FILE).read_text(encoding="utf-8"))["global_step"])
        for file in path.glob("*.safetensors"):
            with safe_open(str(file), "pt"):  # which must be as long as its header says
                pass
    except (OSError, ValueError, TypeError, KeyError, SafetensorError):
        return False
    # torch.save writes a zip, whose directory stands at its end.
    return all(map(zipfile.is_zipfile, torch_files))
