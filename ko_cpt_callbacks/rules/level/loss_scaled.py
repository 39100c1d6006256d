"""`loss-scaled`: the logged training loss is a multiple of the measured one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.fold import LOSS_SCALED, TRAINER_KIND
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, finite_number
from ko_cpt_callbacks.run.retention import is_retention
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.evaluations import Mark
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.watch.plausibility import LARGEST_GUESS

__all__ = ["LossScaled", "LossScaledState"]

_COUNTS: Final = ("accumulation", "processes", "both")
"""What may explain a factor: gradient accumulation, the number of processes, or both."""


@dataclass(frozen=True, slots=True)
class LossScaledState:
    """Whether the callback measured the training loss, and whether it was reported."""

    measured: bool = False
    said: bool = False


@dataclass(frozen=True, slots=True)
class LossScaled(Rule):
    """Says once that the training loss was multiplied: as measured by the callback, or as a bare log lets suspect.

    In a bare log the training loss is suspected where it is several times the evaluation's, and either above what a
    guess among the largest vocabulary gives at two evaluations that are not, or falling in proportion to the
    evaluation: a difference of texts adds, a factor multiplies.

    Args:
        retention: Declared names of retention sets, which are another text.
    """

    info: ClassVar[RuleInfo] = RuleInfo(LOSS_SCALED, (Severity.WARNING,), (SetupObservation, EvalObservation), place=70)

    retention: tuple[str, ...] = ()
    least: float = limits.SCALED_TIMES
    evaluations: int = limits.SCALED_EVALUATIONS
    agree: float = limits.SCALED_AGREE
    fall: float = limits.SCALED_FALL
    points: int = limits.SCALED_POINTS

    def initial(self) -> LossScaledState:
        """No row seen."""
        return LossScaledState()

    def step(self, state: LossScaledState, seen: Observation, signals: Signals) -> tuple[LossScaledState, Found]:
        """Reads what the callback noted; judges an evaluation of a log where it noted nothing."""
        if isinstance(seen, SetupObservation):
            state = replace(state, measured=state.measured or TRAINER_KIND in seen.values)
            values = _noted(seen.values) if seen.kind == LOSS_SCALED and not state.said else None
            variant = "" if values is None else str(values.pop("by") or "")
        else:
            now, split = signals.evaluations.now, getattr(seen, "split", "")
            silent = state.measured or state.said or is_retention(split, self.retention)
            values = None if now is None or silent else self._suspected(now.marks)
            variant = "suspected"
        if values is None:
            return state, ()
        found = Finding(self.code, Severity.WARNING, seen.step, "train", values, variant=variant)
        return replace(state, said=True), (found,)

    def _suspected(self, marks: Sequence[Mark]) -> dict[str, Any] | None:
        last = marks[-1]
        factor = self._factor(last)
        if factor is None or last.near is None:
            return None
        values = {"factor": factor, "logged": last.near, "evaluation": last.value}
        both = [self._factor(mark) for mark in marks[-2:] if mark.near is not None and mark.near > LARGEST_GUESS]
        if len(both) == 2 and last.value < LARGEST_GUESS and _alike(both, 2 * self.agree):
            return values
        for first in range(len(marks) - self.evaluations, -1, -1):
            if not _alike([self._factor(mark) for mark in marks[first:]], self.agree):
                return None
            if last.value <= (1.0 - self.fall) * marks[first].value:
                return values
        return None

    def _factor(self, mark: Mark) -> float | None:
        if mark.near is None or mark.points < self.points or mark.value <= 0.0:
            return None
        factor = mark.near / mark.value
        return factor if factor >= self.least else None


def _alike(factors: Sequence[float | None], share: float) -> bool:
    known = [one for one in factors if one is not None]
    return len(known) == len(factors) and max(known) - min(known) <= share * min(known)


def _noted(values: Mapping[str, Any]) -> dict[str, Any] | None:
    numbers = {name: values.get(name) for name in ("factor", "logged", "measured", "accumulation", "processes")}
    if any(finite_number(value) is None for value in numbers.values()):
        return None
    by = values.get("by")
    return {**numbers, "by": by if by in _COUNTS else None}
