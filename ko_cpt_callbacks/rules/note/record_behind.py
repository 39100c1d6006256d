"""`record-behind`: the Trainer's own state goes further than the record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule, count_of, text_of
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.fold import RECORD_BEHIND
from ko_cpt_callbacks.run.observation import SetupObservation

__all__ = ["RecordBehind"]


@dataclass(frozen=True, slots=True)
class RecordBehind(SetupRule):
    """Reads the set-up row that a reader puts where the record ends and the state's rows begin.

    It never asks to stop: the run is over, or its record is being made whole.
    """

    info: ClassVar[RuleInfo] = RuleInfo(RECORD_BEHIND, (Severity.WARNING,), (SetupObservation,), place=310)

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A warning, with both last steps and the file that goes further."""
        if seen.kind != self.code:
            return None
        file = text_of(seen, "file")
        counts = {name: count_of(seen, name) for name in ("record_step", "state_step", "rows")}
        if file is None or None in counts.values():
            return None
        return Finding(self.code, Severity.WARNING, seen.step, values={**counts, "file": file})
