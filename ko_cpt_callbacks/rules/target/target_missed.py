"""`target-missed`: the deadline of a target has passed, and the evaluation set is surely not below it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import Observation
from ko_cpt_callbacks.core.target import Target
from ko_cpt_callbacks.core.verdict import Outcome, TargetState, Verdict, advance_all, close_all, keep_all
from ko_cpt_callbacks.rules.rule import ANY_ROW, Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["TargetMissed"]


@dataclass(frozen=True, slots=True)
class TargetMissed(Rule):
    """Says once per target that it is missed.

    It asks to stop where the deadline was a step or a token count in mid-run: who sets one and names this code
    wants to give up then. At the end of training there is nothing left to stop.

    Args:
        targets: What the run must reach.
        task: As in `ko_cpt_callbacks.rules.monitor.Monitor`.
    """

    info: ClassVar = RuleInfo("target-missed", (Severity.WARNING,), ANY_ROW, may_stop=True)

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
        """Speaks of a target due at the end where the history ends without the Trainer's last row."""
        return self._findings(close_all(self.targets, self.task, state))

    def _findings(self, verdicts: tuple[Verdict, ...]) -> Found:
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
