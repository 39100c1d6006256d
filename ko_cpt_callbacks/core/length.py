"""How far a run has come and how far it was to go: a fold over its rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ko_cpt_callbacks.core.observation import Observation, SetupObservation, TrainObservation

__all__ = ["ENDED_EARLY", "GLOBAL_STEP", "NO_STEP", "PLAN", "PLANNED_STEPS", "Length"]

PLAN: Final = "plan"
"""Kind of the set-up row that says how long the run is to be; its value is ``planned_steps``."""
PLANNED_STEPS: Final = "planned_steps"
GLOBAL_STEP: Final = "global_step"
"""In the same row: the step that a Trainer's state stands at, which may lie behind its last logged row."""
ENDED_EARLY: Final = "ended-early"
"""Kind of the set-up row that says what asked a run to end before its planned last step: ``by``."""


@dataclass(frozen=True, slots=True)
class Length:
    """How far a run has come.

    Args:
        row_step: Step of its last row.
        told_step: The step that its file stands at; 0 where it does not say.
        planned: Its last step as planned; ``None`` where nothing says it.
        stopped_by: What asked it to end, a finding's code or a callback's class; ``None``: nothing known.
        broken: Whether the last training loss is no number, or one that was logged as 0.
    """

    row_step: int = 0
    told_step: int = 0
    planned: int | None = None
    stopped_by: str | None = None
    broken: bool = False

    @property
    def done(self) -> int:
        """The last optimizer step that is known of."""
        return max(self.row_step, self.told_step)

    def add(self, seen: Observation) -> Length:
        """The length after one more observation."""
        if isinstance(seen, SetupObservation):
            return self._set_up(seen)
        broken = _is_broken(seen) if isinstance(seen, TrainObservation) else self.broken
        if seen.step == self.row_step and broken == self.broken:
            return self
        return Length(seen.step, self.told_step, self.planned, self.stopped_by, broken)

    def _set_up(self, seen: SetupObservation) -> Length:
        if seen.kind == PLAN:
            planned, told = _count(seen.values, PLANNED_STEPS), _count(seen.values, GLOBAL_STEP)
            # A training that begins, or begins again, has not been stopped.
            return replace(self, planned=planned or self.planned, told_step=told or 0, stopped_by=None)
        if seen.kind == ENDED_EARLY:
            by = seen.values.get("by")
            return replace(self, stopped_by=by if isinstance(by, str) and by else self.stopped_by)
        return self


def _count(values: Mapping[str, Any], name: str) -> int | None:
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _is_broken(seen: TrainObservation) -> bool:
    """Whether the weights are lost. A bad step among good ones is not that: a loss scaler skips it."""
    if seen.loss is None or seen.loss != 0.0:
        return seen.loss is not None and not math.isfinite(seen.loss)
    bad_gradient = seen.grad_norm is not None and not math.isfinite(seen.grad_norm)
    return bool(seen.nonfinite_steps) or (seen.nonfinite_steps is None and bad_gradient)


NO_STEP: Final = Length()
"""Before the first row."""
