"""`early-stopping-twice`: two callbacks may stop the run, and the one does not know of the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import Observation, SetupObservation

__all__ = ["EarlyStoppingTwice", "EarlyStoppingTwiceState"]


@dataclass(frozen=True, slots=True)
class EarlyStoppingTwiceState:
    """Whether it was said."""

    said: bool = False


@dataclass(frozen=True, slots=True)
class EarlyStoppingTwice:
    """Says once what the callback noted when training began, in a set-up row of this code's name."""

    @property
    def code(self) -> str:
        """``early-stopping-twice``."""
        return "early-stopping-twice"

    def initial(self) -> EarlyStoppingTwiceState:
        """Nothing said."""
        return EarlyStoppingTwiceState()

    def step(
        self, state: EarlyStoppingTwiceState, seen: Observation
    ) -> tuple[EarlyStoppingTwiceState, tuple[Finding, ...]]:
        """Speaks at the first such row; a resumed run may bring another."""
        if state.said or not isinstance(seen, SetupObservation) or seen.kind != self.code:
            return state, ()
        values = {"other": str(seen.values.get("other", "another callback"))}
        return replace(state, said=True), (Finding(self.code, Severity.INFO, seen.step, values=values),)

    def close(self, state: EarlyStoppingTwiceState) -> tuple[Finding, ...]:
        """Nothing: where nobody noted it, it was not so."""
        return ()
