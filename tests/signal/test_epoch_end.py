"""What happens to the training loss where an epoch ends."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from ko_cpt_callbacks.rules.curve.memorizing import EpochStep, step_at
from ko_cpt_callbacks.run.observation import TrainObservation
from ko_cpt_callbacks.signal.signals import begun
from ko_cpt_callbacks.signal.window import EMPTY, Recent


@pytest.mark.parametrize(
    ("epoch", "done"), [(0.0, 0), (0.5, 0), (1.0, 0), (1.0001, 1), (1.01, 1), (1.5, 1), (2.0, 1), (2.5, 2)]
)
def test_begun(epoch: float, done: int) -> None:
    """The row at 1.0 is the last of the first epoch."""
    assert begun(epoch) == done


def _step(drop: float, slope: float = 0.0, *, each: int = 10, after: int = 8) -> EpochStep | None:
    recent = EMPTY
    for i in range(1, each + after + 1):
        loss = 2.5 + slope * i - (drop if i > each else 0.0) + 0.004 * math.sin(7.0 * i)
        recent = recent.add(TrainObservation(10 * i, i / each, loss))
    return step_at(recent, 1, 8)


@pytest.mark.parametrize("slope", [0.0, -0.02, 0.01])
def test_the_drop_is_beyond_the_trend(slope: float) -> None:
    """A fall or a rise on both sides is no part of it."""
    step = _step(0.3, slope)
    assert step is not None
    assert step.drop == pytest.approx(0.3, abs=0.02)
    assert step.error < 0.02
    flat = _step(0.0, slope)
    assert flat is not None
    assert abs(flat.drop) < 3 * flat.error


def test_too_few_points() -> None:
    """Three on each side it takes."""
    assert _step(0.3, after=2) is None
    assert _step(0.3, after=3) is not None


@pytest.mark.parametrize(
    ("epoch", "done"), [(1.0000007, 0), (1.0000015, 1), (1.004, 1), (1.994, 1), (1.9999995, 1), (2.0000005, 1)]
)
def test_a_row_at_the_end_is_of_the_epoch_that_ends(epoch: float, done: int) -> None:
    """Within a millionth of an epoch, where epochs are not rounded."""
    assert begun(epoch) == done


def _window(epochs: Sequence[float], losses: Sequence[float]) -> Recent:
    window = EMPTY
    for i, (epoch, loss) in enumerate(zip(epochs, losses, strict=True)):
        window = window.add(TrainObservation(10 * (i + 1), epoch, loss))
    return window


def test_a_row_of_both_epochs_does_not_count() -> None:
    """Logged across the end, with half of the drop: left out where enough follow it, else taken for what there is."""
    epochs = [0.0501 + 0.1 * i for i in range(20)]
    losses = [2.0] * 10 + [1.8] + [1.6] * 9
    for rows, drop in ((14, 0.4), (13, 0.55 / 3)):
        step = step_at(_window(epochs[:rows], losses[:rows]), 1, 8)
        assert step is not None
        assert (step.drop, step.after) == (pytest.approx(drop), 1.6)
    aligned = step_at(_window([0.1 * (i + 1) for i in range(14)], [2.0] * 10 + [1.8, *[1.6] * 3]), 1, 8)
    assert aligned is not None
    assert aligned.drop < 0.35
