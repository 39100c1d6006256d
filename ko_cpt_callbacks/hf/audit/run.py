"""The audit: mistakes of the set-up that are seen when training begins, noted as set-up rows.

It looks at names, shapes, flags and a few rows, never at all weights, calls nothing of the user's, and draws no
random number. Whether what it notes is a finding is for the rules of the same names to decide.

A `metric_for_best_model` that no evaluation gives makes the Trainer die after its first evaluation. Which names an
evaluation has is known but for what others may add: ``compute_metrics``, a Trainer's own ``evaluate`` or ``log``,
another callback. Where one of them may, a name is no mistake; at most it is worth a note.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from torch import nn
from transformers import TrainerCallback, TrainingArguments

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import near_miss
from ko_cpt_callbacks.hf.audit.data import data_mistakes
from ko_cpt_callbacks.hf.audit.model import model_mistakes
from ko_cpt_callbacks.hf.model.facts import model_facts, planned_rates
from ko_cpt_callbacks.hf.trainer_access import eval_sets
from ko_cpt_callbacks.hf.trainer_reading import attempt_facts, continued_parts
from ko_cpt_callbacks.run.fold import ATTEMPT, RATE_AHEAD
from ko_cpt_callbacks.run.progress import Summary
from ko_cpt_callbacks.run.retention import RETENTION_NAMES, is_retention, names_set, retention_names
from ko_cpt_callbacks.watch.spec import WatchSpec

__all__ = [
    "METRICS", "Note", "argument_mistakes", "audit", "looked_up_name", "metric_mistakes", "retention_mistakes",
    "unmeasured",
]  # fmt: skip

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
        yield "worst-model-kept", {"keeps": keeps, "metric": looked_up_name(str(args.metric_for_best_model))}
    # The Trainer decides on saving anew after the evaluation at an epoch's end, and a stopped run has no later event
    # at which the callback could ask again.
    if stops and saves == "best" and evaluates == "epoch":
        yield "worst-model-kept", {"keeps": "stop-unsaved"}
    if starts and not getattr(args, "eval_on_start", True):
        yield "no-first-evaluation", {}


def retention_mistakes(watch: WatchSpec, args: TrainingArguments, trainer: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The set-up row of names in ``retention`` that are no evaluation set's; nothing where the sets are not known.

    A usual name (``en`` is there unasked) is missed only where continued pretraining has several sets and keeps none.
    """
    prefixes = list(eval_sets(trainer))
    sets = [prefix.removeprefix("eval_") for prefix in prefixes]
    if not sets or _text(args.eval_strategy) == "no":
        return
    kept = [one for one in prefixes if is_retention(one, watch.retention)]
    missing = [name for name in retention_names(watch.retention) if not any(names_set(name, one) for one in prefixes)]
    unwatched = watch.task == "cpt" and len(sets) > 1 and not kept
    if any(name.lower() not in RETENTION_NAMES for name in missing) or (missing and unwatched):
        yield "retention-not-evaluated", {"names": missing, "sets": [*sets[:_SHOWN], *(["…"] if sets[_SHOWN:] else [])]}


def _wrong_way(metric: str | None, greater_is_better: bool | None) -> str | None:
    """``highest`` or ``lowest``: what is kept where that is the worst; None where it is not, or not known."""
    if metric is None or greater_is_better is None:
        return None
    name = looked_up_name(metric).lower()
    if greater_is_better and _LOWER.fullmatch(name):
        return "highest"
    return "lowest" if not greater_is_better and _HIGHER.fullmatch(name) else None


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))


Note = tuple[str, dict[str, Any]]
"""Kind and values of a set-up row."""


def audit(
    model: nn.Module,
    args: TrainingArguments,
    tokenizer: Any,
    trainer: Any,
    watch: WatchSpec,
    known: Summary,
    *,
    step: int,
    processes: int,
    stops: bool,
    unmeasured: Mapping[str, str],
    on_error: Callable[[Exception], None],
) -> list[Note]:
    """What this process sees; the first one looks for all of them.

    Args:
        model: As the Trainer has it.
        args: The Trainer's arguments.
        tokenizer: The Trainer's ``processing_class``; None where there is none.
        trainer: The Trainer, for its datasets; None where it was not found.
        watch: What is watched.
        known: What is on record of the run.
        step: The step that training begins at.
        processes: How many train together.
        stops: Whether the callback may stop the run.
        unmeasured: Which of our numbers (keys without prefix) this run cannot have, and why.
        on_error: Called with an exception of ours; the other checks go on.
    """
    data = getattr(trainer, "train_dataset", None)
    starts = step == 0 and all(split.first.step for split in known.splits.values())
    checks: tuple[Callable[[], Iterator[Note]], ...] = (
        lambda: model_mistakes(model, tokenizer, args),
        lambda: argument_mistakes(args, stops=stops, starts=starts),
        lambda: retention_mistakes(watch, args, trainer),
        lambda: metric_mistakes(args, trainer, unmeasured),
        lambda: data_mistakes(data, eval_sets(trainer)),
        lambda: _attempt(model, args, trainer, step, processes),
        lambda: _rate_ahead(trainer, step),
    )
    found: list[Note] = []
    for check in checks:
        try:
            found.extend(check())
        except Exception as error:  # the run, the other checks and the other processes go on
            on_error(error)
    return found


def _attempt(model: nn.Module, args: TrainingArguments, trainer: Any, step: int, processes: int) -> Iterator[Note]:
    """With what this attempt trains; no mistake, but what a resume is compared by."""
    facts = attempt_facts(args, model_facts(model), getattr(trainer, "train_dataset", None), processes)
    yield ATTEMPT, {**facts, "state": continued_parts(trainer, step)}


