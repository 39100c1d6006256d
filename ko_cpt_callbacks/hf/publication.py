"""Rows that others read too: which are the Trainer's own, what the callback adds, and what it leaves the readers.

The Trainer hands one dictionary to its trackers, to the callbacks after this one and to the caller of ``evaluate()``,
and one list of rows to its state and its model card. Some of these readers take every number they find for their own.

``Trainer.log`` is open to everyone: a ``compute_loss`` logs the parts of its loss with it, a callback logs what it
measured on the main process, a script logs its metrics again. Such rows are no evaluation and no training row: they
count for nothing, and no rank waits for another because of them. An evaluation is what prediction steps were seen
for; a training row is what comes once between two optimizer steps.

The row that transformers prints leaves out our numbers that say nothing: zeros, and what has not changed.
"""

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import DefaultFlowCallback
from transformers.trainer_utils import default_compute_objective

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.hf.measure.measurement import Measurement
from ko_cpt_callbacks.metrics.row_sums import RowSums, exact_numbers, loss_numbers, numbers_only
from ko_cpt_callbacks.run.progress import EvalProgress
from ko_cpt_callbacks.run.retention import retention_names
from ko_cpt_callbacks.run.rows import eval_prefixes, timed_prefixes

__all__ = [
    "OwnRows", "UnseenEvaluation", "add_numbers", "best_exact", "complete_metrics", "evaluation_entries",
    "keep_texts_off_cards", "print_small_rows", "row_is_due", "without_clock",
]  # fmt: skip

def add_numbers(metrics: dict[str, Any], numbers: Mapping[str, float | int]) -> None:
    """Add ``numbers`` to the metrics of an evaluation, and keep the Trainer's own loss their last.

    A notebook's table takes the last name that ends in ``_loss`` for the evaluation's, and drops the run time and the
    speeds under its prefix only.
    """
    metrics.update(numbers)
    for name in [name for name in metrics if name.endswith(f"_{keys.LOSS}") and name not in numbers]:
        metrics[name] = metrics.pop(name)


def complete_metrics(
    metrics: dict[str, Any], numbers: Mapping[str, float | int], trainer: Any, state: TrainerState, chosen: str | None
) -> None:
    """Give an evaluation's metrics its numbers, unless a hyperparameter search would add them all up.

    Args:
        metrics: What ``evaluate()`` returns; ``numbers`` may be in it already, for the trackers.
        numbers: Ours.
        trainer: The Trainer; None where it was not found.
        state: Its state.
        chosen: ``metric_for_best_model``: a number that is chosen by stays, whatever adds it up.
    """
    if not _sums_all(trainer, state):
        add_numbers(metrics, numbers)
        return
    for name in numbers:
        if name not in (chosen, f"eval_{chosen}"):
            metrics.pop(name, None)


def _sums_all(trainer: Any, state: TrainerState) -> bool:
    """Whether a search minimizes the sum of all metrics, its default; every search of an unknown Trainer counts."""
    if trainer is None:
        return bool(state.is_hyper_param_search)
    if getattr(trainer, "hp_search_backend", None) is None:
        return False
    return getattr(trainer, "compute_objective", default_compute_objective) is default_compute_objective


def without_clock(numbers: Mapping[str, float | int]) -> dict[str, float | int]:
    """What goes into the Trainer's state: two equal runs must have equal states."""
    return {name: value for name, value in numbers.items() if name not in keys.CLOCK_KEYS}


def keep_texts_off_cards(trainer: Any) -> None:
    """A model card makes a column of every entry of the first evaluation's row: show it the numbers that all rows have.

    No event tells that a card is made, so the method of this one Trainer is wrapped; one that somebody else has put
    there is left alone.
    """
    if callable(getattr(trainer, "create_model_card", None)) and "create_model_card" not in vars(trainer):
        trainer.create_model_card = _CardOfNumbers(trainer)


_NOT_ALWAYS: Final = tuple(f"_{suffix}" for suffix in (*keys.FORECAST_SUFFIXES, keys.EXACT_LOSS_CHANGE_SE))
"""Numbers that the first evaluation has not; a card with a later one that has them fails."""


