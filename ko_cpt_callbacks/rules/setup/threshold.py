"""The checks of the set-up that have limits: what of the data is trained on, how often, and beside what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import CORPUS_USE, SetupRule, count_of, some_names, some_of, text_of
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import SetupObservation, finite_number
from ko_cpt_callbacks.signal import limits

__all__ = ["CorpusRepeated", "CorpusUnused", "EvalInTraining"]


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
        names = ("found", "compared", "set_rows", "train_compared", "train_rows")
        counts = {name: count_of(seen, name) for name in names}
        found, compared, rows, looked, train = (count or 0 for count in counts.values())
        if text_of(seen, keys.SPLIT) is None or not 0 < found <= compared or not 0 < looked <= train or not rows:
            return None
        whole = looked == train
        share = found / compared * train / looked
        if share < self.min_share or (not whole and found < self.min_rows):
            return None
        return self._found(seen, Severity.WARNING, counts, "whole" if whole else "sample")


def _is_trial(seen: SetupObservation, least: int) -> bool:
    """Whether all sources together have fewer bytes; not counted is no trial."""
    size = count_of(seen, "corpus_bytes")
    return size is not None and size < least


@dataclass(frozen=True, slots=True)
class CorpusUnused(SetupRule):
    """Reads what a recipe's run notes of each source before its first step.

    A source of the hub, whose documents were not counted, is not judged; nor is any where no source was used up: the
    mixture then ended with what the stages take.
    """

    info: ClassVar[RuleInfo] = RuleInfo("corpus-unused", (Severity.WARNING,), (SetupObservation,), place=35)
    row: ClassVar = CORPUS_USE

    least_used: float = limits.CORPUS_USED
    least_bytes: int = limits.CORPUS_LEAST

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A warning where the mixture reaches too small a share of the source's documents."""
        source, read, available = text_of(seen, "source"), count_of(seen, "read"), some_of(seen, "available")
        shortest = some_names(seen, "shortest")
        if source is None or read is None or available is None or shortest is None:
            return None
        if _is_trial(seen, self.least_bytes) or read >= self.least_used * available:
            return None
        values: dict[str, Any] = {
            "source": source, "read": read, "available": available, "used": read / available, "shortest": shortest,
        }  # fmt: skip
        return Finding(self.code, Severity.WARNING, seen.step, values=values)


@dataclass(frozen=True, slots=True)
class CorpusRepeated(SetupRule):
    """Reads what a recipe's run notes of each source before its first step: the passes of all stages together."""

    info: ClassVar[RuleInfo] = RuleInfo("corpus-repeated", (Severity.INFO,), (SetupObservation,), place=36)
    row: ClassVar = CORPUS_USE

    most_passes: int = limits.CORPUS_PASSES
    least_bytes: int = limits.CORPUS_LEAST

    def judge(self, seen: SetupObservation) -> Finding | None:
        """An info where the source is passed too often."""
        source, passes = text_of(seen, "source"), finite_number(seen.values.get("passes"))
        if source is None or passes is None or passes <= self.most_passes or _is_trial(seen, self.least_bytes):
            return None
        values: dict[str, Any] = {"source": source, "passes": passes, "most_passes": self.most_passes}
        return Finding(self.code, Severity.INFO, seen.step, values=values)
