"""`baseline-ahead`: an evaluation set is surely better than the baseline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ko_cpt_callbacks.compare.standing import Judged, Standings, advance, settle, values_of
from ko_cpt_callbacks.rules.baseline.baseline_rule import BaselineRule
from ko_cpt_callbacks.rules.rule import ANY_ROW, Found, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import Observation
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["BaselineAhead", "BaselineAheadState"]


@dataclass(frozen=True, slots=True)
class BaselineAheadState:
    """Where the sets stand, and of which it was reported."""

    standings: Standings = field(default_factory=Standings)
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BaselineAhead(BaselineRule):
    """Says once per evaluation set that it is ahead, at the first evaluation that shows it."""

    info: ClassVar[RuleInfo] = RuleInfo("baseline-ahead", (Severity.INFO,), ANY_ROW, place=260)

    def initial(self) -> BaselineAheadState:
        """No row seen."""
        return BaselineAheadState()

    def step(self, state: BaselineAheadState, seen: Observation, signals: Signals) -> tuple[BaselineAheadState, Found]:
        """Speaks at the evaluation, or at the paired difference that belongs to it."""
        standings, judged = advance(self.watched, state.standings, seen)
        return self._told(BaselineAheadState(standings, state.said), judged)

    def close(self, state: BaselineAheadState, signals: Signals) -> Found:
        """Speaks of an evaluation whose paired difference never came."""
        return self._told(state, settle(self.watched, state.standings)[1])[1]

    def _told(
        self, state: BaselineAheadState, judged: tuple[Judged, ...]
    ) -> tuple[BaselineAheadState, Found]:
        said, found = state.said, []
        for one in judged:
            comparison = one.comparison
            if comparison.standing == "ahead" and one.split not in said:
                said = (*said, one.split)
                values = values_of(comparison)
                found.append(
                    Finding(self.code, Severity.INFO, one.step, one.split, values, variant=comparison.outcome)
                )
        return BaselineAheadState(state.standings, said), tuple(found)
