"""What the rules on targets have in common: each judges every target by the same rows, and reports one outcome of it.

Those on where a target's loss is heading speak once, of evaluations that agree.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Final

from ko_cpt_callbacks.forecast.chance import Chance, bound_of, chance_of, deadline_of
from ko_cpt_callbacks.forecast.outlook import Outlook
from ko_cpt_callbacks.rules.rule import Found, Rule
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation, SetupObservation
from ko_cpt_callbacks.run.progress import RunProgress
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.watch.target import Target
from ko_cpt_callbacks.watch.verdict import TargetState, Verdict, advance_all, close_all, keep_all

__all__ = ["ROWS", "AgreeingEvaluations", "HeadingRule", "TargetRule", "TargetStates"]

@dataclass(frozen=True, slots=True)
class AgreeingEvaluations:
    """Where a target stands: how many evaluations in a row agreed up to the last one, and whether that was reported."""

    agreed: int = 0
    said: bool = False


@dataclass(frozen=True, slots=True)
class HeadingRule(Rule):
    """Speaks once per target, when the forecasts of enough evaluations in a row agree.

    Args:
        targets: What the run must reach.
        evaluations: Evaluations of the target's set in a row whose forecasts must agree.
        from_part: Part of the steps to the deadline before which nothing is reported.
    """

    targets: tuple[Target, ...] = ()
    evaluations: int = limits.HEADING_EVALUATIONS
    from_part: float = limits.HEADING_FROM

    @abstractmethod
    def agrees(self, probability: float) -> bool:
        """Whether a probability that the loss is below the bound speaks for the rule's finding."""

    @property
    def asks(self) -> tuple[type[Observation], ...]:
        """Evaluations, where there are targets."""
        return self.info.rows if self.targets else ()

    def initial(self) -> tuple[AgreeingEvaluations, ...]:
        """No evaluation seen."""
        return tuple(AgreeingEvaluations() for _ in self.targets)

    def step(
        self, state: tuple[AgreeingEvaluations, ...], seen: Observation, signals: Signals
    ) -> tuple[tuple[AgreeingEvaluations, ...], Found]:
        """Speaks at the evaluation that agrees with those before it."""
        found: list[Finding] = []
        after = list(state)
        for place, (target, before) in enumerate(zip(self.targets, state, strict=True)):
            if before.said or not isinstance(seen, EvalObservation) or seen.split != target.split:
                continue
            chance = self._chance(target, seen.step, signals.outlook)
            odds = None if chance is None else chance.probability
            agreed = before.agreed + 1 if odds is not None and self.agrees(odds) else 0
            after[place] = AgreeingEvaluations(agreed, said=agreed >= self.evaluations)
            if chance is not None and after[place].said:
                found.append(self._finding(target, seen.step, chance))
        return tuple(after), tuple(found)

    def _chance(self, target: Target, step: int, outlook: Outlook) -> Chance | None:
        """The chance of a target at an evaluation; None where it is too early, too late, or the bound was reached."""
        last, curve = deadline_of(target, outlook), outlook.curve(target.split)
        if last is None or curve is None or not self.from_part * last <= step < last:
            return None
        bound = bound_of(target, curve)
        if bound is None or any(0 < loss < bound for _, loss in curve.points):
            return None
        chance = chance_of(target, outlook)
        return chance if chance is not None and chance.by.now == step else None

    def _finding(self, target: Target, step: int, chance: Chance) -> Finding:
        ends = chance.by
        values = {
            "target": str(target), "probability": chance.odds, "bound": chance.bound, "median": ends.median,
            "lower": ends.lower, "upper": ends.upper, "level": ends.level, "last_step": ends.last_step,
            "step_to_reach": chance.step, "evaluations": self.evaluations,
        }  # fmt: skip
        return Finding(self.code, self.info.severities[0], step, target.split, values, asks_to_stop=self.info.may_stop)

    def keep(self, state: tuple[AgreeingEvaluations, ...], found: Found) -> tuple[AgreeingEvaluations, ...]:
        """What was reported of an evaluation stands, also where another of its step replaces that one."""
        named = {one.values.get("target") for one in found if one.code == self.code}
        both = zip(self.targets, state, strict=True)
        return tuple(replace(one, said=True) if str(target) in named else one for target, one in both)


ROWS: Final = (SetupObservation, EvalObservation, EndObservation)
"""Kinds of rows that decide on a target; what training rows bring is in the signals."""

TargetStates = tuple[TargetState, ...]
"""Where each target stands, in the order of the targets."""


@dataclass(frozen=True, slots=True)
class TargetRule(Rule):
    """Speaks once per target, of the outcome that is the rule's own.

    Args:
        targets: What the run must reach.
        task: As in `ko_cpt_callbacks.rules.monitor.Monitor`.
    """

    targets: tuple[Target, ...] = ()
    task: str = "cpt"

    @abstractmethod
    def found(self, state: TargetStates, verdicts: tuple[Verdict, ...]) -> Found:
        """The findings of the verdicts that a row, or the end, brought."""

    @property
    def asks(self) -> tuple[type[Observation], ...]:
        """Rows that decide, where there are targets."""
        return self.info.rows if self.targets else ()

    def initial(self) -> TargetStates:
        """No row seen."""
        return tuple(TargetState() for _ in self.targets)

    def step(self, state: TargetStates, seen: Observation, signals: Signals) -> tuple[TargetStates, Found]:
        """Speaks at the evaluation that confirms or the deadline that passes, or at the Trainer's last row."""
        known = _trained(state, signals.run)
        state, verdicts = advance_all(self.targets, self.task, known, seen)
        return state, self.found(state, verdicts)

    def keep(self, state: TargetStates, found: Found) -> TargetStates:
        """A verdict that was reported of an evaluation stands, also where another of its step replaces that one."""
        return keep_all(self.targets, state, found)

    def close(self, state: TargetStates, signals: Signals) -> Found:
        """Speaks where the history ends before the deadline, or without the Trainer's last row."""
        row = signals.run.length.row_step
        known = tuple(replace(one, last_step=row or one.last_step) for one in _trained(state, signals.run))
        return self.found(known, close_all(self.targets, self.task, known))


def _trained(states: TargetStates, run: RunProgress) -> TargetStates:
    """The states with what the training rows since have brought: the rules ask for all other rows alone."""
    tokens, kind = run.train.tokens_seen, run.seen
    return tuple(replace(one, tokens_seen=tokens, seen=kind, ended=one.ended and run.ended) for one in states)
