"""Who else reads what the callback publishes, and what it leaves them.

The Trainer hands one dictionary to its trackers, to the callbacks after this one and to whoever called ``evaluate()``,
and one list of rows to its state and its model card. Some of these readers take every number they find for their own.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping
from typing import Any

from transformers import TrainerState
from transformers.trainer_utils import default_compute_objective

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.metrics.row_sums import numbers_only

__all__ = ["add_numbers", "complete_metrics", "keep_texts_off_cards", "without_clock"]


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
    """A model card makes a column of every entry of an evaluation's row: show it the numbers only.

    No event tells that a card is made, so the method of this one Trainer is wrapped; one that somebody else has put
    there is left alone.
    """
    if callable(getattr(trainer, "create_model_card", None)) and "create_model_card" not in vars(trainer):
        trainer.create_model_card = _CardOfNumbers(trainer)


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
        trainer.state.log_history = [numbers_only(row) for row in rows]
        try:
            return type(trainer).create_model_card(trainer, *args, **kwargs)
        finally:
            trainer.state.log_history = rows
