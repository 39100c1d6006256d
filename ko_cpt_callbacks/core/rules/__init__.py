"""The rules: one file, one class, one finding code, one test file each. `ALL_RULES` is the whole list.

A rule is a value (its thresholds) with three pure methods; its state is a plain frozen value that never holds
a NaN, so that two folds over the same rows compare equal. Rules never import each other.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from ko_cpt_callbacks.core.finding import Finding
from ko_cpt_callbacks.core.observation import Observation
from ko_cpt_callbacks.core.rules.exact_loss_absent import ExactLossAbsent
from ko_cpt_callbacks.core.rules.non_finite import NonFinite
from ko_cpt_callbacks.core.rules.not_enough_data import NotEnoughData
from ko_cpt_callbacks.core.rules.trackers_not_reached import TrackersNotReached

__all__ = ["ALL_RULES", "ExactLossAbsent", "NonFinite", "NotEnoughData", "Rule", "TrackersNotReached"]


class Rule(Protocol):
    """What the monitor asks of a rule."""

    @property
    def code(self) -> str:
        """The code of the findings it gives: its file's name with hyphens."""
        ...

    def initial(self) -> Any:
        """The state before the first row."""
        ...

    def step(self, state: Any, seen: Observation) -> tuple[Any, tuple[Finding, ...]]:
        """The state after a row, and what the row showed. Same input, same output."""
        ...

    def close(self, state: Any) -> tuple[Finding, ...]:
        """What can be said only when the history ends without the Trainer's last row."""
        ...


ALL_RULES: Final[tuple[Rule, ...]] = (TrackersNotReached(), ExactLossAbsent(), NonFinite(), NotEnoughData())
