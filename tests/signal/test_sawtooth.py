"""Teeth of a saw: a jump that comes after its like, or that only undoes a drift, of the loss or of the lengths."""

from __future__ import annotations

import math

import pytest
from core.curve import noisy, rows

from ko_cpt_callbacks.signal.excursion import Jump
from ko_cpt_callbacks.signal.sawtooth import another, lengths_jumped, undone
from ko_cpt_callbacks.signal.window import EMPTY, Recent


def _window(losses: list[float]) -> Recent:
    now = EMPTY
    for one in rows(losses):
        now = now.add(one)
    return now


def test_the_next_of_its_kind() -> None:
    """After a jump like it, if the loss has drifted back since, or the distance is what it was."""
    jumps = [Jump(20, 0.3, 2.8)]
    assert another(jumps, 50, 0.3, 2.5)
    assert not another(jumps, 50, 0.3, 2.79)
    assert another(jumps, 40, 0.3, 2.79)  # as far from the first as that from the start
    assert another([Jump(20, 0.3, 2.8), Jump(45, 0.28, 2.8)], 71, 0.3, 2.79)


@pytest.mark.parametrize("jump", [Jump(20, -0.3, 2.5), Jump(20, 0.05, 2.8), Jump(20, 2.0, 2.8), Jump(49, 0.3, 2.8)])
def test_another_kind(jump: Jump) -> None:
    """The other way, of another size, or the jump itself."""
    assert not another([jump], 50, 0.3, 2.5)


def test_none_before() -> None:
    """The first jump is no next one."""
    assert not another([], 50, 0.3, 2.5)


def test_undoes_the_drift_since_the_last_tooth() -> None:
    """Down by 0.3 over 25 points, then up by 0.3, to where it was: 0, at once."""
    losses = [2.5 - 0.3 * (i % 25) / 25 + e for i, e in enumerate(noisy(80, 0.005))]
    assert undone(_window(losses), tuple(losses[:50][-40:]), 2.5, 0.3) == 0


def test_a_level_that_was_never_there() -> None:
    """Up from a flat run: None."""
    losses = [2.5 + e for e in noisy(60, 0.005)]
    assert undone(_window(losses), tuple(losses), 2.8, 0.3) is None


def test_a_learning_curve_passed_the_level() -> None:
    """It fell through the level long ago, most of it at first: None. An even fall from the start may be a first tooth:
    how many points ago it began."""
    curve = [2.5 + 1.0 * math.exp(-i / 10) + e for i, e in enumerate(noisy(45, 0.005))]
    assert undone(_window(curve), tuple(curve), 2.8, 0.3) is None
    even = [2.8 - 0.3 * i / 30 + e for i, e in enumerate(noisy(30, 0.005))]
    assert undone(_window(even), tuple(even), 2.8, 0.3) == pytest.approx(28, abs=2)


def test_lengths() -> None:
    """Tokens per step that drifted and are back are rows of other lengths; that vary, or change for good, are not."""
    drift = [2000 * math.exp(-(i % 50) / 30) for i in range(25, 56)]
    assert lengths_jumped(tuple(drift), 6)
    assert not lengths_jumped(tuple(2000.0 + e for e in noisy(31, 40)), 6)
    assert not lengths_jumped((*[2000.0] * 25, *[4000.0] * 6), 6)
    assert not lengths_jumped((*drift[:10], None, None, *drift[12:]), 6)
    assert not lengths_jumped((None,) * 31, 6)
