"""`no-trainable-parameters`: nothing in the model requires a gradient, so nothing can be learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import SetupObservation
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule, count_of

__all__ = ["NoTrainableParameters"]


@dataclass(frozen=True, slots=True)
class NoTrainableParameters(SetupRule):
    """Reads the set-up row of this code's name, written when training begins.

    Training usually dies in the first backward pass with an error that names no parameter. With gradient
    checkpointing the inputs require a gradient all the same, and it trains nothing to the end without a word.
    """

    info: ClassVar = RuleInfo("no-trainable-parameters", (Severity.ERROR,), (SetupObservation,), may_stop=True)

    def judge(self, seen: SetupObservation) -> Finding | None:
        """An error."""
        parameters = count_of(seen, "parameters") if seen.kind == self.code else None
        if not parameters:
            return None
        return self._found(seen, Severity.ERROR, {"parameters": parameters})
