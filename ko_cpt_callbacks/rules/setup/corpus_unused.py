"""`corpus-unused`: the mixture ends with another source, and a part of this one is never trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import (
    CORPUS_USE,
    SetupRule,
    count_of,
    is_trial,
    some_names,
    some_of,
    text_of,
)
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal import limits

__all__ = ["CorpusUnused"]


@dataclass(frozen=True, slots=True)
class CorpusUnused(SetupRule):
    """Reads what a recipe's run notes of each source before its first step.

    A source of the hub, whose documents were not counted, is not judged; nor is any where no source was used up: the
    mixture then ended with what the stages take.
    """

    info: ClassVar = RuleInfo("corpus-unused", (Severity.WARNING,), (SetupObservation,), place=35)

    least_used: float = limits.CORPUS_USED
    least_bytes: int = limits.CORPUS_LEAST

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A warning where the mixture reaches too small a share of the source's documents."""
        source, read, available = text_of(seen, "source"), count_of(seen, "read"), some_of(seen, "available")
        if seen.kind != CORPUS_USE or is_trial(seen, self.least_bytes):
            return None
        if source is None or read is None or available is None:
            return None
        shortest = some_names(seen, "shortest")
        if shortest is None or read >= self.least_used * available:
            return None
        values = {"source": source, "read": read, "available": available, "used": read / available}
        return replace(self._found(seen, Severity.WARNING, {**values, "shortest": shortest}), split=None)
