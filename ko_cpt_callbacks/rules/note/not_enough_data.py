"""`not-enough-data`: the history ends too early to say how the loss develops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import ANY_ROW, Found, Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["NotEnoughData", "NotEnoughDataState"]


@dataclass(frozen=True, slots=True)
class NotEnoughDataState:
    """Points counted so far; the last step of each set, because a repeat is not a second point."""

    train_points: int = 0
    train_step: int | None = None
    evaluations: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Per set: how many, and the step of the last."""
    last_step: int | None = None
    said: bool = False


@dataclass(frozen=True, slots=True)
class NotEnoughData(Rule):
    """Says once, at the end, that there was too little to judge.

    Args:
        min_train_points: Training rows that are enough. Chosen, not measured: below it neither a trend nor
            its noise can be had from a log.
        min_evaluations: Evaluations of one set that are enough. Chosen, not measured: a first, a last, and
            one between.
    """

    info: ClassVar[RuleInfo] = RuleInfo("not-enough-data", (Severity.INFO,), ANY_ROW, place=340)

    min_train_points: int = limits.JUDGED_POINTS
    min_evaluations: int = limits.JUDGED_EVALUATIONS

    def initial(self) -> NotEnoughDataState:
        """Nothing counted."""
        return NotEnoughDataState()

    def step(self, state: NotEnoughDataState, seen: Observation, signals: Signals) -> tuple[NotEnoughDataState, Found]:
        """Counts a row; speaks at the Trainer's last one."""
        if state.train_points >= self.min_train_points:
            return state, ()
        state = replace(state, last_step=seen.step)
        if isinstance(seen, TrainObservation):
            if seen.step != state.train_step:
                state = replace(state, train_points=state.train_points + 1, train_step=seen.step)
        elif isinstance(seen, EvalObservation):
            count, last = state.evaluations.get(seen.split, (0, None))
            if seen.step != last:
                state = replace(state, evaluations={**state.evaluations, seen.split: (count + 1, seen.step)})
        elif isinstance(seen, EndObservation):
            findings = self.close(state, signals)
            return replace(state, said=state.said or bool(findings)), findings
        return state, ()

    def close(self, state: NotEnoughDataState, signals: Signals) -> Found:
        """Speaks where the history ends without the Trainer's last row; not a second time."""
        most = max((count for count, _ in state.evaluations.values()), default=0)
        if state.said or state.train_points >= self.min_train_points or most >= self.min_evaluations:
            return ()
        values = {
            "train_points": state.train_points,
            "evaluations": most,
            "min_train_points": self.min_train_points,
            "min_evaluations": self.min_evaluations,
        }
        return (Finding(self.code, Severity.INFO, step=state.last_step, values=values),)
