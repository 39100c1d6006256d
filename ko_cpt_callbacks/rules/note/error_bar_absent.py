"""`error-bar-absent`: an exact loss of whole batches alone, and why there is nothing per row."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EvalObservation, Observation

__all__ = ["ErrorBarAbsent", "ErrorBarAbsentState"]


@dataclass(frozen=True, slots=True)
class ErrorBarAbsentState:
    """The sets of which it was said."""

    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorBarAbsent:
    """Says once per set that its exact loss has no standard error; the row names the reason."""

    @property
    def code(self) -> str:
        """``error-bar-absent``."""
        return "error-bar-absent"

    def initial(self) -> ErrorBarAbsentState:
        """Nothing said."""
        return ErrorBarAbsentState()

    def step(self, state: ErrorBarAbsentState, seen: Observation) -> tuple[ErrorBarAbsentState, tuple[Finding, ...]]:
        """Speaks at the first evaluation of a set whose row names a reason."""
        if not isinstance(seen, EvalObservation) or seen.error_bar_absent is None or seen.split in state.said:
            return state, ()
        finding = Finding(self.code, Severity.INFO, seen.step, seen.split, values={"reason": seen.error_bar_absent})
        return replace(state, said=(*state.said, seen.split)), (finding,)

    def close(self, state: ErrorBarAbsentState) -> tuple[Finding, ...]:
        """Nothing: a log without our keys has no exact loss either."""
        return ()
