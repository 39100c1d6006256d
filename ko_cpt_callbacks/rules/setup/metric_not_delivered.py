"""`metric-not-delivered`: `metric_for_best_model` names what no evaluation of the run gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import SetupObservation
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule, names_of, text_of

__all__ = ["MetricNotDelivered"]


@dataclass(frozen=True, slots=True)
class MetricNotDelivered(SetupRule):
    """Reads the set-up row of this code's name, written when training begins.

    The Trainer looks the name up after its first evaluation and raises a KeyError, hours into a run. An error where
    nobody can add the name; an info where something of the user's may (``others``).
    """

    info: ClassVar = RuleInfo(
        "metric-not-delivered", (Severity.ERROR, Severity.INFO), (SetupObservation,), may_stop=True
    )

    def judge(self, seen: SetupObservation) -> Finding | None:
        """An error, or an info where another part of the run may deliver the name."""
        metric, near = text_of(seen, "metric"), text_of(seen, "near")
        if seen.kind != self.code or metric is None or near is None:
            return None
        values = {"metric": metric, "near": near, "there": names_of(seen, "there")}
        others, reason = names_of(seen, "others"), text_of(seen, "reason")
        if seen.values.get("certain") is not True:
            return self._found(seen, Severity.INFO, {**values, "others": others}, "unless")
        if reason is not None:
            return self._found(seen, Severity.ERROR, {**values, "reason": reason}, "unmeasured")
        return self._found(seen, Severity.ERROR, values, "unknown")
