"""The audit: mistakes of the set-up that are seen when training begins, noted as set-up rows.

It looks at names, shapes, flags and a few rows, never at all weights, calls nothing of the user's, and draws no
random number. Whether what it notes is a finding is for the rules of the same names to decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from torch import nn
from transformers import TrainingArguments

from ko_cpt_callbacks.hf.attempt_reading import attempt_facts, taken_up
from ko_cpt_callbacks.hf.audit.data import data_mistakes
from ko_cpt_callbacks.hf.audit.metric import full_name, metric_mistakes
from ko_cpt_callbacks.hf.audit.model import model_mistakes
from ko_cpt_callbacks.hf.model.facts import model_facts
from ko_cpt_callbacks.hf.trainer_access import eval_sets
from ko_cpt_callbacks.rules.note.attempt_differs import ATTEMPT
from ko_cpt_callbacks.run.progress import Summary

__all__ = ["Note", "SetUp", "argument_mistakes", "audit"]

# What a metric's name must be, or end in after an underscore, to be known as better the lower, or the higher.
# Names of the metrics of Hugging Face's evaluate and of this package; any other name is not judged.
_LOWER: Final = re.compile(
    r"(.*_)?(loss|ppl|perplexity|bits_per_byte|bpb|bits_per_character|bpc|nll|cross_entropy|wer|cer|ter|error_rate|mse"
    r"|rmse|mae)"
)
_HIGHER: Final = re.compile(
    r"(.*_)?(accuracy|acc|f1|precision|recall|auc|bleu|sacrebleu|chrf|rouge([12]|l|lsum)?|meteor|exact_match"
    r"|matthews_correlation|pearsonr?|spearmanr?)"
)


def argument_mistakes(args: TrainingArguments, *, stops: bool, starts: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the arguments get wrong, as set-up rows.

    Args:
        args: The Trainer's arguments.
        stops: Whether the callback may stop the run.
        starts: Whether training begins at step 0 and has no evaluation there yet.
    """
    evaluates, saves = _text(args.eval_strategy), _text(args.save_strategy)
    steps = args.eval_steps
    if evaluates != "steps" and isinstance(steps, (int, float)) and steps:
        yield "no-first-evaluation", {"eval_steps": steps, "eval_strategy": evaluates}
    if evaluates == "no":
        return
    keeps = _wrong_way(args.metric_for_best_model, args.greater_is_better)
    if keeps is not None and (saves != "no" or args.load_best_model_at_end):
        yield "worst-model-kept", {"keeps": keeps, "metric": full_name(str(args.metric_for_best_model))}
    # The Trainer decides on saving anew after the evaluation at an epoch's end, and a stopped run has no later event
    # at which the callback could ask again.
    if stops and saves == "best" and evaluates == "epoch":
        yield "worst-model-kept", {"keeps": "stop-unsaved"}
    if starts and not getattr(args, "eval_on_start", True):
        yield "no-first-evaluation", {}


def _wrong_way(metric: str | None, greater_is_better: bool | None) -> str | None:
    """``highest`` or ``lowest``: what is kept where that is the worst; None where it is not, or not known."""
    if metric is None or greater_is_better is None:
        return None
    name = full_name(metric).lower()
    if greater_is_better and _LOWER.fullmatch(name):
        return "highest"
    return "lowest" if not greater_is_better and _HIGHER.fullmatch(name) else None


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))


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
