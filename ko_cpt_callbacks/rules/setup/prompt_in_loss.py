"""`prompt-in-loss`: a fine-tuning on answers is trained on its prompts too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import FIRST_BATCH, SetupRule, count_of, text_of
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import SetupObservation

__all__ = ["PromptInLoss"]


@dataclass(frozen=True, slots=True)
class PromptInLoss(SetupRule):
    """Reads the counts of the first training batch: of all text in it, how much has no label.

    Args:
        task: What the run was declared to be; only ``sft`` has prompts. In continued pretraining every token is
            labeled, and that is right.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "prompt-in-loss", (Severity.WARNING,), (SetupObservation,), may_stop=True, place=20
    )

    task: str = "cpt"

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A warning where every row is labeled from its second token to its end."""
        if self.task != "sft" or seen.kind != FIRST_BATCH or text_of(seen, keys.SPLIT) != keys.TRAIN_PREFIX:
            return None
        rows, tokens = count_of(seen, "rows"), count_of(seen, "tokens")
        if not rows or not tokens or count_of(seen, "unlabelled") != 0:
            return None
        return self._found(seen, Severity.WARNING, {"rows": rows, "tokens": tokens})
