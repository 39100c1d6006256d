"""Ctrl-C: the step is finished, a checkpoint is saved, and training ends without pretending to be complete."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Self

from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


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
    Asking the Trainer to stop would end the run as if it were complete, with all that is said of a run at its end;
    leaving after the save does not.
    """

    def __init__(self) -> None:
        self._wanted = False
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
