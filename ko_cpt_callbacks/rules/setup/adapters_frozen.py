"""`adapters-frozen`: the model has adapters, and none of them is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import SetupObservation
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule, count_of

__all__ = ["AdaptersFrozen"]


@dataclass(frozen=True, slots=True)
class AdaptersFrozen(SetupRule):
    """Reads the set-up row of this code's name, written when training begins.

    An adapter that is loaded rather than made is frozen unless asked otherwise (PEFT's ``is_trainable``), and some
    trainers freeze the adapters of a model that they are given (TRL issue 3926).
    """

    info: ClassVar = RuleInfo("adapters-frozen", (Severity.ERROR, Severity.INFO), (SetupObservation,), may_stop=True)

    def judge(self, seen: SetupObservation) -> Finding | None:
        """An error; a note where all that is trained is what PEFT saves beside the adapters.

        Whoever trains those froze the adapters on purpose: the embedding stage of a staged training.
        """
        if seen.kind != self.code:
            return None
        adapters, others = count_of(seen, "adapter_parameters"), count_of(seen, "trainable_parameters")
        if not adapters or others is None:
            return None
        values = {"adapter_parameters": adapters, "trainable_parameters": others}
        if others and count_of(seen, "beside_adapters") == others:
            return self._found(seen, Severity.INFO, values, "beside-trained")
        return self._found(seen, Severity.ERROR, values, "others-trained" if others else "nothing-trained")
