"""`target-missed`: the deadline of a target has passed, and the evaluation set is surely not below it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import Found, RuleInfo
from ko_cpt_callbacks.rules.target.target_rule import ROWS, TargetRule, TargetStates
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.watch.verdict import Outcome, Verdict

__all__ = ["TargetMissed"]


@dataclass(frozen=True, slots=True)
class TargetMissed(TargetRule):
    """Says once per target that it is missed.

    It asks to stop where the deadline was a step or a token count in mid-run: who sets one and names this code
    wants to give up then. At the end of training there is nothing left to stop.
    """

    info: ClassVar[RuleInfo] = RuleInfo("target-missed", (Severity.WARNING,), ROWS, may_stop=True, place=170)

    def found(self, state: TargetStates, verdicts: tuple[Verdict, ...]) -> Found:
        """The targets that are missed."""
        return tuple(
            Finding(
                self.code,
                Severity.WARNING,
                one.step,
                one.target.split,
                one.values,
                asks_to_stop=one.midway,
                variant=one.variant,
            )
            for one in verdicts
            if one.outcome is Outcome.MISSED
        )
