"""`eos-not-trained`: the end token is never a target, because it is the pad token and pads are masked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import SetupObservation
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule, count_of, text_of

__all__ = ["EosNotTrained"]

_FIRST_BATCH = "padding-in-loss"
"""Kind of the row that holds the counts of the first batch: pads and ends are counted in one pass."""


@dataclass(frozen=True, slots=True)
class EosNotTrained(SetupRule):
    """Reads the counts of the first training batch: texts that end with the end token, and labels that are it.

    transformers' ``DataCollatorForLanguageModeling`` and many others give every pad token the label -100. Where the
    end token serves as pad (``tokenizer.pad_token = tokenizer.eos_token``) the end of every text is masked with them.
    An end counts where it is text by the attention mask, or is followed by more text, and stands right behind a
    labelled token: an end within a masked prompt is none.
    """

    info: ClassVar = RuleInfo("eos-not-trained", (Severity.WARNING,), (SetupObservation,))

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A warning where texts end in the batch and no label is the end token."""
        if seen.kind != _FIRST_BATCH or text_of(seen, keys.SPLIT) != keys.TRAIN_PREFIX:
            return None
        ends, rows = count_of(seen, "ends"), count_of(seen, "rows")
        if not ends or not rows or seen.values.get("pad_is_end") is not True or count_of(seen, "end_labels") != 0:
            return None
        # The weights get better all the same: nothing to stop for.
        return replace(self._found(seen, Severity.WARNING, {"ends": ends, "rows": rows}), asks_to_stop=False)
