"""The recent training points of a run, what is normal among them, and the whole segment in little.

Everything in it begins anew with a segment, at a seam (`ko_cpt_callbacks.signal.restart`). A rule that compares across
steps therefore keeps ``segment`` beside its own numbers and drops them when it changes. An announced resume (a ``plan``
row) whose learning rate and epoch go on is no seam. Where only the learning rate jumped up (a scheduler with restarts
does so) the points alone start afresh, not the segment and its count. Names in capitals are of
`ko_cpt_callbacks.signal.limits`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ko_cpt_callbacks.run.fold import PLAN, PLANNED_STEPS
from ko_cpt_callbacks.run.observation import (
    Observation,
    SetupObservation,
    TrainObservation,
    count_from_one,
    finite_number,
)
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.fit import fitted
from ko_cpt_callbacks.signal.restart import NEW, Counters, Sign, announced, begins_anew, follow

__all__ = ["EMPTY", "LEVEL", "Recent", "Trend", "expected_steps", "last_part", "usable"]


@dataclass(frozen=True, slots=True)
class Recent:
    """The window after a row."""

    step: int | None = None
    """Step of the last training row, also of one whose loss was not finite."""
    losses: tuple[float, ...] = ()
    """The last `WINDOW` finite training losses, oldest first: no NaN or infinite one, and no NaN that was logged as
    exactly 0. Beside each its step, learning rate, epoch and tokens per step; ``None`` where the log has none."""
    steps: tuple[int, ...] = ()
    rates: tuple[float | None, ...] = ()
    epochs: tuple[float | None, ...] = ()
    paces: tuple[float | None, ...] = ()
    line: tuple[float, float] | None = None
    """Level at the last point and slope per point of the line through the last `LINE` points; ``None`` with fewer than
    `ENOUGH`, as are the next two."""
    noise: float | None = None
    """Standard deviation of one point, nats; never below `QUIET`."""
    jitter: float | None = None
    """The noise from first differences alone."""
    count: int = 0
    """Finite training losses of this segment."""
    segment: int = 0
    """How many times the run began anew."""
    rate_peak: float = 0.0
    """The highest learning rate of the segment."""
    planned_steps: int | None = None
    """Of the last ``plan`` row."""
    signs: tuple[Sign, ...] = ()
    """What speaks for a seam at this row."""
    seam: bool = False
    """This row begins a segment."""
    trail: Counters = NEW
    grew: bool = False
    """The last row brought a point: one whose loss is not finite brings none, also where it is a seam."""

    def add(self, seen: Observation) -> Recent:
        """The window after an observation; itself where that is neither a training row nor an announcement."""
        if isinstance(seen, TrainObservation):
            return self._train(seen)
        return self._setup(seen) if isinstance(seen, SetupObservation) else self

    def _setup(self, seen: SetupObservation) -> Recent:
        trail = announced(self.trail, seen)
        planned = count_from_one(seen.values.get(PLANNED_STEPS)) if seen.kind == PLAN else None
        planned = planned or self.planned_steps
        if trail == self.trail and planned == self.planned_steps:
            return self
        return replace(self, trail=trail, planned_steps=planned)

    def _train(self, seen: TrainObservation) -> Recent:
        trail, signs = follow(self.trail, seen)
        seam, kept = begins_anew(signs), self
        if seam or any(sign.name.startswith("rate") for sign in signs):
            kept = Recent(count=0 if seam else self.count, rate_peak=0.0 if seam else self.rate_peak)
        rate, line, noise, jitter = finite_number(seen.learning_rate), kept.line, kept.noise, kept.jitter
        losses, steps, rates, epochs, paces = kept.losses, kept.steps, kept.rates, kept.epochs, kept.paces
        loss = seen.loss if usable(seen) else None
        if loss is not None:
            losses = (*losses, loss)[-limits.WINDOW:]
            steps = (*steps, seen.step)[-limits.WINDOW:]
            rates = (*rates, rate)[-limits.WINDOW:]
            epochs = (*epochs, finite_number(seen.epoch))[-limits.WINDOW:]
            paces = (*paces, trail.pace)[-limits.WINDOW:]
            if len(losses) >= limits.ENOUGH:
                level, slope, noise, jitter = fitted(losses[-limits.LINE:])
                line = level, slope
        return Recent(
            seen.step, losses, steps, rates, epochs, paces, line, noise, jitter, kept.count + (loss is not None),
            self.segment + seam, max(kept.rate_peak, rate or 0.0), self.planned_steps, signs, seam, trail,
            loss is not None,
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


@dataclass(frozen=True, slots=True)
class Trend:
    """The segment so far, in little.

    Args:
        head: Its first points, nats per token.
        peaked: Points of it when the learning rate was last higher than ever.
        blocks: All of it in at most 64 parts of equally many points, oldest first: the mean loss of each, and the
            learning rate at its end. Each holds twice as many points once there are 64.
        size: Points of a block.
        rest: Sum and number of the points that are not in a block yet.
    """

    head: tuple[float, ...] = ()
    peaked: int = 0
    blocks: tuple[tuple[float, float | None], ...] = ()
    size: int = limits.BLOCK
    rest: tuple[float, int] = (0.0, 0)

    def add(self, window: Recent, past: Recent) -> Trend:
        """The trend after a training row."""
        before = LEVEL if window.seam else self
        peaked = window.count if window.rate_peak > past.rate_peak or window.seam else before.peaked
        if not window.grew:
            return replace(before, peaked=peaked)
        head = (*before.head, window.losses[-1]) if window.count <= limits.TREND_HEAD else before.head
        blocks, size, rest = before.blocks, before.size, (before.rest[0] + window.losses[-1], before.rest[1] + 1)
        if rest[1] == size:
            blocks, rest = (*blocks, (rest[0] / size, window.rates[-1])), (0.0, 0)
        if len(blocks) == limits.BLOCKS:
            blocks = tuple((0.5 * (a + b), rate) for (a, _), (b, rate) in zip(blocks[::2], blocks[1::2], strict=True))
            size *= 2
        return Trend(head, peaked, blocks, size, rest)


LEVEL: Final = Trend()
"""Before the first row."""


def last_part(
    window: Recent, blocks: Sequence[tuple[float, float | None]], share: float
) -> tuple[Sequence[float], float | None]:
    """The last ``share`` of the segment, as points where the window reaches that far back, else as blocks of it.

    Returns:
        Losses, oldest first, and the learning rate at their beginning.
    """
    points, levels = round(share * window.count), [*zip(window.losses, window.rates, strict=True)]
    if points > len(levels):
        points, levels = round(share * len(blocks)), [*blocks]
    part = levels[len(levels) - points :]
    return [loss for loss, _ in part], part[0][1] if part else None


def expected_steps(window: Recent) -> int | None:
    """The last step, as planned, or else where the learning rate will reach 0 if it goes on falling as it does.

    A cosine's tangent meets 0 later than the cosine does, so that the beginning of a run is at worst taken for longer.

    Returns:
        ``None`` where nothing tells, and the learning rate is not falling.
    """
    if window.planned_steps is not None:
        return window.planned_steps
    points = [(step, rate) for step, rate in zip(window.steps, window.rates, strict=True) if rate is not None][-2:]
    if len(points) < 2 or not 0.0 < points[1][1] < points[0][1]:
        return None
    (before, high), (step, low) = points
    return round(step + low * (step - before) / (high - low))
