"""The rules on a run beside its baseline: what it is compared with, and what its sets come to row by row."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.compared_sets import (
    ComparedSets,
    JudgedEvaluation,
    WatchedBaseline,
    advance,
    settle,
    values_of,
)
from ko_cpt_callbacks.compare.reference import AUTO, reference_of
from ko_cpt_callbacks.compare.value import Reason
from ko_cpt_callbacks.rules.rule import ANY_ROW, Found, Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["BaselineAhead", "BaselineBehind", "NotComparable"]

_Judged = tuple[JudgedEvaluation, ...]


@dataclass(frozen=True, slots=True)
class BaselineRule(Rule):
    """Speaks of a run beside its baseline.

    Args:
        baseline: What the run is compared with; ``None``: nothing.
        stage: The baseline's stage, or ``auto``.
        retention: Names of evaluation sets that are never compared.
    """

    baseline: Baseline | None = None
    stage: str = AUTO
    retention: tuple[str, ...] = ()

    @property
    def asks(self) -> tuple[type[Observation], ...]:
        """All rows where there is a baseline."""
        return () if self.baseline is None else self.info.rows

    @property
    def watched(self) -> WatchedBaseline:
        """What the run is compared with, as the fold of its sets takes it."""
        return WatchedBaseline(self.baseline, self.stage, self.retention)


@dataclass(frozen=True, slots=True)
class RelationState:
    """Where the sets stand, and of which it was reported."""

    sets: ComparedSets = field(default_factory=ComparedSets)
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RelationRule(BaselineRule):
    """Speaks once per evaluation set that stands so beside the baseline: at its evaluation, or at the end of the run.

    An evaluation whose paired difference never came is judged at the end.
    """

    relation: ClassVar[str]
    at_the_end: ClassVar[bool] = False
    """Whether only the last evaluation of a set counts."""

    def initial(self) -> RelationState:
        """No row seen."""
        return RelationState()

    def step(self, state: RelationState, seen: Observation, signals: Signals) -> tuple[RelationState, Found]:
        """Speaks at the row that an evaluation is judged at, or at the Trainer's last row."""
        sets, judged = advance(self.watched, state.sets, seen)
        return self._spoken(RelationState(sets, state.said), judged, ended=isinstance(seen, EndObservation))

    def close(self, state: RelationState, signals: Signals) -> Found:
        """Speaks where the history ends without the Trainer's last row."""
        sets, judged = settle(self.watched, state.sets)
        return self._spoken(RelationState(sets, state.said), judged, ended=True)[1]

    def _spoken(self, state: RelationState, judged: _Judged, *, ended: bool) -> tuple[RelationState, Found]:
        if self.at_the_end:
            judged = state.sets.last() if ended else ()
        said, found = state.said, []
        for one in judged:
            comparison = one.comparison
            if comparison.relation == self.relation and one.split not in said:
                said = (*said, one.split)
                severity = self.info.severities[0] if comparison.outcome == "exact" else Severity.INFO
                values, variant = values_of(comparison), comparison.outcome
                found.append(Finding(self.code, severity, one.step, one.split, values, variant=variant))
        return RelationState(state.sets, said), tuple(found)


@dataclass(frozen=True, slots=True)
class BaselineAhead(RelationRule):
    """Says once per evaluation set that it is ahead, at the first evaluation that shows it."""

    info: ClassVar[RuleInfo] = RuleInfo("baseline-ahead", (Severity.INFO,), ANY_ROW, place=260)
    relation: ClassVar = "ahead"


@dataclass(frozen=True, slots=True)
class BaselineBehind(RelationRule):
    """Says once per evaluation set that the run ends behind: at its beginning every run is.

    It is a warning where the comparison is exact. On another text it is information: one model's loss differs between
    two Korean texts by more than most runs differ on one.
    """

    info: ClassVar[RuleInfo] = RuleInfo("baseline-behind", (Severity.WARNING, Severity.INFO), ANY_ROW, place=270)
    relation: ClassVar = "behind"
    at_the_end: ClassVar = True


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
        found = self._of_baseline(state) or self._of_run(state, judged, ended=isinstance(seen, EndObservation))
        return replace(state, said=bool(found)), found

    def close(self, state: NotComparableState, signals: Signals) -> Found:
        """Speaks where the history ends without the Trainer's last row."""
        return () if state.said else self._of_run(state, settle(self.watched, state.sets)[1], ended=True)

    def _of_baseline(self, state: NotComparableState) -> Found:
        """What is wrong with the baseline itself, whatever the run is."""
        assert self.baseline is not None
        found = reference_of(self.baseline, state.sets.stage if self.stage == AUTO else self.stage)
        return self._finding(found, state.step, "another-reference") if isinstance(found, Reason) else ()

    def _of_run(self, state: NotComparableState, judged: _Judged, *, ended: bool) -> Found:
        """What is wrong with an evaluation; at the end also that there was none."""
        for one in judged:
            if one.comparison.outcome == "not comparable":
                return (Finding(self.code, Severity.INFO, one.step, one.split, values_of(one.comparison)),)
        if not ended or state.sets.evaluations or not state.trained:
            return ()
        return self._finding(Reason("no-evaluation"), state.step, "evaluate")

    def _finding(self, reason: Reason, step: int | None, help_code: str) -> Found:
        assert self.baseline is not None
        values: dict[str, Any] = {
            "baseline": self.baseline.id,
            "title": self.baseline.title,
            "reasons": [reason.as_dict()],
            "would_help": [{"code": help_code}],
        }
        return (Finding(self.code, Severity.INFO, step, None, values, variant="baseline"),)
