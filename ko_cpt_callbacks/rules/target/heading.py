"""The rules on where a target's loss is heading: they speak once, of evaluations whose forecasts agree."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

from ko_cpt_callbacks.forecast.chance import Chance, bound_of, chance_of, deadline_of
from ko_cpt_callbacks.forecast.outlook import Outlook
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.watch.target import Target

__all__ = ["TargetLikely", "TargetUnreachable"]


@dataclass(frozen=True, slots=True)
class AgreeingEvaluations:
    """Where a target stands: how many evaluations in a row agreed up to the last one, and whether that was reported."""

    agreed: int = 0
    said: bool = False


_States: TypeAlias = tuple[AgreeingEvaluations, ...]


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

    def initial(self) -> _States:
        """No evaluation seen."""
        return tuple(AgreeingEvaluations() for _ in self.targets)

    def step(self, state: _States, seen: Observation, signals: Signals) -> tuple[_States, Found]:
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

    def keep(self, state: _States, found: Found) -> _States:
        """What was reported of an evaluation stands, also where another of its step replaces that one."""
        named = {one.values.get("target") for one in found if one.code == self.code}
        both = zip(self.targets, state, strict=True)
        return tuple(replace(one, said=True) if str(target) in named else one for target, one in both)


@dataclass(frozen=True, slots=True)
class TargetUnreachable(HeadingRule):
    """Says once per target that it is out of reach: before its deadline, so that the rest of the run can be saved.

    It asks to stop. It says nothing while a probability is withheld, or where the loss was below the bound already.

    Args:
        below: Probability of a loss below the bound, below which a target is out of reach.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "target-unreachable", (Severity.WARNING,), (EvalObservation,), may_stop=True, place=172
    )

    below: float = limits.HEADING_UNREACHABLE

    def agrees(self, probability: float) -> bool:
        """Whether the target is out of reach."""
        return probability < self.below


@dataclass(frozen=True, slots=True)
class TargetLikely(HeadingRule):
    """Says once per target that the loss will likely be below it if the run goes on as planned, and when.

    It says nothing while a probability is withheld, or where the loss was below the bound already.

    Args:
        above: Probability of a loss below the bound, above which a target is likely.
    """

    info: ClassVar[RuleInfo] = RuleInfo("target-likely", (Severity.INFO,), (EvalObservation,), place=174)

    above: float = limits.HEADING_LIKELY

    def agrees(self, probability: float) -> bool:
        """Whether the target is likely met."""
        return probability > self.above
