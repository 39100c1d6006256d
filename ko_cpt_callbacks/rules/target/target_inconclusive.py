"""`target-inconclusive`: the deadline of a target has passed, and the evaluations do not tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import Observation
from ko_cpt_callbacks.core.target import Target
from ko_cpt_callbacks.core.verdict import Outcome, TargetState, Verdict, advance_all, close_all, keep_all
from ko_cpt_callbacks.rules.rule import ANY_ROW, Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["TargetInconclusive"]

_BROKEN: Final = ("no-evaluation", "unmeasured", "non-finite", "implausible", "fell", "substitute", "substitute-unsaid")
"""Here more rows or more training would not help: something is wrong with the target or the evaluation."""


@dataclass(frozen=True, slots=True)
class TargetInconclusive(Rule):
    """Says once per target that it cannot be decided, why, and how many rows would decide it.

    ``warning`` where the target could not be judged at all, otherwise ``info``.

    Args:
        targets: What the run must reach.
        task: As in `ko_cpt_callbacks.rules.monitor.Monitor`.
    """

    info: ClassVar = RuleInfo("target-inconclusive", (Severity.WARNING, Severity.INFO), ANY_ROW)

    targets: tuple[Target, ...] = ()
    task: str = "cpt"

    @property
    def asks(self) -> tuple[type[Observation], ...]:
        """All rows where there are targets."""
        return self.info.rows if self.targets else ()

    def initial(self) -> tuple[TargetState, ...]:
        """No row seen."""
        return tuple(TargetState() for _ in self.targets)

    def step(
        self, state: tuple[TargetState, ...], seen: Observation, signals: Signals
    ) -> tuple[tuple[TargetState, ...], Found]:
        """Speaks at the deadline evaluation, or at the Trainer's last row."""
        state, verdicts = advance_all(self.targets, self.task, state, seen)
        return state, self._findings(verdicts)

    def keep(self, state: tuple[TargetState, ...], said: Found) -> tuple[TargetState, ...]:
        """A verdict that was said of an evaluation stands, also where another of its step replaces that one."""
        return keep_all(self.targets, state, said)

    def close(self, state: tuple[TargetState, ...], signals: Signals) -> Found:
        """Speaks where the history ends before the deadline, or without the Trainer's last row."""
        return self._findings(close_all(self.targets, self.task, state))

    def _findings(self, verdicts: tuple[Verdict, ...]) -> Found:
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
