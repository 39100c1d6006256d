"""`rule-failed`: a rule raised, and is not asked any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import text_of
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import Observation, SetupObservation
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["RuleFailed"]


@dataclass(frozen=True, slots=True)
class RuleFailed(Rule):
    """Says once per rule what the monitor noted where it raised, in an observation of this code's name.

    The monitor makes that observation and gives it to this rule; no row holds it. It never asks to stop: a mistake
    of this package is no reason to end a training.
    """

    info: ClassVar[RuleInfo] = RuleInfo("rule-failed", (Severity.WARNING,), (SetupObservation,), place=300)

    def initial(self) -> tuple[str, ...]:
        """No rule named."""
        return ()

    def step(self, state: tuple[str, ...], seen: Observation, signals: Signals) -> tuple[tuple[str, ...], Found]:
        """Names a rule, and its error."""
        if not isinstance(seen, SetupObservation) or seen.kind != self.code:
            return state, ()
        rule, error = text_of(seen, "rule"), text_of(seen, "error")
        if rule is None or error is None or rule in state:
            return state, ()
        variant = "at-the-end" if seen.values.get("at_the_end") is True else "at-a-row"
        values = {"rule": rule, "error": error}
        return (*state, rule), (Finding(self.code, Severity.WARNING, seen.step, values=values, variant=variant),)

