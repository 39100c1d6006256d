"""Which rows are the Trainer's own.

``Trainer.log`` is open to everyone: a ``compute_loss`` logs the parts of its loss with it, a callback logs what it
measured on the main process, a script logs its metrics again. Such rows are no evaluation and no training row: they
count for nothing, and no rank waits for another because of them. An evaluation is what prediction steps were seen
for; a training row is what comes once between two optimizer steps.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import DefaultFlowCallback

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.run.rows import eval_prefixes, timed_prefixes

__all__ = ["OwnRows", "UnseenEvaluation", "row_is_due"]


class OwnRows:
    """What of a training's course tells whose row it is that is logged."""

    def __init__(self) -> None:
        self._in_step = False
        self._due = False
        self._rated = False
        self._timed = False

    def step_begins(self) -> None:
        """An optimizer step begins: until it ends, the Trainer logs nothing of its own but evaluations."""
        self._in_step, self._due = True, False

    def step_ends(self) -> None:
        """An optimizer step is over: the Trainer may log one training row."""
        self._in_step, self._due = False, True

    def training_row(self, logs: Mapping[str, Any]) -> bool:
        """Whether ``logs`` is the training row of the step that ended; asked once for every row."""
        if keys.LOSS not in logs or timed_prefixes(logs) or not self._due:
            return False
        rated = keys.LEARNING_RATE in logs  # the Trainer's always has it
        if self._rated and not rated and keys.GRAD_NORM not in logs:
            return False
        self._rated, self._due = self._rated or rated, False
        return True

    def end_row(self, logs: Mapping[str, Any]) -> bool:
        """Whether ``logs`` is the row that ends a training."""
        return keys.key(keys.TRAIN_PREFIX, keys.RUNTIME) in logs and keys.LOSS not in logs and not self._in_step

    def evaluation(self, logs: Mapping[str, Any], *, running: bool, ended: bool) -> str | None:
        """The prefix of the evaluation that ``logs`` is the row of; None where it is none's.

        Args:
            logs: The row.
            running: Prediction steps were seen since the last evaluation.
            ended: The last of them was the last of its data.
        """
        timed = timed_prefixes(logs)
        prefixes = timed or eval_prefixes(logs)
        if not prefixes or not (running or ended) or not (timed or (ended and not self._timed)):
            return None
        self._timed = self._timed or bool(timed)
        return prefixes[0]

    def unseen_evaluation(self, logs: Mapping[str, Any]) -> str | None:
        """The prefix of an evaluation without prediction steps that ``logs`` may be the row of.

        A Trainer with an evaluation loop of its own logs such; whether it was one shows in ``on_evaluate``.
        """
        timed = timed_prefixes(logs)
        prefixes = timed or (() if self._timed else eval_prefixes(logs))
        return prefixes[0] if prefixes else None


@dataclass(frozen=True, slots=True)
class UnseenEvaluation:
    """A row that is an evaluation's if an evaluation ends with it: no prediction step was seen."""

    prefix: str
    logs: dict[str, Any]
    row: dict[str, Any]


def row_is_due(event: str, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> bool:
    """Whether the Trainer will log, evaluate, save or end after this event: every rank finds the same.

    Asks the Trainer's own flow, which decides after this callback. What another callback asks for later is not seen.

    Args:
        event: ``on_step_end`` or ``on_epoch_end``.
        args: The Trainer's arguments.
        state: The Trainer's state.
        control: What was asked for so far; left as it is.
    """
    probe = copy.copy(control)
    getattr(DefaultFlowCallback(), event)(args, state, probe)
    return probe.should_log or probe.should_evaluate or probe.should_save or probe.should_training_stop
