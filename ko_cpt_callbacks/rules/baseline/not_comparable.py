"""`not-comparable`: why the run cannot be compared with its baseline, and what would help."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from ko_cpt_callbacks.compare.compared_sets import ComparedSets, advance, settle, values_of
from ko_cpt_callbacks.compare.reference import AUTO, reference_of
from ko_cpt_callbacks.compare.value import Reason
from ko_cpt_callbacks.rules.baseline.baseline_rule import BaselineRule
from ko_cpt_callbacks.rules.rule import ANY_ROW, Found, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, JsonValue, Severity
from ko_cpt_callbacks.run.observation import EndObservation, Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["NotComparable", "NotComparableState"]


@dataclass(frozen=True, slots=True)
class NotComparableState:
    """Where the sets stand, whether the run was trained, the last step seen, and whether it was reported."""

    sets: ComparedSets = field(default_factory=ComparedSets)
    trained: bool = False
    step: int | None = None
    said: bool = False


@dataclass(frozen=True, slots=True)
class NotComparable(BaselineRule):
    """Says once that the run cannot be compared with its baseline."""

    info: ClassVar[RuleInfo] = RuleInfo("not-comparable", (Severity.INFO,), ANY_ROW, place=280)

    def initial(self) -> NotComparableState:
        """No row seen."""
        return NotComparableState()

    def step(self, state: NotComparableState, seen: Observation, signals: Signals) -> tuple[NotComparableState, Found]:
        """Speaks at the first row, where the baseline has nothing to compare; at an evaluation; or at the end."""
        if self.baseline is None:
            return state, ()
        sets, judged = advance(self.watched, state.sets, seen)
        trained = state.trained or isinstance(seen, TrainObservation)
        state = replace(state, sets=sets, trained=trained, step=seen.step)
        if state.said or (isinstance(seen, SetupObservation) and not judged):
            return state, ()
        found = self._of_baseline(state, seen.step)
        for one in judged:
            if not found and one.comparison.outcome == "not comparable":
                values = values_of(one.comparison)
                found = (Finding(self.code, Severity.INFO, one.step, one.split, values),)
        if not found and isinstance(seen, EndObservation):
            found = self._unevaluated(state)
        return replace(state, said=bool(found)), found

    def close(self, state: NotComparableState, signals: Signals) -> Found:
        """Speaks where the history ends without the Trainer's last row."""
        if self.baseline is None or state.said:
            return ()
        _, judged = settle(self.watched, state.sets)
        for one in judged:
            if one.comparison.outcome == "not comparable":
                return (Finding(self.code, Severity.INFO, one.step, one.split, values_of(one.comparison)),)
        return self._unevaluated(state)

    def _of_baseline(self, state: NotComparableState, step: int) -> Found:
        """What is wrong with the baseline itself, whatever the run is."""
        assert self.baseline is not None
        found = reference_of(self.baseline, state.sets.stage if self.stage == AUTO else self.stage)
        return self._finding(found, step, "another-reference") if isinstance(found, Reason) else ()

    def _unevaluated(self, state: NotComparableState) -> Found:
        if state.sets.evaluations or not state.trained:
            return ()
        return self._finding(Reason("no-evaluation"), state.step, "evaluate")

    def _finding(self, reason: Reason, step: int | None, help_code: str) -> Found:
        assert self.baseline is not None
        values: dict[str, JsonValue] = {
            "baseline": self.baseline.id,
            "title": self.baseline.title,
            "reasons": [reason.as_dict()],
            "would_help": [{"code": help_code}],
        }
        return (Finding(self.code, Severity.INFO, step, None, values, variant="baseline"),)
