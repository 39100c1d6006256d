"""`off-family`: the loss of a set leaves the band of finished runs of the same set-up, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from ko_cpt_callbacks.forecast.family import BAND, Apart
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["FamilyCount", "OffFamily"]

LEFT: Final = "left"
"""Variant: the loss is outside."""
RATE: Final = "left-rate"
"""The same, and the highest learning rate is another than the family's, which may be why."""
APART: Final = "apart"
"""Variant: it is compared with no run, and why."""


@dataclass(frozen=True, slots=True)
class FamilyCount:
    """Where a set stands: how many evaluations in a row were outside, or not compared, and what was reported of it."""

    outside: int = 0
    apart: int = 0
    said: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class OffFamily(Rule):
    """Says once per set that its exact loss is outside the band, and once that there is no band to compare it with.

    It is silent without a family. The Trainer's own loss never stands in for an exact one.

    Args:
        evaluations: Compared evaluations of a set in a row that must be outside, or evaluations not compared.
        rate_apart: How far the highest learning rate may be from the family's, part of that, to go unnamed.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "off-family", (Severity.WARNING, Severity.INFO), (EvalObservation,), place=265
    )

    evaluations: int = limits.FAMILY_EVALUATIONS
    rate_apart: float = limits.FAMILY_RATE_APART

    def initial(self) -> Mapping[str, FamilyCount]:
        """No evaluation seen."""
        return {}

    def step(
        self, state: Mapping[str, FamilyCount], seen: Observation, signals: Signals
    ) -> tuple[Mapping[str, FamilyCount], Found]:
        """Speaks at the evaluation that is outside as those before it were."""
        band = signals.outlook.band(seen.split) if isinstance(seen, EvalObservation) else None
        if band is None or band.step != seen.step or not isinstance(seen, EvalObservation):
            return state, ()
        before = state.get(seen.split, FamilyCount())
        if band.apart in (Apart.NOT_YET, Apart.UNTOLD_SCHEDULE):  # later evaluations may be compared
            return state, ()
        # An evaluation that is not compared, between two that are, says nothing of these.
        compared = band.apart is None
        outside = (before.outside + 1 if band.left else 0) if compared else before.outside
        after = FamilyCount(outside, 0 if compared else before.apart + 1, before.said)
        values: dict[str, Any] = {"evaluations": self.evaluations}
        if band.left and after.outside >= self.evaluations and LEFT not in before.said:
            rated = abs(band.rate_ratio - 1) > self.rate_apart
            values |= {"loss": band.loss, "lower": band.lower, "upper": band.upper, "level": BAND}
            values |= {"runs": len(band.compared), "rate_ratio": band.rate_ratio}
            found = Finding(self.code, Severity.WARNING, seen.step, seen.split, values, variant=RATE if rated else LEFT)
            after = replace(after, said=before.said | {LEFT})
        elif after.apart >= self.evaluations and APART not in before.said:
            values |= {"reason": str(band.apart), "runs": len(signals.outlook.family)}
            found = Finding(self.code, Severity.INFO, seen.step, seen.split, values, variant=APART)
            after = replace(after, said=before.said | {APART})
        else:
            return {**state, seen.split: after}, ()
        return {**state, seen.split: after}, (found,)

    def keep(self, state: Mapping[str, FamilyCount], found: Found) -> Mapping[str, FamilyCount]:
        """What was reported of an evaluation stands, also where another of its step replaces that one."""
        named = {(one.split, APART if one.variant == APART else LEFT) for one in found if one.code == self.code}
        return {
            split: replace(one, said=one.said | {what for of, what in named if of == split})
            for split, one in state.items()
        }
