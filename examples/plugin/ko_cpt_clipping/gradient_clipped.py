"""``gradient-clipped``: every step is clipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import Observation, TrainObservation
from ko_cpt_callbacks.signal.signals import Signals


@dataclass(frozen=True, slots=True)
class GradientClipped(Rule):
    """Speaks once, when the gradient norm was above the limit in many rows in a row.

    The state is the number of such rows, and whether it has spoken.

    Args:
        norm: Gradient norm above which a step is clipped. 1.0: the Trainer's default ``max_grad_norm``.
        rows: Training rows in a row. Chosen, not measured.
    """

    info: ClassVar = RuleInfo("gradient-clipped", (Severity.WARNING,), (TrainObservation,), may_stop=True, since="1.0")

    norm: float = 1.0
    rows: int = 20

    def initial(self) -> tuple[int, bool]:
        """No row, nothing said."""
        return 0, False

    def step(self, state: tuple[int, bool], seen: Observation, signals: Signals) -> tuple[tuple[int, bool], Found]:
        """Counts a row; a row without a gradient norm, or one below the limit, begins anew."""
        count, said = state
        if said or not isinstance(seen, TrainObservation):
            return state, ()
        if seen.grad_norm is None or not seen.grad_norm > self.norm:
            return (0, False), ()
        if count + 1 < self.rows:
            return (count + 1, False), ()
        values = {"rows": count + 1, "grad_norm": seen.grad_norm, "norm": self.norm}
        found = Finding(self.code, Severity.WARNING, seen.step, "train", values, asks_to_stop=True)
        return (count + 1, True), (found,)
