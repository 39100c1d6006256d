"""`stage-regression`: a later stage of a staged training ends worse than the one before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from ko_cpt_callbacks.compare.resolution import STAGE_START, Seeds, resolution_of
from ko_cpt_callbacks.compare.value import BITS, NATS, relation_of
from ko_cpt_callbacks.metrics.perplexity import interval
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import Observation, SetupObservation, finite_number
from ko_cpt_callbacks.run.retention import is_retention
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["StageRegression", "StageRegressionState"]

_DIFFERENCE: Final = "stage-difference"
_UNITS: Final = (NATS, BITS)


@dataclass(frozen=True, slots=True)
class StageRegressionState:
    """The (stage, stage before, set) of which it was reported."""

    said: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class StageRegression(Rule):
    """Speaks where the whole interval of (after less before) is above zero, and the difference above the resolution.

    The difference arrives as a set-up row ``stage-difference``; one without a standard error is not judged.

    Args:
        retention: Names or prefixes of sets that do not count, beside those that are retention sets by their name:
            what a stage forgets is another question.
        confidence: Of the two-sided interval. Chosen, not measured: as everywhere in this package.
    """

    info: ClassVar[RuleInfo] = RuleInfo("stage-regression", (Severity.WARNING,), (SetupObservation,), place=290)

    retention: tuple[str, ...] = ()
    confidence: float = limits.CONFIDENCE

    def initial(self) -> StageRegressionState:
        """Nothing reported."""
        return StageRegressionState()


    def step(
        self, state: StageRegressionState, seen: Observation, signals: Signals
    ) -> tuple[StageRegressionState, Found]:
        """Judges a stage's difference, once for each pair of stages and set."""
        if not isinstance(seen, SetupObservation) or seen.kind != _DIFFERENCE:
            return state, ()
        named = tuple(_text(seen.values, name) for name in ("stage", "before", "split"))
        stage, before, split = named
        difference, se = _number(seen.values, "difference"), _number(seen.values, "se")
        unit = seen.values.get("unit")
        if not (stage and before and split) or unit not in _UNITS or difference is None or se is None or se < 0:
            return state, ()
        key = (stage, before, split)
        low, high = interval(difference, se, self.confidence)
        resolution = _number(seen.values, "resolution")
        if resolution is None:  # a row that somebody else wrote
            resolution = resolution_of(se, Seeds(STAGE_START).error(str(unit), None), self.confidence)
        behind = relation_of(difference, low, high, resolution) == "behind"
        if not behind or key in state.said or is_retention(split, self.retention):
            return state, ()
        values = {
            "stage": stage,
            "before": before,
            "unit": unit,
            "difference": difference,
            "se": se,
            "low": low,
            "high": high,
            "confidence": self.confidence,
            "value_before": _number(seen.values, "value_before"),
            "value_after": _number(seen.values, "value_after"),
            "paired": seen.values.get("paired") is True,
        }
        finding = Finding(
            self.code,
            Severity.WARNING,
            seen.step,
            split,
            values,
            variant="" if values["paired"] else "unpaired",
        )
        return replace(state, said=(*state.said, key)), (finding,)


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def _number(values: Mapping[str, Any], name: str) -> float | None:
    return finite_number(values.get(name))
