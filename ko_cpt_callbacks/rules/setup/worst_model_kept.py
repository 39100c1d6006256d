"""`worst-model-kept`: the Trainer keeps the wrong checkpoint, because of how it was told to choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import SetupObservation
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule, text_of

__all__ = ["WorstModelKept"]

_KEEPS = ("highest", "lowest")
_STOP = "stop-unsaved"


@dataclass(frozen=True, slots=True)
class WorstModelKept(SetupRule):
    """Reads the set-up rows of this code's name, written when training begins; ``keeps`` says what is kept.

    The Trainer takes every metric whose name does not end in ``loss`` for one that is better the higher: with
    ``eval_ppl`` it keeps the worst model. And ``save_strategy="best"`` with ``eval_strategy="epoch"`` undoes the
    checkpoint that a stop asks for.
    """

    info: ClassVar = RuleInfo("worst-model-kept", (Severity.WARNING,), (SetupObservation,), may_stop=True)

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A warning for either."""
        if seen.kind != self.code:
            return None
        keeps, metric = text_of(seen, "keeps"), text_of(seen, "metric")
        if keeps == _STOP:
            return self._found(seen, Severity.WARNING, {}, _STOP)
        if keeps not in _KEEPS or metric is None:
            return None
        return self._found(seen, Severity.WARNING, {"metric": metric}, keeps)
