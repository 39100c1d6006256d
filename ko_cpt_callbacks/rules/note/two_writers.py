"""`two-writers`: another process already writes into the run folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule, text_of
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import SetupObservation

__all__ = ["TwoWriters"]


@dataclass(frozen=True, slots=True)
class TwoWriters(SetupRule):
    """Reads the set-up row that the callback notes when another process holds the folder's lock.

    That run writes no files, so the finding is in its console and its ``callback.findings`` alone. It never asks to
    stop: both runs go on.
    """

    info: ClassVar[RuleInfo] = RuleInfo("two-writers", (Severity.WARNING,), (SetupObservation,), place=330)

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A warning, with the other process."""
        process = text_of(seen, "process")
        if seen.kind != self.code or process is None:
            return None
        return Finding(self.code, Severity.WARNING, seen.step, values={"process": process})
