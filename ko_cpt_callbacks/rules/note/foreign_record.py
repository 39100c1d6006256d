"""`foreign-record`: a run resumes in a folder whose record is another run's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule, count_of
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import SetupObservation

__all__ = ["ForeignRecord"]


@dataclass(frozen=True, slots=True)
class ForeignRecord(SetupRule):
    """Reads the set-up row that the callback writes when it resumes beside a record that is not its own.

    It never asks to stop: the foreign rows are superseded, and what is judged is this run.
    """

    info: ClassVar[RuleInfo] = RuleInfo("foreign-record", (Severity.WARNING,), (SetupObservation,), place=320)

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A warning, with how many rows do not count any more and, where there is one, the first that differs."""
        rows = count_of(seen, "rows")
        if seen.kind != self.code or rows is None:
            return None
        first = count_of(seen, "first_step")
        variant = "apart" if first is None else "differs"
        values = {"rows": rows, "first_step": first}
        return Finding(self.code, Severity.WARNING, seen.step, values=values, variant=variant)
