"""`eval-too-small`: the error bar of an evaluation set is too wide for what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.metrics.perplexity import interval
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Level, Observation, level_of
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.watch.measurement import measure, rows_needed, shown, unit
from ko_cpt_callbacks.watch.target import Target

__all__ = ["EvalTooSmall", "EvalTooSmallState"]


@dataclass(frozen=True, slots=True)
class EvalTooSmallState:
    """The sets of which it was reported; the first levels that relative targets are measured from."""

    said: tuple[str, ...] = ()
    firsts: Mapping[Target, Level] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EvalTooSmall(Rule):
    """Says once per set how many rows would be enough.

    A set with a target: at the first evaluation whose interval holds the target while it is wider than
    ``min_distance`` to either side. A set without: where the 95 % interval is wider than ``resolution``.

    Args:
        targets: What the run must reach.
    """

    info: ClassVar[RuleInfo] = RuleInfo("eval-too-small", (Severity.INFO,), (EvalObservation,), place=150)

    targets: tuple[Target, ...] = ()
    resolution: float = limits.TOO_SMALL_NATS
    min_distance: float = limits.TOO_SMALL_DISTANCE

    def initial(self) -> EvalTooSmallState:
        """Nothing reported."""
        return EvalTooSmallState()

    def step(self, state: EvalTooSmallState, seen: Observation, signals: Signals) -> tuple[EvalTooSmallState, Found]:
        """Judges an evaluation."""
        if not isinstance(seen, EvalObservation) or seen.split in state.said:
            return state, ()
        own = [target for target in self.targets if target.split == seen.split]
        firsts = dict(state.firsts)
        for target in own:
            level = level_of(target.metric, seen)
            if target.relative and isinstance(level, Level):
                firsts.setdefault(target, level)
        state = replace(state, firsts=firsts)
        found = None if own else self._coarse(seen)
        for target in own:
            found = found or self._unresolved(target, seen, firsts.get(target))
        if found is None:
            return state, ()
        variant, values = found
        finding = Finding(self.code, Severity.INFO, seen.step, seen.split, values, variant=variant)
        return replace(state, said=(*state.said, seen.split)), (finding,)

    def _coarse(self, seen: EvalObservation) -> tuple[str, dict[str, Any]] | None:
        level = level_of(keys.EXACT_LOSS, seen)
        if not isinstance(level, Level) or level.se is None:
            return None
        half = interval(0.0, level.se)[1]
        if half <= self.resolution:
            return None
        needed = rows_needed(seen.rows, half, self.resolution)
        values = {
            "value": level.value, "half": half, "rows": seen.rows, "rows_needed": needed,
            "resolution": self.resolution,
        }  # fmt: skip
        return "" if needed is not None else "rows-unknown", values

    def _unresolved(
        self, target: Target, seen: EvalObservation, first: Level | None
    ) -> tuple[str, dict[str, Any]] | None:
        measured = measure(target, seen, first)
        distance = max(abs(measured.value - measured.bound), self.min_distance)
        if measured.fault is not None or measured.half is None or measured.half <= distance:
            return None
        needed = rows_needed(seen.rows, measured.half, distance)
        values = {
            "target": str(target),
            "unit": unit(target),
            "value": shown(target, measured.value),
            "low": shown(target, measured.value - measured.half),
            "high": shown(target, measured.value + measured.half),
            "confidence": target.confidence,
            "rows": seen.rows,
            "rows_needed": needed,
        }
        return "target" if needed is not None else "target-rows-unknown", values
