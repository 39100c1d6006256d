"""Whether the loss went from one level to another at once, or along a curve."""

from __future__ import annotations

from typing import Final

from ko_cpt_callbacks.signal.window import median

__all__ = ["at_once", "is_ramp", "slope_of", "trend"]

_RAMP: Final = (0.0, 0.0, 0.0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0, 1.0, 1.0)
_NEARER: Final = 0.8  # share of the step's squares below which it is a ramp. Chosen, not measured.


def slope_of(points: tuple[float, ...]) -> float:
    """Nats per point, between the medians of the first and the last third of at least three points."""
    third = len(points) // 3
    return (median(points[-third:]) - median(points[:third])) / (len(points) - third)


def trend(short: float, long: float, after: float) -> float:
    """The slope that goes on across a place, in the direction of a shift there.

    Args:
        short: Of the last points before, above 0 where it points the way the shift goes.
        long: Of more of them.
        after: Of the points after.

    Returns:
        Below 0, and then no steeper than any, where all three point away from it.
    """
    before = max(short, 0.5 * (short + long))
    return before if before > 0 else max(before, min(after, 0.0))


def at_once(before: tuple[float, ...], after: tuple[float, ...], sign: float) -> float:
    """How much of the way from the last points before to the first after no trend explains, neither side's.

    Args:
        before: At least ten points, oldest first.
        after: At least six.
        sign: 1 for a shift up, -1 for one down.

    Returns:
        Nats, above 0 in the direction of ``sign``.
    """
    old, new = median(before[-3:]), median(after[:3])
    earlier = (old - median(before[-8:-5])) / 5.0
    later = (median(after[-3:]) - new) / (len(after) - 3)
    steep = sign * (new - old) - 4.0 * max(sign * earlier, sign * later)
    return min(steep, sign * (_end(after[::-1]) - _end(before[-10:])))


def is_ramp(points: tuple[float, ...]) -> bool:
    """Whether eleven points, of which the sixth is between the levels, are nearer to a ramp of five than to a step."""
    step = min(_off(points[:i]) + _off(points[j:]) for i, j in ((5, 6), (4, 5), (6, 7)))
    mean, middle = sum(points) / 11, sum(_RAMP) / 11
    both = sum((w - middle) * (point - mean) for w, point in zip(_RAMP, points, strict=True))
    flat = _off(points)
    return flat - both * both / sum((w - middle) ** 2 for w in _RAMP) < _NEARER * step


def _off(points: tuple[float, ...]) -> float:
    mean = sum(points) / len(points)
    # A product, not a power: it is infinite where a power of so large a number raises.
    return sum((point - mean) * (point - mean) for point in points)


def _end(points: tuple[float, ...]) -> float:
    """A least-squares line, one point beyond its last."""
    n = len(points)
    middle, mean = 0.5 * (n - 1), sum(points) / n
    slope = sum((i - middle) * point for i, point in enumerate(points)) * 12.0 / (n * (n * n - 1))
    return mean + slope * (n - middle)
