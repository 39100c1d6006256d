"""`target-met`: an evaluation set is surely below a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import Observation
from ko_cpt_callbacks.core.target import Target
from ko_cpt_callbacks.core.verdict import Outcome, TargetState, Verdict, advance_all, close_all, keep_all
from ko_cpt_callbacks.rules.rule import ANY_ROW, Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["TargetMet"]


@dataclass(frozen=True, slots=True)
class TargetMet(Rule):
    """Says once per target that it is met, as soon as it is confirmed; that stands, whatever comes later.

    It asks to stop with the last of the targets: a run that has reached one of two is not done.

    Args:
        targets: What the run must reach.
        task: As in `ko_cpt_callbacks.rules.monitor.Monitor`.
    """

    info: ClassVar = RuleInfo("target-met", (Severity.INFO,), ANY_ROW, may_stop=True)

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
        """Speaks at the evaluation that confirms a target."""
        state, verdicts = advance_all(self.targets, self.task, state, seen)
        return state, self._findings(state, verdicts)

    def keep(self, state: tuple[TargetState, ...], said: Found) -> tuple[TargetState, ...]:
        """A verdict that was said of an evaluation stands, also where another of its step replaces that one."""
        return keep_all(self.targets, state, said)

    def close(self, state: tuple[TargetState, ...], signals: Signals) -> Found:
        """Speaks of nothing new: a target that is met was met by a row."""
        return self._findings(state, close_all(self.targets, self.task, state))

    def _findings(self, state: tuple[TargetState, ...], verdicts: tuple[Verdict, ...]) -> Found:
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
