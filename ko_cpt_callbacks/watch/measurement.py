"""One evaluation measured against one target: value, interval and bound on a scale where errors are symmetric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.metrics.perplexity import interval, perplexity
from ko_cpt_callbacks.run.observation import EvalObservation, Level, finite_error, level_of
from ko_cpt_callbacks.watch.target import Target

__all__ = ["MeasuredLevel", "measure", "rows_needed", "shown", "unit"]

_MOST_ROWS: Final = 10_000_000  # no one evaluates on more. Chosen, not measured.


@dataclass(frozen=True, slots=True)
class MeasuredLevel:
    """One evaluation against a target, on a scale where errors are symmetric; every number is finite.

    Args:
        step: Optimizer step.
        value: Nats per token (of ``ppl`` too) or bits per byte; with a relative target the change since the first
            evaluation, as a fraction (of ``ppl``: in nats).
        se: Standard error of the value; ``None`` where none is known.
        half: Half the interval's width; ``None`` without an error bar.
        bound: The target on the same scale.
        level: The target in nats per token or bits per byte, also where it is relative.
        rows: Rows of the set.
        notes: How it was come by.
        fault: Why it cannot be judged: ``non-finite``, ``unmeasured``, or ``substitute`` where only another loss is
            there.
        absent: With ``substitute``: why the callback measured no exact loss; ``None`` where it was not there.
    """

    step: int
    value: float = 0.0
    se: float | None = None
    half: float | None = None
    bound: float = 0.0
    level: float = 0.0
    rows: int | None = None
    notes: tuple[str, ...] = ()
    fault: str | None = None
    absent: str | None = None

    @property
    def below(self) -> bool:
        """Surely below the target."""
        return self.fault is None and self.value + (self.half or 0.0) < self.bound

    @property
    def above(self) -> bool:
        """Surely not below the target."""
        if self.fault is not None:
            return False
        return self.value >= self.bound if self.half is None else self.value - self.half > self.bound


def measure(target: Target, seen: EvalObservation, first: Level | None = None) -> MeasuredLevel:
    """One evaluation against a target.

    Args:
        target: The target; its set is not looked at.
        seen: The evaluation.
        first: The metric at the set's first evaluation, for a relative target; ``None``: this is the first.
    """
    level = level_of(target.metric, seen)
    if isinstance(level, str):
        return MeasuredLevel(seen.step, fault=level, absent=seen.exact_loss_absent if level == "substitute" else None)
    value, se, bound = level.value, level.se, target.below
    if target.metric == keys.PPL:
        bound = math.log1p(bound) if target.relative else math.log(bound)
    absolute = bound
    if target.relative:
        # The two evaluations are on the same rows, so their errors partly cancel; rows.jsonl does not say how far.
        base = level if first is None else first
        both = None if se is None or base.se is None else (se, base.se)
        absolute = base.value + bound if target.metric == keys.PPL else base.value * (1.0 + bound)
        if target.metric == keys.PPL:
            value -= base.value
            se = None if both is None else finite_error(math.hypot(*both))
        elif base.value <= 0:
            return MeasuredLevel(seen.step, fault="unmeasured")
        else:
            ratio = value / base.value
            se = None if both is None else finite_error(math.hypot(both[0], ratio * both[1]) / base.value)
            value = ratio - 1.0
    half = None if se is None else interval(0.0, se, target.confidence)[1]
    if not (math.isfinite(value) and math.isfinite(absolute)):
        return MeasuredLevel(seen.step, fault="non-finite")
    if half is not None and not math.isfinite(value + half):
        se = half = None
    notes = level.notes if half is not None or "no-error-bar" in level.notes else (*level.notes, "no-error-bar")
    return MeasuredLevel(seen.step, value, se, half, bound, absolute, seen.rows, notes)


def rows_needed(rows: int | None, half: float | None, distance: float) -> int | None:
    """Rows of the same kind whose interval would be narrower than ``distance``: the error falls as their root.

    Returns:
        ``None`` where rows or error are unknown, or beyond ten million rows.

    >>> rows_needed(100, 0.08, 0.04)
    401
    """
    if rows is None or half is None or distance <= 0:
        return None
    ratio = half / distance
    needed = rows * ratio * ratio
    return math.floor(needed) + 1 if needed < _MOST_ROWS else None


def unit(target: Target) -> str:
    """How numbers on the target's scale are written: ``loss``, ``ppl`` or ``percent``."""
    if target.relative:
        return "percent"
    return "ppl" if target.metric == keys.PPL else "loss"


def shown(target: Target, value: float) -> float:
    """A number of the target's scale (see `MeasuredLevel`) as users know it; infinite where it overflows."""
    if target.metric != keys.PPL:
        return value
    return perplexity(value) - 1.0 if target.relative else perplexity(value)
