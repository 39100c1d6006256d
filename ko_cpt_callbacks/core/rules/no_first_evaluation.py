"""`no-first-evaluation`: the model is evaluated, but not before the first step."""

from __future__ import annotations

from dataclasses import dataclass

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import SetupObservation
from ko_cpt_callbacks.core.setup_rule import SetupRule

__all__ = ["NoFirstEvaluation"]


@dataclass(frozen=True, slots=True)
class NoFirstEvaluation(SetupRule):
    """Reads the set-up row of this code's name, written when a training begins at step 0."""

    @property
    def code(self) -> str:
        """``no-first-evaluation``."""
        return "no-first-evaluation"

    def judge(self, seen: SetupObservation) -> Finding | None:
        """An info."""
        return self._found(seen, Severity.INFO, {}) if seen.kind == self.code else None
