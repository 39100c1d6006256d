"""`target-unreachable`: the loss of a target's set will hardly be below it at its deadline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.target.target_rule import HeadingRule
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import EvalObservation
from ko_cpt_callbacks.signal import limits

__all__ = ["TargetUnreachable"]


@dataclass(frozen=True, slots=True)
class TargetUnreachable(HeadingRule):
    """Says once per target that it is out of reach: before its deadline, so that the rest of the run can be saved.

    It asks to stop. It says nothing while a probability is withheld, or where the loss was below the bound already.

    Args:
        below: Probability of a loss below the bound, below which a target is out of reach.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "target-unreachable", (Severity.WARNING,), (EvalObservation,), may_stop=True, place=172
    )

    below: float = limits.HEADING_UNREACHABLE

    def agrees(self, probability: float) -> bool:
        """Whether the target is out of reach."""
        return probability < self.below
