"""`target-likely`: the loss of a target's set will most likely be below it at its deadline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.target.target_rule import HeadingRule
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import EvalObservation
from ko_cpt_callbacks.signal import limits

__all__ = ["TargetLikely"]


@dataclass(frozen=True, slots=True)
class TargetLikely(HeadingRule):
    """Says once per target that the loss will likely be below it if the run goes on as planned, and when.

    It says nothing while a probability is withheld, or where the loss was below the bound already.

    Args:
        above: Probability of a loss below the bound, above which a target is likely.
    """

    info: ClassVar[RuleInfo] = RuleInfo("target-likely", (Severity.INFO,), (EvalObservation,), place=174)

    above: float = limits.HEADING_LIKELY

    def agrees(self, probability: float) -> bool:
        """Whether the target is likely met."""
        return probability > self.above
