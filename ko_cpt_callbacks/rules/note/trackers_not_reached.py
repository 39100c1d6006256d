"""`trackers-not-reached`: the callback stands behind the trackers, which therefore miss its numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import Observation, SetupObservation
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["TrackersNotReached", "TrackersNotReachedState"]


@dataclass(frozen=True, slots=True)
class TrackersNotReachedState:
    """Whether it was said."""

    said: bool = False


@dataclass(frozen=True, slots=True)
class TrackersNotReached(Rule):
    """Says once what the callback noted when training began, in a set-up row of this code's name."""

    info: ClassVar = RuleInfo("trackers-not-reached", (Severity.INFO,), (SetupObservation,))

    def initial(self) -> TrackersNotReachedState:
        """Nothing said."""
        return TrackersNotReachedState()

    def step(
        self, state: TrackersNotReachedState, seen: Observation, signals: Signals
    ) -> tuple[TrackersNotReachedState, Found]:
        """Speaks at the first such row; a resumed run may bring another."""
        if state.said or not isinstance(seen, SetupObservation) or seen.kind != self.code:
            return state, ()
        return replace(state, said=True), (Finding(self.code, Severity.INFO, step=seen.step),)

