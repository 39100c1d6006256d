"""One evaluation measured against one target: value, interval and bound on a scale where errors are symmetric."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.observation import EvalObservation
from ko_cpt_callbacks.core.target import Target
from ko_cpt_callbacks.metrics.perplexity import bits_per_byte_from_loss, interval, perplexity

__all__ = ["Level", "Measured", "level_of", "measure", "rows_needed", "shown", "unit"]

_MOST_ROWS: Final = 10_000_000  # nobody evaluates on more. Chosen, not measured.


@dataclass(frozen=True, slots=True)
class Level:
    """A metric of one evaluation: nats per token (for ``ppl`` too) or bits per byte; finite.

    ``source`` is the loss it comes from, ``notes`` say how it was come by.
    """

    value: float
    se: float | None
    source: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """One evaluation against a target, on a scale where errors are symmetric; every number is finite.

    Args:
        step: Optimizer step.
        value: Nats per token (of ``ppl`` too) or bits per byte; with a relative target the change since the first
            evaluation, as a fraction (of ``ppl``: in nats).
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


def level_of(metric: str, seen: EvalObservation) -> Level | str:
    """A metric of an evaluation, or why there is none: ``non-finite``, ``substitute`` or ``unmeasured``.

    ``ppl`` and ``bits_per_byte`` come from the exact loss, whose sum over tokens they are defined by. The Trainer's
    loss never stands in for it: it is a mean of batch means, and with label smoothing or a loss function of one's own
    another quantity. The exact loss does stand in for a Trainer's that is not there, and a note says so.
    """
    losses = (seen.exact_loss, seen.loss)
    if seen.nonfinite_batches or any(loss is not None and not math.isfinite(loss) for loss in losses):
        return "non-finite"
    if metric == keys.BITS_PER_BYTE and seen.bits_per_byte is not None:
        if not math.isfinite(seen.bits_per_byte):
            return "non-finite"
        return _with_bar(Level(seen.bits_per_byte, _error(seen.bits_per_byte_se), metric))
    if metric == keys.LOSS and seen.loss is not None:
        return _with_bar(Level(seen.loss, None, keys.LOSS))
    value, se = seen.exact_loss, _error(seen.exact_loss_se)
    if value is None:
        return "unmeasured" if seen.loss is None else "substitute"
    if metric != keys.BITS_PER_BYTE:
        return _with_bar(Level(value, se, keys.EXACT_LOSS, ("exact-loss",) if metric == keys.LOSS else ()))
    if not seen.tokens or not seen.bytes:
        return "unmeasured"
    bits = bits_per_byte_from_loss(value, seen.tokens, seen.bytes)
    error = None if se is None else _error(bits_per_byte_from_loss(se, seen.tokens, seen.bytes))
    if not math.isfinite(bits):
        return "non-finite"
    return _with_bar(Level(bits, error, keys.EXACT_LOSS, ("bits-from-loss",)))


def _error(se: float | None) -> float | None:
    return se if se is not None and math.isfinite(se) and se >= 0 else None


def _with_bar(level: Level) -> Level:
    return level if level.se is not None else replace(level, notes=(*level.notes, "no-error-bar"))


def measure(target: Target, seen: EvalObservation, first: Level | None = None) -> Measured:
    """One evaluation against a target.

    Args:
        target: The target; its set is not looked at.
        seen: The evaluation.
        first: The metric at the set's first evaluation, for a relative target; ``None``: this is the first.
    """
    level = level_of(target.metric, seen)
    if isinstance(level, str):
        return Measured(seen.step, fault=level, absent=seen.exact_loss_absent if level == "substitute" else None)
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
            se = None if both is None else _error(math.hypot(*both))
        elif base.value <= 0:
            return Measured(seen.step, fault="unmeasured")
        else:
            ratio = value / base.value
            se = None if both is None else _error(math.hypot(both[0], ratio * both[1]) / base.value)
            value = ratio - 1.0
    half = None if se is None else interval(0.0, se, target.confidence)[1]
    if not (math.isfinite(value) and math.isfinite(absolute)):
        return Measured(seen.step, fault="non-finite")
    if half is not None and not math.isfinite(value + half):
        half = None
    notes = level.notes if half is not None or "no-error-bar" in level.notes else (*level.notes, "no-error-bar")
    return Measured(seen.step, value, half, bound, absolute, seen.rows, notes)


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
    """A number of the target's scale (see `Measured`) as users know it; infinite where it overflows."""
    if target.metric != keys.PPL:
        return value
    return perplexity(value) - 1.0 if target.relative else perplexity(value)
