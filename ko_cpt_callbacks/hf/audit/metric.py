"""`metric_for_best_model` that no evaluation gives: the Trainer looks it up after its first evaluation and dies.

Which names an evaluation has is known but for what others may add: ``compute_metrics``, a Trainer's own ``evaluate`` or
``log``, another callback. Where one of them may, a name is no mistake; at most it is worth a note.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from transformers import TrainerCallback, TrainingArguments

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.hf.trainer_access import eval_sets

__all__ = ["METRICS", "full_name", "metric_mistakes", "unmeasured"]

# What is published of an evaluation: the texts go to log_history and our files, never into the metrics.
METRICS: Final = tuple(
    suffix
    for suffix in keys.EVAL_SUFFIXES
    if suffix not in (keys.FINGERPRINT, keys.EXACT_LOSS_ABSENT, keys.BITS_PER_BYTE_ABSENT, keys.ERROR_BAR_ABSENT)
)
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
    """The set-up row of a metric that will not be there; nothing where it is, or may be.

    Args:
        args: The Trainer's arguments.
        trainer: The Trainer; None where it was not found, and then its sets are not known.
        unmeasured: Which of our numbers (keys without prefix) this run cannot have, and why.
    """
    if args.metric_for_best_model is None or str(getattr(args.eval_strategy, "value", args.eval_strategy)) == "no":
        return
    wanted, sets = full_name(args.metric_for_best_model), list(eval_sets(trainer))
    losses = [keys.key(prefix, keys.LOSS) for prefix in sets]
    ours = {keys.key(prefix, suffix): suffix for prefix in sets for suffix in METRICS}
    there = [*losses, *(name for name, suffix in ours.items() if suffix not in unmeasured)]
    if not sets or wanted in there or _TRAINERS_OWN.fullmatch(wanted):
        return
    known = wanted in ours or wanted in {keys.key("eval", suffix) for suffix in (keys.LOSS, *METRICS)}
    others = _adds_names(trainer)
    if getattr(trainer, "compute_metrics", None) is not None and wanted.startswith(tuple(f"{name}_" for name in sets)):
        others.add("compute_metrics")
    if others - {"trl"} or ("trl" in others and not known):
        if not known:
            return
        certain = False
    else:
        certain = True
    shown = [name for name in there if name in losses or ours.get(name) in (keys.EXACT_LOSS, keys.BITS_PER_BYTE)]
    yield (
        "metric-not-delivered",
        {
            "metric": wanted,
            "certain": certain,
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


def full_name(metric: str) -> str:
    """The name that the Trainer looks up."""
    return metric if metric.startswith("eval_") else f"eval_{metric}"


def _near(wanted: str, there: list[str]) -> str:
    """The name that was most likely meant: the same number of a set, else the most alike, else the first loss."""
    same = [name for name in there if name.endswith(wanted.removeprefix("eval"))]
    alike = difflib.get_close_matches(wanted, there, n=1)
    return (same or alike or there)[0]


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
