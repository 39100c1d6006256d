"""`early-stopping-twice`: two callbacks may stop the run, and the one does not know of the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import Observation, SetupObservation
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["EarlyStoppingTwice", "EarlyStoppingTwiceState"]


@dataclass(frozen=True, slots=True)
class EarlyStoppingTwiceState:
    """Whether it was said."""

    said: bool = False


@dataclass(frozen=True, slots=True)
class EarlyStoppingTwice(Rule):
    """Says once what the callback noted when training began, in a set-up row of this code's name."""

    info: ClassVar = RuleInfo("early-stopping-twice", (Severity.INFO,), (SetupObservation,))

    def initial(self) -> EarlyStoppingTwiceState:
        """Nothing said."""
        return EarlyStoppingTwiceState()

    def step(
        self, state: EarlyStoppingTwiceState, seen: Observation, signals: Signals
    ) -> tuple[EarlyStoppingTwiceState, Found]:
        """Speaks at the first such row; a resumed run may bring another."""
        if state.said or not isinstance(seen, SetupObservation) or seen.kind != self.code:
            return state, ()
        values = {"other": str(seen.values.get("other", "another callback"))}
        return replace(state, said=True), (Finding(self.code, Severity.INFO, seen.step, values=values),)

