"""`target-inconclusive`: the deadline of a target has passed, and the evaluations do not tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from ko_cpt_callbacks.rules.rule import Found, RuleInfo
from ko_cpt_callbacks.rules.target.target_rule import ROWS, TargetRule, TargetStates
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.watch.verdict import Outcome, Verdict

__all__ = ["TargetInconclusive"]

_BROKEN: Final = ("no-evaluation", "unmeasured", "non-finite", "implausible", "fell", "substitute", "substitute-unsaid")
"""Here more rows or more training would not help: something is wrong with the target or the evaluation."""


@dataclass(frozen=True, slots=True)
class TargetInconclusive(TargetRule):
    """Says once per target that it cannot be decided, why, and how many rows would decide it.

    ``warning`` where the target could not be judged at all, otherwise ``info``.
    """

    info: ClassVar[RuleInfo] = RuleInfo("target-inconclusive", (Severity.WARNING, Severity.INFO), ROWS, place=180)

    def found(self, state: TargetStates, verdicts: tuple[Verdict, ...]) -> Found:
        """The targets that are undecided."""
        return tuple(
            Finding(
                self.code,
                Severity.WARNING if one.variant in _BROKEN else Severity.INFO,
                one.step,
                one.target.split,
                one.values,
                variant=one.variant,
            )
            for one in verdicts
            if one.outcome is Outcome.INCONCLUSIVE
        )
