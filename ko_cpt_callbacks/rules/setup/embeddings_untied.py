"""`embeddings-untied`: input embeddings and head are one matrix by the configuration, and two in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import SetupObservation
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule, names_of, text_of

__all__ = ["EmbeddingsUntied"]


@dataclass(frozen=True, slots=True)
class EmbeddingsUntied(SetupRule):
    """Reads the set-up row of this code's name, written when training begins.

    ``modules_to_save=["embed_tokens", "lm_head"]`` makes two copies of one matrix. They drift apart, and whoever
    loads the merged model ties them again, by the configuration, and loses one of them.
    """

    info: ClassVar = RuleInfo("embeddings-untied", (Severity.WARNING,), (SetupObservation,), may_stop=True)

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A warning that names what is trained of the two."""
        trained, fix = names_of(seen, "trained"), text_of(seen, "fix")
        if seen.kind != self.code or not trained or fix is None:
            return None
        return self._found(seen, Severity.WARNING, {"trained": trained, "fix": fix})
