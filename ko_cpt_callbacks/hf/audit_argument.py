"""Mistakes in the Trainer's arguments: the wrong model kept, no evaluation at the start, or none at the steps set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from transformers import TrainingArguments

from ko_cpt_callbacks.hf.audit_metric import full_name

__all__ = ["argument_mistakes"]

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