def _rate_ahead(trainer: Any, step: int) -> Iterator[Note]:
    """What the scheduler has planned; no mistake, but what a forecast goes by."""
    scheduler = getattr(trainer, "lr_scheduler", None)
    last = getattr(getattr(trainer, "state", None), "max_steps", 0)
    if scheduler is None or last <= 0:
        return
    planned = planned_rates(scheduler, step, last)
    found = {"scheduler": type(getattr(scheduler, "scheduler", scheduler)).__name__}
    yield RATE_AHEAD, found if planned is None else {**found, "steps": planned[0], "rates": planned[1]}


# What is published of each evaluation: the texts go to log_history and our files, never into the metrics.
METRICS: Final = tuple(
    suffix
    for suffix in keys.EVAL_SUFFIXES
    if suffix not in (
        keys.FINGERPRINT, keys.EXACT_LOSS_ABSENT, keys.BITS_PER_BYTE_ABSENT, keys.ERROR_BAR_ABSENT,
        *keys.FORECAST_SUFFIXES,
    )
)  # fmt: skip
# What the Trainer adds depends on its version and on `skip_memory_metrics`: never judged.
_TRAINERS_OWN: Final = re.compile(r".*_(runtime|\w+_per_second|\w+_time|mem_\w+)")
# Methods through which a Trainer of one's own can put names into the metrics, or never ask for one.
_METHODS: Final = (
    "evaluate", "evaluation_loop", "prediction_loop", "log", "_evaluate", "_maybe_log_save_evaluate",
    "_determine_best_metric",
)  # fmt: skip
_SHOWN: Final = 8


def metric_mistakes(
    args: TrainingArguments, trainer: Any, unmeasured: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The set-up row of a metric that will not be there; nothing where it is, or may be."""
    if args.metric_for_best_model is None or _text(args.eval_strategy) == "no":
        return
    wanted, sets = looked_up_name(args.metric_for_best_model), list(eval_sets(trainer))
    losses = [keys.key(prefix, keys.LOSS) for prefix in sets]
    ours = {keys.key(prefix, suffix): suffix for prefix in sets for suffix in METRICS}
    there = [*losses, *(name for name, suffix in ours.items() if suffix not in unmeasured)]
    if not sets or wanted in there or _TRAINERS_OWN.fullmatch(wanted):
        return
    known = wanted in ours or wanted in {keys.key("eval", suffix) for suffix in (keys.LOSS, *METRICS)}
    others = _adds_names(trainer)
    if getattr(trainer, "compute_metrics", None) is not None and wanted.startswith(tuple(f"{name}_" for name in sets)):
        others.add("compute_metrics")
    if others and not known:
        return
    shown = [name for name in there if name in losses or ours.get(name) in (keys.EXACT_LOSS, keys.BITS_PER_BYTE)]
    yield (
        "metric-not-delivered",
        {
            "metric": wanted,
            "certain": not others - {"trl"},
            "there": [*shown[:_SHOWN], *(["…"] if len(shown) > _SHOWN else [])],
            "near": _near(wanted, there),
            "reason": unmeasured.get(ours.get(wanted, "")),
            "others": sorted(others - {"trl"}),
        },
    )


def unmeasured(refused: str | None, bytes_absent: str | None) -> dict[str, str]:
    """Which numbers a run cannot have, and why.

    Args:
        refused: Why nothing is measured in it; None where something is.
        bytes_absent: Why bytes are not counted; None where they are.

    >>> sorted(unmeasured(None, "there is no tokenizer"))
    ['bits_per_byte', 'bits_per_byte_se', 'bytes']
    """
    if refused is not None:  # broken batches are counted all the same
        return dict.fromkeys([suffix for suffix in METRICS if suffix != keys.NONFINITE_BATCHES], refused)
    of_bytes = (keys.BITS_PER_BYTE, keys.BITS_PER_BYTE_SE, keys.BYTES)
    return {} if bytes_absent is None else dict.fromkeys(of_bytes, bytes_absent)


def looked_up_name(metric: str) -> str:
    """The name that the Trainer looks up."""
    return metric if metric.startswith("eval_") else f"eval_{metric}"


def _near(wanted: str, there: list[str]) -> str:
    """The name that was most likely meant: the same number of a set, else the most alike, else the first loss."""
    same = [name for name in there if name.endswith(wanted.removeprefix("eval"))]
    return same[0] if same else near_miss(wanted, there) or there[0]


def _adds_names(trainer: Any) -> set[str]:
    """Who may put names of its own into the metrics; ``trl``: its Trainers, which add no loss and none of ours."""
    found = set()
    for owner in type(trainer).__mro__:
        if any(method in vars(owner) for method in _METHODS):
            found |= _stranger(owner.__module__, owner.__name__)
    if any(method in vars(trainer) for method in _METHODS):
        found.add(type(trainer).__name__)
    callbacks: Collection[Any] = getattr(getattr(trainer, "callback_handler", None), "callbacks", ())
    for callback in callbacks:
        for event in ("on_log", "on_evaluate"):
            if getattr(type(callback), event, None) is not getattr(TrainerCallback, event):
                found |= _stranger(type(callback).__module__, type(callback).__name__)
    return found


def _stranger(module: str, name: str) -> set[str]:
    library = module.partition(".")[0]
    if library in ("transformers", "ko_cpt_callbacks"):
        return set()
    return {library if library == "trl" else name}