class _CardOfNumbers:
    """A Trainer's ``create_model_card``, called while its state shows numbers only; goes with a copy of the Trainer."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = weakref.ref(trainer)
        functools.update_wrapper(self, type(trainer).create_model_card)

    def __reduce__(self) -> tuple[Any, ...]:
        return _CardOfNumbers, (self._trainer(),)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        trainer = self._trainer()
        if trainer is None:
            return None
        rows = trainer.state.log_history
        trainer.state.log_history = [
            {name: value for name, value in numbers_only(row).items() if not name.endswith(_NOT_ALWAYS)} for row in rows
        ]
        try:
            return type(trainer).create_model_card(trainer, *args, **kwargs)
        finally:
            trainer.state.log_history = rows


def evaluation_entries(prefix: str, measured: Measurement) -> tuple[dict[str, float | int], dict[str, str]]:
    """What an evaluation's row gets.

    Args:
        prefix: The evaluation's prefix, such as ``eval`` or ``eval_ko``.
        measured: What it came to, over all ranks.

    Returns:
        Numbers, which trackers may plot; and texts (fingerprint, reasons), which they may not.
    """
    if measured.reason is not None:
        numbers: dict[str, float | int] = {}
        if measured.batches:
            numbers[keys.key(prefix, keys.NONFINITE_BATCHES)] = measured.nonfinite_batches
        return numbers, {keys.key(prefix, keys.EXACT_LOSS_ABSENT): measured.reason}
    rows, broken = measured.rows if measured.rows is not None else measured.counts, measured.nonfinite_batches
    assert rows is not None  # without a reason there are sums
    with_bytes = measured.bytes_absent is None and bool((rows.bytes >= 0).all())
    if measured.rows is not None:
        numbers = exact_numbers(measured.rows, prefix, broken, with_bytes=with_bytes)
    else:
        numbers = loss_numbers(measured.nll, measured.tokens, prefix, broken, rows=rows, with_bytes=with_bytes)
    if measured.targetless_batches:
        numbers[keys.key(prefix, keys.TARGETLESS_BATCHES)] = measured.targetless_batches
    texts: dict[str, str] = {}
    if keys.key(prefix, keys.EXACT_LOSS) not in numbers:  # everything was seen, and nothing of it was to be scored
        said = "no target was scored: the evaluation has no row, or every label in it is -100"
        texts[keys.key(prefix, keys.EXACT_LOSS_ABSENT)] = said
    if measured.no_rows is not None:
        texts[keys.key(prefix, keys.ERROR_BAR_ABSENT)] = measured.no_rows
    if measured.unit is not None:
        texts[keys.key(prefix, keys.FINGERPRINT)] = f"{measured.unit}-{rows.fingerprint()}"
    if keys.key(prefix, keys.BITS_PER_BYTE) not in numbers:
        texts[keys.key(prefix, keys.BITS_PER_BYTE_ABSENT)] = _why_no_bytes(rows, measured.bytes_absent)
    return numbers, texts


def evaluation_facts(prefix: str, measured: Measurement, texts: Mapping[str, str], bytes_note: Any) -> dict[str, Any]:
    """How an evaluation was measured, for ``run.json``."""
    kept = (keys.EXACT_LOSS_ABSENT, keys.BITS_PER_BYTE_ABSENT, keys.FINGERPRINT)
    return {
        "evidence": measured.evidence,
        "error_bar": measured.rows is not None,
        "bytes_note": bytes_note,
        **{name: texts.get(keys.key(prefix, name)) for name in kept},
    }


def _why_no_bytes(rows: RowSums, bytes_absent: str | None) -> str:
    if bytes_absent is not None:
        return bytes_absent
    unknown = int((rows.bytes < 0).sum())
    if unknown:
        return f"{unknown} rows score a token without known text (the unknown token, or an id out of range)"
    return "the loss is not finite, or no byte of text is scored"


def best_exact(splits: Mapping[str, EvalProgress], retention: Sequence[str]) -> tuple[int, float] | None:
    """Step and exact loss of the best evaluation of the first set that is not in ``retention``; None without one."""
    kept = {keys.key("eval", name) for name in retention_names(retention)}
    names = [name for name in splits if name not in kept] or list(splits)
    point = splits[names[0]].best if names else None
    if point is None or point.value is None or point.metric != keys.EXACT_LOSS:
        return None  # the Trainer's loss may be any quantity: the best of that is not the best model
    return point.step, point.value


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
    """
    probe = copy.copy(control)
    getattr(DefaultFlowCallback(), event)(args, state, probe)
    return probe.should_log or probe.should_evaluate or probe.should_save or probe.should_training_stop


_ZERO: Final = (
    keys.NONFINITE_STEPS, keys.NONFINITE_MICRO_BATCHES, keys.TARGETLESS_MICRO_BATCHES, f"_{keys.NONFINITE_BATCHES}",
)  # fmt: skip
"""Ends of the names of counts that are not printed while they are 0."""
_SAME: Final = (f"_{keys.TOKENS}", f"_{keys.ROWS}", f"_{keys.BYTES}")
"""Of sizes of an evaluation set, which are printed once."""


def print_small_rows(callbacks: Iterable[TrainerCallback]) -> None:
    """Give transformers' own printing callbacks smaller rows; trackers, files and the state get every number.

    One row is handed to all callbacks, so the method of these is wrapped; one that somebody else has put there, and a
    callback of another class, are left alone.
    """
    for callback in callbacks:
        if type(callback) in (PrinterCallback, ProgressCallback) and "on_log" not in vars(callback):
            vars(callback)["on_log"] = _SmallRow(callback)


class _SmallRow:
    """A printing callback's ``on_log``; goes with a copy of the callback."""

    def __init__(self, printer: TrainerCallback | None) -> None:
        self._printer = None if printer is None else weakref.ref(printer)
        self._last: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _SmallRow, (None if self._printer is None else self._printer(),)

    def __call__(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> Any:
        printer = None if self._printer is None else self._printer()
        if printer is None:
            return None
        row = self._small(logs) if isinstance(logs, dict) else logs
        whole = None if row is None else dict(row)
        done = type(printer).on_log(printer, args, state, control, logs=row, **kwargs)
        for name in set(whole or ()) - set(row or ()):  # what it takes out, it takes out for those behind it
            logs.pop(name, None)
        return done

    def _small(self, logs: dict[str, Any]) -> dict[str, Any]:
        row = {}
        for name, value in logs.items():
            same = name.endswith(_SAME) and self._last.get(name) == value
            if not same and not (name.endswith(_ZERO) and value == 0):
                row[name] = value
        self._last |= {name: value for name, value in logs.items() if name.endswith(_SAME)}
        return row
