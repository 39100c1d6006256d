"""`baseline-behind`: at the end of the run an evaluation set is surely worse than the baseline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.reference import AUTO
from ko_cpt_callbacks.compare.standing import Standings, Watched, advance, settle, values_of
from ko_cpt_callbacks.rules.rule import ANY_ROW, Found, Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, Observation
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["BaselineBehind", "BaselineBehindState"]


@dataclass(frozen=True, slots=True)
class BaselineBehindState:
    """Where the sets stand, and of which it was said."""

    standings: Standings = field(default_factory=Standings)
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BaselineBehind(Rule):
    """Says once per evaluation set that the run ends behind: at its beginning every run is.

    It is a warning where the comparison is exact. On another text it is information: one model's loss differs between
    two Korean texts by more than most runs differ on one.

    Args:
        baseline: What the run is compared with; ``None``: nothing.
        stage: The baseline's stage, or ``auto``.
        retention: Names of evaluation sets that are never compared.
    """

    info: ClassVar = RuleInfo("baseline-behind", (Severity.WARNING, Severity.INFO), ANY_ROW, place=270)

    baseline: Baseline | None = None
    stage: str = AUTO
    retention: tuple[str, ...] = ()

    @property
    def asks(self) -> tuple[type[Observation], ...]:
        """All rows where there is a baseline."""
        return () if self.baseline is None else self.info.rows

    def initial(self) -> BaselineBehindState:
        """No row seen."""
        return BaselineBehindState()

    def step(
        self, state: BaselineBehindState, seen: Observation, signals: Signals
    ) -> tuple[BaselineBehindState, Found]:
        """Speaks at the Trainer's last row."""
        standings, _ = advance(self._watched, state.standings, seen)
        state = BaselineBehindState(standings, state.said)
        if not isinstance(seen, EndObservation):
            return state, ()
        found = self._behind(state)
        said = (*state.said, *(finding.split for finding in found if finding.split is not None))
        return BaselineBehindState(standings, said), found

    def close(self, state: BaselineBehindState, signals: Signals) -> Found:
        """Speaks where the history ends without the Trainer's last row."""
        standings, _ = settle(self._watched, state.standings)
        return self._behind(BaselineBehindState(standings, state.said))

    @property
    def _watched(self) -> Watched:
        return Watched(self.baseline, self.stage, self.retention)

    def _behind(self, state: BaselineBehindState) -> Found:
        return tuple(
            Finding(
                self.code,
                Severity.WARNING if one.comparison.outcome == "exact" else Severity.INFO,
                one.step,
                one.split,
                values_of(one.comparison),
                variant=one.comparison.outcome,
            )
            for one in state.standings.last()
            if one.comparison.standing == "behind" and one.split not in state.said
        )
