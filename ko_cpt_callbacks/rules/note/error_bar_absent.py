"""`error-bar-absent`: an exact loss of whole batches alone, and why there is nothing per row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EvalObservation, Observation
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["ErrorBarAbsent", "ErrorBarAbsentState"]


@dataclass(frozen=True, slots=True)
class ErrorBarAbsentState:
    """The sets of which it was said."""

    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorBarAbsent(Rule):
    """Says once per set that its exact loss has no standard error; the row names the reason."""

    info: ClassVar = RuleInfo("error-bar-absent", (Severity.INFO,), (EvalObservation,))

    def initial(self) -> ErrorBarAbsentState:
        """Nothing said."""
        return ErrorBarAbsentState()

    def step(
        self, state: ErrorBarAbsentState, seen: Observation, signals: Signals
    ) -> tuple[ErrorBarAbsentState, Found]:
        """Speaks at the first evaluation of a set whose row names a reason."""
        if not isinstance(seen, EvalObservation) or seen.error_bar_absent is None or seen.split in state.said:
            return state, ()
        finding = Finding(self.code, Severity.INFO, seen.step, seen.split, values={"reason": seen.error_bar_absent})
        return replace(state, said=(*state.said, seen.split)), (finding,)

