"""`target-met`: an evaluation set is surely below a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import Found, RuleInfo
from ko_cpt_callbacks.rules.target.target_rule import ROWS, TargetRule, TargetStates
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.watch.verdict import Outcome, Verdict

__all__ = ["TargetMet"]


@dataclass(frozen=True, slots=True)
class TargetMet(TargetRule):
    """Says once per target that it is met, as soon as it is confirmed; that stands, whatever comes later.

    It asks to stop with the last of the targets: a run that has reached one of two is not done.
    """

    info: ClassVar[RuleInfo] = RuleInfo("target-met", (Severity.INFO,), ROWS, may_stop=True, place=160)

    def found(self, state: TargetStates, verdicts: tuple[Verdict, ...]) -> Found:
        """The targets that are met."""
        met = [one for one in verdicts if one.outcome is Outcome.MET]
        all_met = all(Outcome.MET in one.said for one in state)
        return tuple(
            Finding(
                self.code,
                Severity.INFO,
                one.step,
                one.target.split,
                one.values,
                # Two met by the same row are one moment: its last finding asks.
                asks_to_stop=all_met and one is met[-1],
                variant=one.variant,
            )
            for one in met
        )
