"""`baseline-ahead`: an evaluation set is surely better than the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.compare.compared_sets import JudgedEvaluation, advance, settle, values_of
from ko_cpt_callbacks.rules.baseline.baseline_rule import BaselineRule, BaselineState
from ko_cpt_callbacks.rules.rule import ANY_ROW, Found, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import Observation
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["BaselineAhead"]


@dataclass(frozen=True, slots=True)
class BaselineAhead(BaselineRule):
    """Says once per evaluation set that it is ahead, at the first evaluation that shows it."""

    info: ClassVar[RuleInfo] = RuleInfo("baseline-ahead", (Severity.INFO,), ANY_ROW, place=260)

    def initial(self) -> BaselineState:
        """No row seen."""
        return BaselineState()

    def step(self, state: BaselineState, seen: Observation, signals: Signals) -> tuple[BaselineState, Found]:
        """Speaks at the evaluation, or at the paired difference that belongs to it."""
        sets, judged = advance(self.watched, state.sets, seen)
        return self._spoken(BaselineState(sets, state.said), judged)

    def close(self, state: BaselineState, signals: Signals) -> Found:
        """Speaks of an evaluation whose paired difference never came."""
        return self._spoken(state, settle(self.watched, state.sets)[1])[1]

    def _spoken(
        self, state: BaselineState, judged: tuple[JudgedEvaluation, ...]
    ) -> tuple[BaselineState, Found]:
        said, found = state.said, []
        for one in judged:
            comparison = one.comparison
            if comparison.relation == "ahead" and one.split not in said:
                said = (*said, one.split)
                values = values_of(comparison)
                found.append(
                    Finding(self.code, Severity.INFO, one.step, one.split, values, variant=comparison.outcome)
                )
        return BaselineState(state.sets, said), tuple(found)
