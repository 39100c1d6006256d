"""A progress bar over the optimizer steps; rows are not printed, evaluations have lines of their own."""

from __future__ import annotations

import sys
from typing import Any, Final

from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.printable import printable

# Seconds between two drawings where nobody looks on: each is a line in a log file.
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

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Leave the bar as it stands, also after an interruption."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
