"""The processes of one run: one, or as many as ``accelerate launch`` or ``torchrun`` started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import PartialState
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainingArguments


class Processes:
    """Who goes first where files are made that all of them read.

    Args:
        arguments: Of a Trainer of this run: they decide on the device, and so on how processes talk.
    """

    def __init__(self, arguments: TrainingArguments) -> None:
        self.device = "cpu" if arguments.device.type == "cpu" else str(arguments.device)
        self._state = PartialState()
        self.count: int = self._state.num_processes

    @property
    def first(self) -> bool:
        """Whether this is the first process of the run: it alone prints and makes files."""
        return bool(self._state.is_main_process)

    @contextmanager
    def first_alone(self) -> Iterator[bool]:
        """A part that only the first process does; the others wait until it is done.

        Yields:
            Whether this is the first one.
        """
        if self.first:
            yield True
        self._state.wait_for_everyone()
        if not self.first:
            yield False

    @contextmanager
    def first_before(self) -> Iterator[None]:
        """A part that the first process does first and the others after it, finding what it made."""
        with self._state.main_process_first():
            yield


def wrapper_line(trainer: Trainer) -> str:
    """How many processes trained together, and by what: said as it was, not as it was asked for."""
    name = type(trainer.model_wrapped).__name__
    said = f"  {trainer.args.world_size} processes, {name}"
    # On a CPU the Trainer itself does not know any more that it was asked for.
    asked = trainer.is_fsdp_enabled or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asked and name == DistributedDataParallel.__name__:
        return f"{said}: FSDP was asked for and not used; on a CPU accelerate copies the model instead of cutting it"
    return said
