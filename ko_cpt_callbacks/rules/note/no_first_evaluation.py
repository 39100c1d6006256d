"""`no-first-evaluation`: the model is evaluated, but not before the first step, or not at the steps that were set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import SetupObservation
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule, text_of

__all__ = ["NoFirstEvaluation"]


@dataclass(frozen=True, slots=True)
class NoFirstEvaluation(SetupRule):
    """Reads the set-up rows of this code's name, written when training begins.

    One of a training that begins at step 0; one, with ``eval_steps``, where ``eval_strategy`` ignores them.
    """

    info: ClassVar = RuleInfo("no-first-evaluation", (Severity.INFO,), (SetupObservation,))

    def judge(self, seen: SetupObservation) -> Finding | None:
        """An info."""
        if seen.kind != self.code:
            return None
        strategy = text_of(seen, "eval_strategy")
        if "eval_steps" not in seen.values:
            return self._found(seen, Severity.INFO, {})
        if strategy is None:
            return None
        return self._found(
            seen, Severity.INFO, {"eval_steps": seen.values["eval_steps"], "eval_strategy": strategy}, "steps-ignored"
        )
