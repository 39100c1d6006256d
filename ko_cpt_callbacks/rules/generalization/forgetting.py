"""`forgetting`: a retention set stays well above where it began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation
from ko_cpt_callbacks.run.retention import is_retention, retention_limit
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.evaluations import Mark
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.signal.window import expected_steps

__all__ = ["Forgetting", "ForgettingState"]


@dataclass(frozen=True, slots=True)
class ForgettingState:
    """The highest evaluation of each retention set since its first, and what was reported of which."""

    highest: Mapping[str, Mark] = field(default_factory=dict)
    said: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Forgetting(Rule):
    """Says once per retention set that it is above its first evaluation for good; a gap that closes is a note.

    At the start of continued pretraining the loss on the old text rises and mostly comes back (the stability gap, arXiv
    2406.14833). No finding comes before the warm-up of the learning rate and the first tenth of the run are over. A
    ``plan`` row has the length of the run, or a falling learning rate shows it; where neither is there, the first
    evaluations count as the beginning.

    Args:
        retention: Declared names of retention sets, beside `ko_cpt_callbacks.run.retention.RETENTION_NAMES`.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "forgetting", (Severity.WARNING, Severity.INFO), (EvalObservation,), may_stop=True, place=220
    )

    retention: tuple[str, ...] = ()
    limit: float = limits.FORGET_SHARE
    evaluations: int = limits.FORGET_EVALUATIONS
    beginning: float = limits.FORGET_BEGINNING
    few: int = limits.FORGET_FEW
    recovery: float = limits.FORGET_RECOVERY

    def initial(self) -> ForgettingState:
        """No row seen."""
        return ForgettingState()

    def step(self, state: ForgettingState, seen: Observation, signals: Signals) -> tuple[ForgettingState, Found]:
        """Judges an evaluation of a retention set."""
        now, window, split = signals.evaluations.now, signals.window, getattr(seen, "split", "")
        if now is None or not is_retention(split, self.retention) or now.first.value <= 0.0:
            return state, ()
        high = state.highest.get(split)
        if high is None or now.count == 1 or high.step < now.first.step or now.last.value > high.value:
            high = now.last
            state = replace(state, highest={**state.highest, split: high})
        declared, planned = retention_limit(split, self.retention), expected_steps(window)
        limit, depth = self.limit if declared is None else declared, high.value / now.first.value - 1.0
        last = now.marks[-self.evaluations :]
        rises = [mark.value / now.first.value - 1.0 for mark in last]
        # Past the beginning are all of them: the learning rate does not rise, and a share of the run is done.
        rates = [rate for rate in window.rates[-2:] if rate is not None]
        early = last[0].step <= self.beginning * planned if planned is not None else now.count - 1 <= self.few
        if early or rates != sorted(rates, reverse=True) or now.count <= self.evaluations:
            return state, ()
        lost, back = min(rises) > limit and rises[-1] >= self.recovery * rises[0], depth > limit >= max(rises)
        variant = "" if lost else "recovered"
        # A gap that closed may still be followed by forgetting, not the other way round.
        if not (lost or back) or (split, variant) in state.said or (split, "") in state.said:
            return state, ()
        values: dict[str, Any] = {
            "loss": now.last.value, "first": now.first.value, "first_step": now.first.step, "rise": rises[-1],
            "limit": limit, "evaluations": self.evaluations, "depth": depth, "depth_step": high.step,
            "noise": now.noise, "planned_steps": planned, "metric": now.metric,
        }  # fmt: skip
        severity = Severity.WARNING if lost else Severity.INFO
        found = Finding(self.code, severity, seen.step, split, values, asks_to_stop=lost, variant=variant)
        return replace(state, said=(*state.said, (split, variant))), (found,)
