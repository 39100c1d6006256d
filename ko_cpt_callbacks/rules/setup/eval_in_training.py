"""`eval-in-training`: rows of an evaluation set are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import SetupRule, count_of, text_of
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal import limits

__all__ = ["EvalInTraining"]


@dataclass(frozen=True, slots=True)
class EvalInTraining(SetupRule):
    """Reads the set-up row of this code's name, written per evaluation set when training begins.

    Args:
        min_share: Estimated share of the set that is in the training set, from which on it is reported. Chosen, not
            measured.
        min_rows: Evaluation rows found, where only a sample of the training rows was looked at: one alone may be a
            text that everybody quotes. Chosen, not measured.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "eval-in-training", (Severity.WARNING,), (SetupObservation,), may_stop=True, place=30
    )

    min_share: float = limits.TRAINED_ON_SHARE
    min_rows: int = limits.TRAINED_ON_ROWS

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A warning with how many of how many; a sample is scaled up to judge the share, and shown as it is."""
        if seen.kind != self.code or text_of(seen, keys.SPLIT) is None:
            return None
        counts = {
            name: count_of(seen, name) for name in ("found", "compared", "set_rows", "train_compared", "train_rows")
        }
        found, compared = counts["found"] or 0, counts["compared"] or 0
        looked, train = counts["train_compared"] or 0, counts["train_rows"] or 0
        if not found or found > compared or not 0 < looked <= train or not counts["set_rows"]:
            return None
        whole = looked == train
        share = found / compared * train / looked
        if share < self.min_share or (not whole and found < self.min_rows):
            return None
        return self._found(seen, Severity.WARNING, counts, "whole" if whole else "sample")
