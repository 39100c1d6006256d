"""The whole run, or its last part, as a few dozen values."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.core.observation import TrainObservation
from ko_cpt_callbacks.signal.portion import due, last_share, whole
from ko_cpt_callbacks.signal.window import EMPTY, Recent


def _recent(points: int) -> Recent:
    recent = EMPTY
    for i in range(points):
        recent = recent.add(TrainObservation(10 * (i + 1), loss=5.0 - i / points, learning_rate=1e-4 * (i + 1)))
    return recent


@pytest.mark.parametrize("points", [30, 120, 900])
def test_the_last_share(points: int) -> None:
    """It begins where that share of the run begins, in losses and learning rate, and is never long."""
    stretch = last_share(_recent(points), 0.3)
    assert 8 <= len(stretch.values) <= 50
    assert stretch.values[0] == pytest.approx(4.3, abs=0.05)
    assert stretch.rate == pytest.approx(1e-4 * 0.7 * points, rel=0.06)


@pytest.mark.parametrize("points", [30, 120, 900])
def test_the_whole(points: int) -> None:
    """From the first point to the last."""
    values = whole(_recent(points))
    assert 25 <= len(values) <= 64
    assert values[0] == pytest.approx(5.0, abs=0.03)
    assert values[-1] == pytest.approx(4.0, abs=0.06)


def test_due_grows_with_the_run() -> None:
    """Every point of a short run, every hundredth of one of 4,000."""
    assert all(due(_recent(points)) for points in (1, 5, 40))
    dues = 0
    recent = EMPTY
    for i in range(2000):
        recent = recent.add(TrainObservation(i, loss=2.0))
        dues += due(recent)
    assert dues < 250
