"""`stage-regression`: a later stage of a staged training ends worse than the one before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from ko_cpt_callbacks.compare.resolution import STAGE_START, Seeds, resolution_of
from ko_cpt_callbacks.compare.value import BITS, NATS, relation_of
from ko_cpt_callbacks.metrics.perplexity import interval
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule, text_of
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import SetupObservation, finite_number
from ko_cpt_callbacks.run.retention import is_retention
from ko_cpt_callbacks.signal import limits

__all__ = ["StageRegression"]

_UNITS: Final = (NATS, BITS)


@dataclass(frozen=True, slots=True)
class StageRegression(SetupRule):
    """Speaks where the whole interval of (after less before) is above zero, and the difference above the resolution.

    The difference arrives as a set-up row ``stage-difference``; one without a standard error is not judged.

    Args:
        retention: Names or prefixes of sets that do not count, beside those that are retention sets by their name:
            what a stage forgets is another question.
        confidence: Of the two-sided interval. Chosen, not measured: as everywhere in this package.
    """

    info: ClassVar[RuleInfo] = RuleInfo("stage-regression", (Severity.WARNING,), (SetupObservation,), place=290)
    row: ClassVar = "stage-difference"

    retention: tuple[str, ...] = ()
    confidence: float = limits.CONFIDENCE

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A warning with the interval of a stage's difference."""
        stage, before, split = (text_of(seen, name) for name in ("stage", "before", "split"))
        difference, se, resolution, value_before, value_after = (
            finite_number(seen.values.get(name))
            for name in ("difference", "se", "resolution", "value_before", "value_after")
        )
        unit, paired = seen.values.get("unit"), seen.values.get("paired") is True
        if not (stage and before and split) or unit not in _UNITS or difference is None or se is None or se < 0:
            return None
        low, high = interval(difference, se, self.confidence)
        if resolution is None:  # a row that somebody else wrote
            resolution = resolution_of(se, Seeds(STAGE_START).error(str(unit), None), self.confidence)
        if relation_of(difference, low, high, resolution) != "behind" or is_retention(split, self.retention):
            return None
        values = {
            "stage": stage, "before": before, "unit": unit, "difference": difference, "se": se, "low": low,
            "high": high, "confidence": self.confidence, "value_before": value_before, "value_after": value_after,
            "paired": paired,
        }  # fmt: skip
        return self._found(seen, Severity.WARNING, values, "" if paired else "unpaired")

    def subject(self, found: Finding) -> str:
        """A pair of stages and a set, whether paired or not."""
        return f"{found.values['stage']} {found.values['before']} {found.split}"
