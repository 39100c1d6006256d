"""What the rules on a baseline have in common: what the run is compared with, and how its sets stand row by row."""

from __future__ import annotations

from dataclasses import dataclass, field

from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.compared_sets import ComparedSets, WatchedBaseline
from ko_cpt_callbacks.compare.reference import AUTO
from ko_cpt_callbacks.rules.rule import Rule
from ko_cpt_callbacks.run.observation import Observation

__all__ = ["BaselineRule", "BaselineState"]


@dataclass(frozen=True, slots=True)
class BaselineState:
    """Where the sets stand, and of which it was reported."""

    sets: ComparedSets = field(default_factory=ComparedSets)
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BaselineRule(Rule):
    """Speaks of a run beside its baseline.

    Args:
        baseline: What the run is compared with; ``None``: nothing.
        stage: The baseline's stage, or ``auto``.
        retention: Names of evaluation sets that are never compared.
    """

    baseline: Baseline | None = None
    stage: str = AUTO
    retention: tuple[str, ...] = ()

    @property
    def asks(self) -> tuple[type[Observation], ...]:
        """All rows where there is a baseline."""
        return () if self.baseline is None else self.info.rows

    @property
    def watched(self) -> WatchedBaseline:
        """What the run is compared with, as the fold of its sets takes it."""
        return WatchedBaseline(self.baseline, self.stage, self.retention)
