"""The audit: mistakes of the set-up that are seen when training begins, noted as set-up rows.

It looks at names, shapes, flags and a few rows, never at all weights, calls nothing of the user's, and draws no
random number. Whether what it notes is a finding is for the rules of the same names to decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import TrainingArguments

from ko_cpt_callbacks.core.progress import Summary
from ko_cpt_callbacks.hf.attempt_reading import attempt_facts, taken_up
from ko_cpt_callbacks.hf.audit_argument import argument_mistakes
from ko_cpt_callbacks.hf.audit_data import data_mistakes
from ko_cpt_callbacks.hf.audit_metric import metric_mistakes
from ko_cpt_callbacks.hf.audit_model import model_mistakes
from ko_cpt_callbacks.hf.eval_set import eval_sets
from ko_cpt_callbacks.hf.inspection import model_facts
from ko_cpt_callbacks.rules.note.attempt_differs import ATTEMPT

__all__ = ["Note", "SetUp", "audit"]

Note = tuple[str, dict[str, Any]]
"""Kind and values of a set-up row."""


@dataclass(frozen=True, slots=True)
class SetUp:
    """What a training is about to run with.

    Args:
        model: As the Trainer has it.
        args: The Trainer's arguments.
        tokenizer: The Trainer's ``processing_class``; None where there is none.
        trainer: The Trainer, for its datasets; None where it was not found.
        stops: Whether the callback may stop the run.
        known: What is on record of the run.
        step: The step that training begins at.
        unmeasured: Which of our numbers (keys without prefix) this run cannot have, and why.
        processes: How many train together.
    """

    model: nn.Module
    args: TrainingArguments
    tokenizer: Any = field(default=None, repr=False)
    trainer: Any = field(default=None, repr=False)
    stops: bool = False
    known: Summary | None = None
    step: int = 0
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    processes: int = 1


def audit(set_up: SetUp, on_error: Callable[[Exception], None]) -> list[Note]:
    """What this process sees; the first one looks for all of them.

    Args:
        set_up: What is looked at.
        on_error: Told of an exception of ours; the other checks go on.
    """
    checks: tuple[Callable[[], Iterator[Note]], ...] = (
        lambda: model_mistakes(set_up.model, set_up.tokenizer, set_up.args),
        lambda: argument_mistakes(set_up.args, stops=set_up.stops, starts=_starts(set_up)),
        lambda: metric_mistakes(set_up.args, set_up.trainer, set_up.unmeasured),
        lambda: data_mistakes(getattr(set_up.trainer, "train_dataset", None), eval_sets(set_up.trainer)),
        lambda: _attempt(set_up),
    )
    found: list[Note] = []
    for check in checks:
        try:
            found.extend(check())
        except Exception as error:  # the run, the other checks and the other processes go on
            on_error(error)
    return found


def _attempt(set_up: SetUp) -> Iterator[Note]:
    """With what this attempt trains; no mistake, but what a resume is compared by."""
    data = getattr(set_up.trainer, "train_dataset", None)
    facts = attempt_facts(set_up.args, model_facts(set_up.model), data, set_up.processes)
    yield ATTEMPT, {**facts, "state": taken_up(set_up.trainer, set_up.step)}


def _starts(set_up: SetUp) -> bool:
    """Whether training begins at step 0, with no evaluation of that step on record."""
    splits = {} if set_up.known is None else set_up.known.splits
    return set_up.step == 0 and all(split.first.step for split in splits.values())
