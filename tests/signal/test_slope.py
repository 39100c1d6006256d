"""The line through a noisy series: how far it falls, and how sure that is."""

from __future__ import annotations

import random

import pytest

from ko_cpt_callbacks.signal.slope import fall_of


def _series(seed: int, fall: float, *, noise: float = 0.02, linked: float = 0.0, n: int = 60) -> list[float]:
    rng = random.Random(seed)
    last, found = 0.0, []
    for i in range(n):
        last = linked * last + (1 - linked**2) ** 0.5 * rng.gauss(0.0, noise)
        found.append(2.5 - fall * i / (n - 1) + last)
    return found


def test_a_straight_line() -> None:
    """Its fall, its start, and no less noise than there can be."""
    found = fall_of([3.0 - 0.1 * i for i in range(11)])
    assert found is not None
    assert (found.fall, found.start, found.points) == (pytest.approx(1.0), pytest.approx(3.0), 11)
    assert found.noise == pytest.approx(0.002)


def test_too_few() -> None:
    """Five points are no line."""
    assert fall_of([1.0] * 5) is None


@pytest.mark.parametrize("linked", [0.0, 0.5])
def test_the_error_is_the_error(linked: float) -> None:
    """Falls of 200 made series scatter by about the error that each of them names."""
    falls = [fall_of(_series(seed, 0.1, linked=linked)) for seed in range(200)]
    off = [(one.fall - 0.1) / one.error for one in falls if one is not None]
    assert 0.7 < (sum(x * x for x in off) / len(off)) ** 0.5 < 1.35


def test_outliers_are_pulled_in() -> None:
    """Three points far off hardly move it."""
    values = _series(1, 0.1)
    for i in (3, 30, 57):
        values[i] += 2.0
    clean, found = fall_of(_series(1, 0.1)), fall_of(values)
    assert clean is not None
    assert found is not None
    assert found.fall == pytest.approx(clean.fall, abs=0.03)
