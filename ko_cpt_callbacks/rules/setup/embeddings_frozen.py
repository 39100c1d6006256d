"""`embeddings-frozen`: tokens were added to the vocabulary, and their rows are not trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import SetupObservation
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule, count_of, names_of, text_of

__all__ = ["EmbeddingsFrozen"]


@dataclass(frozen=True, slots=True)
class EmbeddingsFrozen(SetupRule):
    """Reads the set-up row of this code's name, written when training begins.

    The row is written where the tokenizer has tokens beyond the vocabulary that the model was built with, or that it
    did not have when it was read, and the input embeddings or the head are frozen. A warning where the new rows are
    still what a resize makes of them: all nearly the same, so that no earlier stage can have trained them. An info
    where that cannot be seen. Where an earlier script saved the resized model, such rows of text tokens at the end of
    the vocabulary are all that is left of it (``seen``: ``rows``), and they are enough.
    """

    info: ClassVar = RuleInfo(
        "embeddings-frozen", (Severity.WARNING, Severity.INFO), (SetupObservation,), may_stop=True
    )

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A warning, or an info where an earlier stage may have trained the rows."""
        new, frozen, fix = count_of(seen, "new_tokens"), names_of(seen, "frozen"), text_of(seen, "fix")
        if seen.kind != self.code or not new or not frozen or fix is None:
            return None
        values = {"new_tokens": new, "frozen": frozen, "fix": fix}
        if seen.values.get("untrained") is True:
            if text_of(seen, "seen") == "rows":
                return self._found(seen, Severity.WARNING, values, "alike")
            return self._found(seen, Severity.WARNING, values, "untrained")
        return self._found(seen, Severity.INFO, values, "maybe-trained")
