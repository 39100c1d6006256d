"""`stopped-before`: a run that was stopped on purpose, or would have been, is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import Observation, SetupObservation
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["StoppedBefore"]


@dataclass(frozen=True, slots=True)
class StoppedBefore(Rule):
    """Says at every resume what the callback noted then: which finding already asked to stop, and what follows.

    A checkpoint saved by an early stop goes on training when it is resumed: the Trainer does not remember why it
    stopped.
    """

    info: ClassVar = RuleInfo("stopped-before", (Severity.INFO,), (SetupObservation,))

    def initial(self) -> tuple[()]:
        """Nothing to remember."""
        return ()

    def step(self, state: tuple[()], seen: Observation, signals: Signals) -> tuple[tuple[()], Found]:
        """Speaks at every such row: each is a resume of its own."""
        if not isinstance(seen, SetupObservation) or seen.kind != self.code:
            return state, ()
        reason = seen.values.get("reason")
        if not isinstance(reason, str):
            return state, ()
        stops = seen.values.get("stops") is True
        values = {
            "reason": reason,
            "reason_step": seen.values.get("reason_step"),
            "stops": stops,
        }
        variant = "stops" if stops else "goes-on"
        return state, (Finding(self.code, Severity.INFO, seen.step, values=values, variant=variant),)

