"""`corpus-repeated`: the stages go over a source more often than repeating it is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import CORPUS_USE, SetupRule, is_trial, text_of
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import SetupObservation, finite_number
from ko_cpt_callbacks.signal import limits

__all__ = ["CorpusRepeated"]


@dataclass(frozen=True, slots=True)
class CorpusRepeated(SetupRule):
    """Reads what a recipe's run notes of each source before its first step: the passes of all stages together."""

    info: ClassVar = RuleInfo("corpus-repeated", (Severity.INFO,), (SetupObservation,), place=36)

    most_passes: int = limits.CORPUS_PASSES
    least_bytes: int = limits.CORPUS_LEAST

    def judge(self, seen: SetupObservation) -> Finding | None:
        """An info where the source is passed too often."""
        source, passes = text_of(seen, "source"), finite_number(seen.values.get("passes"))
        if seen.kind != CORPUS_USE or is_trial(seen, self.least_bytes):
            return None
        if source is None or passes is None or passes <= self.most_passes:
            return None
        values = {"source": source, "passes": passes, "most_passes": self.most_passes}
        return replace(self._found(seen, Severity.INFO, values), split=None)
