"""The recent training points of a run and what is normal among them: the window of `ko_cpt_callbacks.signal.signals`.

What is in it, as far as a rule needs it (names in capitals are of `ko_cpt_callbacks.signal.limits`):

* ``losses``, ``steps``, ``rates``, ``epochs``, ``paces``: the last `WINDOW` finite training losses, oldest first, and
  beside each its step, learning rate, epoch and tokens per step (``None`` where the log has none). A NaN or infinite
  loss, or a NaN that was logged as exactly 0, never gets in.
* ``line``: the level at the last point and the slope per point of a resistant line through the last `LINE` points
  (medians of their first and last third), ``None`` with fewer than `ENOUGH` points.
* ``noise``: the standard deviation of one point, in nats, from the median absolute residual around that line or from
  first differences, whichever is larger; ``None`` with fewer than `ENOUGH` points, never below `QUIET`.
* ``blocks``: the whole segment so far in at most 64 blocks of equally many points, oldest first (`PointBlock`): the
  level long ago, for rules that look back further than the window. Block sizes double when there are 64.
* ``count``: finite training losses of this segment. ``segment``: how many times the run began anew.
* ``rate_peak``: the highest learning rate of the segment; ``planned_steps``: of the last ``plan`` row, else ``None``.

A segment ends at a seam (`ko_cpt_callbacks.signal.restart`): everything above starts afresh with the first row after
it. A rule that compares across steps therefore keeps ``segment`` beside its own numbers and drops them when it
changes. An announced resume (a ``plan`` row) and whose learning rate and epoch go on is no seam. Where only the
learning rate jumped up (a scheduler with restarts does so) the window alone starts afresh, not the segment, count and
blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, NamedTuple

from ko_cpt_callbacks.run.fold import PLAN, PLANNED_STEPS
from ko_cpt_callbacks.run.observation import Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.restart import NEW, Counters, Sign, announced, begins_anew, follow

__all__ = ["EMPTY", "Fit", "PointBlock", "Recent", "bent_noise", "curved_noise", "fitted", "median", "usable"]


@dataclass(frozen=True, slots=True)
class PointBlock:
    """Equally many points in a row.

    Args:
        first_step: Step of its first point.
        last_step: Step of its last one.
        level: Their level: the mean of medians of four, in nats per token.
        rate: Learning rate at its end; ``None`` where the log has none.
        epoch: Epoch at its end; likewise.
    """

    first_step: int
    last_step: int
    level: float
    rate: float | None
    epoch: float | None


@dataclass(frozen=True, slots=True)
class Recent:
    """The window after a row; see the module."""

    step: int | None = None
    """Step of the last training row, also of one whose loss was not finite."""
    losses: tuple[float, ...] = ()
    steps: tuple[int, ...] = ()
    rates: tuple[float | None, ...] = ()
    epochs: tuple[float | None, ...] = ()
    paces: tuple[float | None, ...] = ()
    line: tuple[float, float] | None = None
    noise: float | None = None
    jitter: float | None = None
    """The noise from first differences alone."""
    wild: float | None = None
    """How far from the line the second farthest point of the window is, in nats: how heavy the tails are."""
    blocks: tuple[PointBlock, ...] = ()
    block_size: int = limits.BLOCK
    count: int = 0
    segment: int = 0
    rate_peak: float = 0.0
    planned_steps: int | None = None
    signs: tuple[Sign, ...] = ()
    """What speaks for a seam at this row."""
    seam: bool = False
    """This row begins a segment."""
    trail: Counters = NEW
    filling: _Filling | None = None
    """Points that are not in a block yet."""
    grew: bool = False
    """The last row brought a point: one whose loss is not finite brings none, also where it is a seam."""

    def add(self, seen: Observation) -> Recent:
        """The window after an observation; itself where that is neither a training row nor an announcement."""
        if isinstance(seen, TrainObservation):
            return self._train(seen)
        return self._setup(seen) if isinstance(seen, SetupObservation) else self

    def _setup(self, seen: SetupObservation) -> Recent:
        trail = announced(self.trail, seen)
        planned = seen.values.get(PLANNED_STEPS) if seen.kind == PLAN else None
        if not isinstance(planned, int) or isinstance(planned, bool) or planned <= 0:
            planned = self.planned_steps
        if trail == self.trail and planned == self.planned_steps:
            return self
        return replace(self, trail=trail, planned_steps=planned)

    def _train(self, seen: TrainObservation) -> Recent:
        past = self
        trail, signs = follow(past.trail, seen)
        strong = begins_anew(signs)
        rate = seen.learning_rate
        if rate is not None and not math.isfinite(rate):
            rate = None
        epoch = seen.epoch if seen.epoch is not None and math.isfinite(seen.epoch) else None
        kept, segment = past, past.segment
        line, noise, jitter, wild = past.line, past.noise, past.jitter, past.wild
        if strong or any(sign.name.startswith("rate") for sign in signs):
            kept = EMPTY if strong else replace(past, losses=(), steps=(), rates=(), epochs=(), paces=(), filling=None)
            segment = past.segment + strong
            line = noise = jitter = wild = None
        peak = kept.rate_peak if rate is None else max(kept.rate_peak, rate)
        losses, steps, rates, epochs, paces = kept.losses, kept.steps, kept.rates, kept.epochs, kept.paces
        blocks, size, filling, count = kept.blocks, kept.block_size, kept.filling, kept.count
        grew = usable(seen) and seen.loss is not None
        if grew and seen.loss is not None:
            losses = (*losses, seen.loss)[-limits.WINDOW:]
            steps = (*steps, seen.step)[-limits.WINDOW:]
            rates = (*rates, rate)[-limits.WINDOW:]
            epochs = (*epochs, epoch)[-limits.WINDOW:]
            paces = (*paces, trail.pace)[-limits.WINDOW:]
            if len(losses) >= limits.ENOUGH:
                level, slope, noise, jitter, wild = fitted(losses[-limits.LINE:])
                line = level, slope
            blocks, size, filling = _blocked(blocks, size, filling, seen.step, seen.loss, rate, epoch)
            count += 1
        return Recent(
            seen.step, losses, steps, rates, epochs, paces, line, noise, jitter, wild, blocks, size, count, segment,
            peak, past.planned_steps, signs, strong, trail, filling, grew,
        )  # fmt: skip


EMPTY: Final = Recent()
"""Before the first row."""


def usable(seen: TrainObservation) -> bool:
    """Whether the loss of a row is a level: finite, and no NaN that the Trainer logged as something else."""
    if seen.loss is None or not math.isfinite(seen.loss) or seen.nonfinite_steps:
        return False
    if seen.loss != 0.0 or seen.nonfinite_steps is not None:
        return True
    return seen.grad_norm is not None and math.isfinite(seen.grad_norm)


def median(values: Sequence[float]) -> float:
    """The median of at least one value (``statistics.median`` takes ten times as long)."""
    ordered = sorted(values)
    n = len(ordered)
    return ordered[n // 2] if n % 2 else 0.5 * (ordered[n // 2 - 1] + ordered[n // 2])


def bent_noise(losses: Sequence[float]) -> float:
    """Standard deviation of one point, from second differences: slopes and bends of the curve are not in it.

    Between neighbours and, where there are enough points, between every fourth one, and the larger of the two: noise
    whose neighbours correlate by r shows in the first as sqrt(1 - 4 r / 3 + r^2 / 3) of itself only (0.65 at 0.5), in
    the second as 0.96. With too few points for the second, the first and 40 % (neighbours that correlate by 0.4).

    Args:
        losses: At least 3 points, oldest first.
    """
    near = _bent(losses, 1)
    return max(near, _bent(losses, limits.FAR)) if len(losses) >= limits.FAR * limits.FAR else limits.CORRELATED * near


def curved_noise(losses: Sequence[float]) -> float:
    """`bent_noise` of the last 40 points; of a younger curve, whose first points bend most, of its very last ones.

    Args:
        losses: At least 3 points, oldest first.
    """
    if len(losses) >= limits.STRAIGHT:
        return max(bent_noise(losses[-limits.STRAIGHT:]), limits.QUIET)
    return max(min(bent_noise(losses[-limits.STRAIGHT // 2 :]), bent_noise(losses[-limits.BENT_POINTS:])), limits.QUIET)


def _bent(losses: Sequence[float], lag: int) -> float:
    twice = [abs(a - 2.0 * b + c) for a, b, c in zip(losses, losses[lag:], losses[2 * lag :], strict=False)]
    return limits.MAD_TO_SD * median(twice) / limits.SECOND_DIFFERENCE


class Fit(NamedTuple):
    """A resistant line through some points, and how far off they are."""

    level: float
    """At the last point."""
    slope: float
    """Per point."""
    noise: float
    """Standard deviation of one point: from the residuals or from first differences, whichever is larger."""
    jitter: float
    """From first differences alone."""
    wild: float
    """How far off the second farthest point is."""


def fitted(losses: Sequence[float]) -> Fit:
    """The line through the medians of the first and the last third, and the noise around it.

    Args:
        losses: At least `ENOUGH` points, oldest first.
    """
    n = len(losses)
    third = n // limits.THIRDS
    slope = (median(losses[-third:]) - median(losses[:third])) / (n - third)
    flat = [loss - slope * i for i, loss in enumerate(losses)]
    start = median(flat)
    off = sorted([abs(value - start) for value in flat])
    spread = limits.MAD_TO_SD * (off[n // 2] if n % 2 else 0.5 * (off[n // 2 - 1] + off[n // 2]))
    jitter = max(limits.MAD_TO_SD * median([abs(b - a) for a, b in pairwise(flat)]) / math.sqrt(2.0), limits.QUIET)
    return Fit(start + slope * (n - 1), slope, max(spread, jitter), jitter, off[-2])


@dataclass(frozen=True, slots=True)
class _Filling:
    """The block that is being filled."""

    first_step: int
    points: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()


def _blocked(
    blocks: tuple[PointBlock, ...], size: int, filling: _Filling | None,
    step: int, loss: float, rate: float | None, epoch: float | None,
) -> tuple[tuple[PointBlock, ...], int, _Filling | None]:  # fmt: skip
    filling = _Filling(step) if filling is None else filling
    points = (*filling.points, loss)
    if len(points) < limits.BLOCK:
        return blocks, size, _Filling(filling.first_step, points, filling.levels)
    levels = (*filling.levels, median(points))
    if len(levels) * limits.BLOCK < size:
        return blocks, size, _Filling(filling.first_step, (), levels)
    blocks = (*blocks, PointBlock(filling.first_step, step, sum(levels) / len(levels), rate, epoch))
    if len(blocks) == limits.BLOCKS:
        pairs = zip(blocks[::2], blocks[1::2], strict=True)
        blocks = tuple(
            PointBlock(a.first_step, b.last_step, 0.5 * (a.level + b.level), b.rate, b.epoch) for a, b in pairs
        )
        size *= 2
    return blocks, size, None
