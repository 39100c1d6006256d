"""`baseline-behind`: at the end of the run an evaluation set is surely worse than the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.compare.compared_sets import advance, settle, values_of
from ko_cpt_callbacks.rules.baseline.baseline_rule import BaselineRule, BaselineState
from ko_cpt_callbacks.rules.rule import ANY_ROW, Found, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, Observation
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["BaselineBehind"]


@dataclass(frozen=True, slots=True)
class BaselineBehind(BaselineRule):
    """Says once per evaluation set that the run ends behind: at its beginning every run is.

    It is a warning where the comparison is exact. On another text it is information: one model's loss differs between
    two Korean texts by more than most runs differ on one.
    """

    info: ClassVar[RuleInfo] = RuleInfo("baseline-behind", (Severity.WARNING, Severity.INFO), ANY_ROW, place=270)

    def initial(self) -> BaselineState:
        """No row seen."""
        return BaselineState()

    def step(
        self, state: BaselineState, seen: Observation, signals: Signals
    ) -> tuple[BaselineState, Found]:
        """Speaks at the Trainer's last row."""
        sets, _ = advance(self.watched, state.sets, seen)
        state = BaselineState(sets, state.said)
        if not isinstance(seen, EndObservation):
            return state, ()
        found = self._behind(state)
        said = (*state.said, *(finding.split for finding in found if finding.split is not None))
        return BaselineState(sets, said), found

    def close(self, state: BaselineState, signals: Signals) -> Found:
        """Speaks where the history ends without the Trainer's last row."""
        sets, _ = settle(self.watched, state.sets)
        return self._behind(BaselineState(sets, state.said))

    def _behind(self, state: BaselineState) -> Found:
        return tuple(
            Finding(
                self.code,
                Severity.WARNING if one.comparison.outcome == "exact" else Severity.INFO,
                one.step,
                one.split,
                values_of(one.comparison),
                variant=one.comparison.outcome,
            )
            for one in state.sets.last()
            if one.comparison.relation == "behind" and one.split not in state.said
        )
