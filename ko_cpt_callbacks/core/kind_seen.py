"""What a run's rows say of what it trains: a fold, so that live, offline and resumed runs know the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.finding import Finding
from ko_cpt_callbacks.core.kind import TrainerKind, applies
from ko_cpt_callbacks.core.observation import EvalObservation, Observation, SetupObservation, TrainObservation

__all__ = ["LOSS_SCALED", "NOTHING_SEEN", "TRAINED_ON", "TRAINER_KIND", "KindSeen"]

TRAINER_KIND: Final = "trainer_kind"
"""In the set-up row ``plan``: what is trained. Beside it stand ``trainer_class`` and, under `TRAINED_ON`,"""
TRAINED_ON: Final = "trained_on"
"""what the training loss is, in words, where it is not the cross-entropy of the tokens alone; else ``None``."""

LOSS_SCALED: Final = "loss-scaled"

_FIRST: Final = 10
_LOW: Final = 0.25
_WIDE: Final = 10.0
# A loss of reinforcement learning begins around 0 and jumps over orders of magnitude; a language model that knows its
# text by heart is as low, but does not jump. Chosen on one public GRPO log (first ten: 0.0003 to 0.0648); not measured.

# Findings that compare a training loss with the levels of language models, or with an evaluation's.
_OF_TRAINING_LOSS: Final = frozenset({"below-floor", "memorising", "gap-widening"})


@dataclass(frozen=True, slots=True)
class KindSeen:
    """What is known so far.

    Args:
        kind: What is trained; ``None`` while nothing says it.
        told: Whether the live Trainer said so: then no key and no number of the log changes it.
        trained_on: What the training loss is where it is not the cross-entropy of the tokens alone, in words.
        scaled: Whether the logged training loss was found to be a multiple of the measured one.
        first: The first positive training losses, until there are ten.
    """

    kind: TrainerKind | None = None
    told: bool = False
    trained_on: str | None = None
    scaled: bool = False
    first: tuple[float, ...] = ()

    @property
    def language(self) -> bool:
        """Whether a loss of the run may be read as the cross-entropy of tokens; so it is where nothing says more."""
        return self.kind is None or self.kind.language

    @property
    def train_language(self) -> bool:
        """Whether the logged training loss may be."""
        return self.language and self.trained_on is None and not self.scaled

    def add(self, seen: Observation) -> KindSeen:
        """What is known after one more observation."""
        if isinstance(seen, SetupObservation):
            return self._told(seen.values) if TRAINER_KIND in seen.values else self
        if self.told or not isinstance(seen, (TrainObservation, EvalObservation)):
            return self
        if seen.kind is not None:
            return self if self.kind is seen.kind else replace(self, kind=seen.kind)
        if self.kind is None and isinstance(seen, TrainObservation) and len(self.first) < _FIRST:
            return self._logged(seen.loss)
        return self

    def heard(self, findings: Iterable[Finding]) -> KindSeen:
        """What is known after findings were made."""
        if not self.scaled and any(finding.code == LOSS_SCALED for finding in findings):
            return replace(self, scaled=True)
        return self

    def lets(self, finding: Finding) -> bool:
        """Whether a finding may be said of such a run."""
        if not applies(finding.topic, self.kind):
            return False
        if self.train_language or finding.code not in _OF_TRAINING_LOSS:
            return True
        # An exact loss is measured, whatever the run is trained on.
        of_evaluation = finding.split not in (None, keys.TRAIN_PREFIX)
        return finding.code == "below-floor" and of_evaluation and finding.values.get("metric") == keys.EXACT_LOSS

    def _told(self, values: Mapping[str, Any]) -> KindSeen:
        named, trained_on = values[TRAINER_KIND], values.get(TRAINED_ON)
        try:
            kind = TrainerKind(named) if isinstance(named, str) else None
        except ValueError:  # a kind of a later version
            kind = TrainerKind.OTHER
        trained_on = trained_on if isinstance(trained_on, str) else None
        return replace(self, kind=kind, told=kind is not None, trained_on=trained_on)

    def _logged(self, loss: float | None) -> KindSeen:
        if loss is None or not math.isfinite(loss) or loss == 0.0:
            return self
        if loss < 0.0:  # no cross-entropy is
            return replace(self, kind=TrainerKind.OTHER)
        first = (*self.first, loss)
        around_zero = len(first) == _FIRST and max(first) < _LOW and max(first) > _WIDE * median(first)
        return replace(self, first=first, kind=TrainerKind.RL if around_zero else None)


NOTHING_SEEN: Final = KindSeen()
"""Before the first row."""
