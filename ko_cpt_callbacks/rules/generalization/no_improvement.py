"""`no-improvement`: a number of evaluations in a row without a better loss, for those who asked for patience."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.fold import NO_ROWS, EvalRows
from ko_cpt_callbacks.run.observation import EvalObservation, Observation
from ko_cpt_callbacks.run.progress import EvalPoint
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.watch.stopping import Patience

__all__ = ["NoImprovement", "NoImprovementState"]


@dataclass(frozen=True, slots=True)
class Count:
    """The best loss of the rows that are evaluated now, of which kind, and the evaluations since it or the first."""

    best: float | None = None
    best_step: int | None = None
    since: int = 0
    metric: str | None = None
    begun: bool = False


@dataclass(frozen=True, slots=True)
class NoImprovementState:
    """The set that counts and where it stands."""

    split: str | None = None
    count: Count = Count()
    rows: EvalRows = NO_ROWS
    said: bool = False


@dataclass(frozen=True, slots=True)
class NoImprovement(Rule):
    """Counts evaluations without improvement as `transformers.EarlyStoppingCallback` does, and survives a resume.

    An evaluation improves when its loss is lower than the best by more than ``min_delta``; one whose loss is not finite
    improves nothing, and counts (the very first, which has nothing to improve on, never does). The best is the last
    loss that improved, as Lightning's ``EarlyStopping`` has it: `transformers` takes every lower loss as the new best,
    so that a slow fall never improves there. The count begins anew where other rows are evaluated, as far as
    is known or as their level shows, or another kind of loss.

    Args:
        patience: Evaluations without improvement that make the finding, and what counts as one; without a number
            of evaluations the rule is silent.
        leave_out: Prefixes of sets that do not count (retention sets), as long as another set is evaluated first.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "no-improvement", (Severity.WARNING,), (EvalObservation,), may_stop=True, place=250
    )

    patience: Patience = field(default_factory=Patience)
    leave_out: tuple[str, ...] = ()

    def initial(self) -> NoImprovementState:
        """No evaluation yet."""
        return NoImprovementState()

    def step(self, state: NoImprovementState, seen: Observation, signals: Signals) -> tuple[NoImprovementState, Found]:
        """Judges an evaluation of the set that counts: the first that is not left out."""
        limit = self.patience.evaluations
        if limit is None or not isinstance(seen, EvalObservation) or seen.split in self.leave_out:
            return state, ()
        if state.split not in (None, seen.split):
            return state, ()
        point = EvalPoint.of(seen)
        if point is None:
            return state, ()
        count, rows = state.count, state.rows.add(seen)
        now = replace(state, split=seen.split, rows=rows)
        value = point.value if point.finite else None
        # A failed evaluation may have no loss of the kind that the others have.
        series = signals.evaluations.now
        swapped = series is not None and series.swapped
        if rows.anew or swapped or (value is not None and count.metric not in (None, point.metric)):
            count = Count()
        if value is not None and (count.best is None or count.best - value > self._least(count.best)):
            return replace(now, count=Count(value, seen.step, 0, point.metric, begun=True)), ()
        count = replace(count, since=count.since + count.begun, begun=True)
        now = replace(now, count=count)
        if state.said or count.since < limit:
            return now, ()
        values = {
            "loss": value,
            "best": count.best,
            "best_step": count.best_step,
            "patience": limit,
            "min_delta": None if count.best is None else self._least(count.best),
            "metric": point.metric,
        }
        variant = "none-finite" if count.best is None else "" if value is not None else "not-finite"
        found = Finding(
            self.code, Severity.WARNING, seen.step, seen.split, values, asks_to_stop=True, variant=variant
        )
        return replace(now, said=True), (found,)

    def _least(self, best: float) -> float:
        least = self.patience.min_delta
        return abs(best) * least if self.patience.relative else least
