"""How long a run is to be: as it was told, or as its learning rate tells."""

from __future__ import annotations

from ko_cpt_callbacks.signal.window import Recent

__all__ = ["expected_steps"]


def expected_steps(recent: Recent) -> int | None:
    """The last step, as told, or else where the learning rate will reach 0 if it goes on falling as it does.

    A cosine's tangent meets 0 later than the cosine does, so that the beginning of a run is at worst taken for longer.

    Returns:
        ``None`` where nobody told, and the learning rate is not falling.
    """
    if recent.planned_steps is not None:
        return recent.planned_steps
    points = [(step, rate) for step, rate in zip(recent.steps, recent.rates, strict=True) if rate is not None][-2:]
    if len(points) < 2 or not 0.0 < points[1][1] < points[0][1]:
        return None
    (before, high), (step, low) = points
    return round(step + low * (step - before) / (high - low))
