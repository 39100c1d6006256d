"""`embeddings-not-padded`: a resize left the vocabulary at a size that tensor cores do not like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import SetupObservation
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule, count_of

__all__ = ["EmbeddingsNotPadded"]


@dataclass(frozen=True, slots=True)
class EmbeddingsNotPadded(SetupRule):
    """Reads the set-up row of this code's name, written when training begins.

    It is written where the vocabulary has certainly grown, and where its rows were a multiple of eight before and are
    none now. The numbers of the run are not touched by it, its speed may be.
    """

    info: ClassVar = RuleInfo("embeddings-not-padded", (Severity.INFO,), (SetupObservation,))

    def judge(self, seen: SetupObservation) -> Finding | None:
        """An info."""
        rows, padded = count_of(seen, "rows"), count_of(seen, "padded_rows")
        multiple = count_of(seen, "multiple")
        if seen.kind != self.code or not rows or not padded or not multiple:
            return None
        return self._found(seen, Severity.INFO, {"rows": rows, "padded_rows": padded, "multiple": multiple})
