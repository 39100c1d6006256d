"""`nan-filter-on`: the Trainer hides NaN losses, and in this set-up nobody else counts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import SetupObservation
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule

__all__ = ["NanFilterOn"]


@dataclass(frozen=True, slots=True)
class NanFilterOn(SetupRule):
    """Reads the set-up row of this code's name, written at the first training row without a count of NaN steps.

    ``logging_nan_inf_filter`` is on by default. Where the callback counts non-finite steps itself the filter does no
    harm and nothing is said.
    """

    info: ClassVar = RuleInfo("nan-filter-on", (Severity.INFO,), (SetupObservation,))

    def judge(self, seen: SetupObservation) -> Finding | None:
        """An info."""
        return self._found(seen, Severity.INFO, {}) if seen.kind == self.code else None
