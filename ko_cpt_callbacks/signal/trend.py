"""The whole run so far: how far its loss falls over a part of it, and how long it is to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.window import Recent

__all__ = ["LEVEL", "Trend", "expected_steps", "last_part"]


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
