"""`exact-loss-absent`: an evaluation whose exact loss the callback could not measure, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EvalObservation, Observation, SetupObservation
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import text_of
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["ExactLossAbsent", "ExactLossAbsentState"]


@dataclass(frozen=True, slots=True)
class ExactLossAbsentState:
    """The sets of which it was said, and whether it was said of the whole run."""

    said: tuple[str, ...] = ()
    of_run: bool = False


@dataclass(frozen=True, slots=True)
class ExactLossAbsent(Rule):
    """Says once per set that the Trainer's loss is all there is; the row names the reason.

    Where it is known before the first step that nothing can be measured, a set-up row of this code's name says so, and
    one warning stands for all sets.
    """

    info: ClassVar = RuleInfo(
        "exact-loss-absent", (Severity.WARNING, Severity.INFO), (SetupObservation, EvalObservation)
    )

    def initial(self) -> ExactLossAbsentState:
        """Nothing said."""
        return ExactLossAbsentState()

    def step(
        self, state: ExactLossAbsentState, seen: Observation, signals: Signals
    ) -> tuple[ExactLossAbsentState, Found]:
        """Speaks at the set-up row, else at the first evaluation of a set whose row names a reason."""
        if state.of_run:
            return state, ()
        if isinstance(seen, SetupObservation):
            reason = text_of(seen, "reason") if seen.kind == self.code else None
            if reason is None:
                return state, ()
            found = Finding(self.code, Severity.WARNING, seen.step, values={"reason": reason}, variant="run")
            return replace(state, of_run=True), (found,)
        if not isinstance(seen, EvalObservation) or seen.exact_loss_absent is None or seen.split in state.said:
            return state, ()
        finding = Finding(self.code, Severity.INFO, seen.step, seen.split, values={"reason": seen.exact_loss_absent})
        return replace(state, said=(*state.said, seen.split)), (finding,)

