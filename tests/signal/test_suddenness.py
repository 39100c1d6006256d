"""At once or along a curve: trends across a place, steps and ramps."""

from __future__ import annotations

import pytest
from core.curve import noisy

from ko_cpt_callbacks.signal.suddenness import at_once, is_ramp, slope_of, trend


def test_slope() -> None:
    """Per point, and not seeing one outlier."""
    line = [3.0 - 0.02 * i for i in range(12)]
    assert slope_of(tuple(line)) == pytest.approx(-0.02)
    assert slope_of((*line[:5], 9.0, *line[6:])) == pytest.approx(-0.02)


@pytest.mark.parametrize(
    ("short", "long", "after", "expected"),
    [(0.02, 0.02, 0.0, 0.02), (0.01, 0.03, 0.0, 0.02), (0.03, 0.01, 0.0, 0.03), (-0.02, -0.03, -0.01, -0.01),
     (-0.02, -0.03, -0.05, -0.02), (-0.02, -0.02, 0.04, 0.0)],
)  # fmt: skip
def test_trend(short: float, long: float, after: float, expected: float) -> None:
    """Towards the shift the steepest counts, away from it the flattest."""
    assert trend(short, long, after) == pytest.approx(expected)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_step_is_at_once(sign: float) -> None:
    """All of it, also on a curve that falls on both sides; none of it along a slope."""
    noise = noisy(40, 0.005)
    step = [2.5 - 0.01 * i + (0.3 * sign if i >= 20 else 0.0) + e for i, e in enumerate(noise)]
    assert at_once(tuple(step[:20]), tuple(step[20:29]), sign) == pytest.approx(0.3, abs=0.06)
    slope = [2.5 + 0.03 * sign * i + e for i, e in enumerate(noise)]
    assert abs(at_once(tuple(slope[:20]), tuple(slope[20:29]), sign)) < 0.06


def test_ramps_and_steps() -> None:
    """Five points between the levels are a ramp; none, or one, a step, also one point beside its place."""
    noise = noisy(11, 0.01)
    for width, ramp in ((1, False), (2, False), (5, True), (7, True)):
        points = [min(max((i - 5 + width / 2) / width, 0.0), 1.0) + e for i, e in enumerate(noise)]
        assert is_ramp(tuple(points)) is ramp
    for place in (4, 5, 6, 7):
        assert not is_ramp(tuple((1.0 if i >= place else 0.0) + e for i, e in enumerate(noise)))
