"""`forgetting`: a retention set stays well above where it began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EvalObservation, Observation
from ko_cpt_callbacks.core.retention import is_retention, retention_limit
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.evaluations import Mark, Series
from ko_cpt_callbacks.signal.run_length import expected_steps
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.signal.window import Recent

__all__ = ["Forgetting", "ForgettingState"]


@dataclass(frozen=True, slots=True)
class Depth:
    """The highest evaluation since the first: how far above it, as a fraction, and at which step."""

    rise: float
    step: int


@dataclass(frozen=True, slots=True)
class ForgettingState:
    """How deep each retention set has been, and what was said of which."""

    depths: Mapping[str, Depth] = field(default_factory=dict)
    said: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Forgetting(Rule):
    """Says once per retention set that it is above its first evaluation for good; a gap that closes is a note.

    At the start of continued pretraining the loss on the old text rises and mostly comes back (the stability gap, arXiv
    2406.14833). Nothing is said before the warm-up of the learning rate and the first tenth of the run are over. How
    long a run is to be is told (a ``plan`` row) or read off a falling learning rate; where neither is to be had, the
    first evaluations count as the beginning.

    Args:
        retention: Declared names of retention sets, beside `ko_cpt_callbacks.core.retention.RETENTION_NAMES`.
        limit: Above the first evaluation by more than this fraction, unless ``retention`` says another (``en<5%``).
            Source: the limit T of the D-CPT law's worked example (arXiv 2406.01375).
        evaluations: In a row. Chosen, not measured.
        beginning: Share of the run that does not count. Chosen, from the same.
        few: Evaluations after the first that do not count where the length of the run is not known. Chosen, not
            measured.
        recovery: A rise that is below this fraction of the rise one evaluation before is on its way back. Chosen, not
            measured.
    """

    info: ClassVar = RuleInfo("forgetting", (Severity.WARNING, Severity.INFO), (EvalObservation,), may_stop=True)

    retention: tuple[str, ...] = ()
    limit: float = 0.03
    evaluations: int = 2
    beginning: float = 0.1
    few: int = 2
    recovery: float = 0.9

    def initial(self) -> ForgettingState:
        """No row seen."""
        return ForgettingState()


    def step(self, state: ForgettingState, seen: Observation, signals: Signals) -> tuple[ForgettingState, Found]:
        """Judges an evaluation of a retention set."""
        now, window, split = signals.evaluations.now, signals.window, getattr(seen, "split", "")
        if now is None or not is_retention(split, self.retention) or now.first.value <= 0.0:
            return state, ()
        depth = _deeper(state.depths.get(split), now)
        state = replace(state, depths={**state.depths, split: depth})
        variant = self._variant(now, depth, window, self._limit(split))
        # A gap that closed may still be followed by forgetting, not the other way round.
        if variant is None or (split, variant) in state.said or (split, "") in state.said:
            return state, ()
        rise, limit = _rise(now, now.last), self._limit(split)
        values: dict[str, Any] = {
            "loss": now.last.value,
            "first": now.first.value,
            "first_step": now.first.step,
            "rise": rise,
            "limit": limit,
            "evaluations": self.evaluations,
            "depth": depth.rise,
            "depth_step": depth.step,
            "noise": now.noise,
            "planned_steps": expected_steps(window),
            "metric": now.metric,
        }
        lost = variant == ""
        severity = Severity.WARNING if lost else Severity.INFO
        found = Finding(self.code, severity, seen.step, split, values, asks_to_stop=lost, variant=variant)
        return replace(state, said=(*state.said, (split, variant))), (found,)

    def _limit(self, split: str) -> float:
        declared = retention_limit(split, self.retention)
        return self.limit if declared is None else declared

    def _variant(self, now: Series, depth: Depth, recent: Recent, limit: float) -> str | None:
        last = now.marks[-self.evaluations :]
        if now.count <= self.evaluations or not all(self._counts(now, mark, recent) for mark in last):
            return None
        rises = [_rise(now, mark) for mark in last]
        if min(rises) > limit:
            return None if rises[-1] < self.recovery * rises[-2] else ""
        return "recovered" if depth.rise > limit and max(rises) <= limit else None

    def _counts(self, now: Series, mark: Mark, recent: Recent) -> bool:
        """Whether an evaluation is past the beginning."""
        rates = [rate for rate in recent.rates if rate is not None]
        if len(rates) > 1 and rates[-1] > rates[-2]:
            return False
        planned = expected_steps(recent)
        if planned is not None:
            return mark.step > self.beginning * planned
        return now.count - 1 > self.few


def _rise(now: Series, mark: Mark) -> float:
    return mark.value / now.first.value - 1.0


def _deeper(known: Depth | None, now: Series) -> Depth:
    rise = _rise(now, now.last)
    if known is None or now.count == 1 or rise > known.rise:
        return Depth(rise, now.last.step)
    return known
