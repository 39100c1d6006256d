"""What happens to the training loss where an epoch ends."""

from __future__ import annotations

import math

import pytest

from ko_cpt_callbacks.core.observation import TrainObservation
from ko_cpt_callbacks.signal.epoch_end import Step, begun, near_end, step_at
from ko_cpt_callbacks.signal.window import EMPTY


@pytest.mark.parametrize(
    ("epoch", "done"), [(0.0, 0), (0.5, 0), (1.0, 0), (1.0001, 1), (1.01, 1), (1.5, 1), (2.0, 1), (2.5, 2)]
)
def test_begun(epoch: float, done: int) -> None:
    """The row at 1.0 is the last of the first epoch."""
    assert begun(epoch) == done


def _step(
    drop: float, slope: float = 0.0, *, each: int = 10, after: int = 8, rates: tuple[float, float] | None = None
) -> Step | None:
    recent = EMPTY
    for i in range(1, each + after + 1):
        loss = 2.5 + slope * i - (drop if i > each else 0.0) + 0.004 * math.sin(7.0 * i)
        rate = None if rates is None else rates[i > each]
        recent = recent.add(TrainObservation(10 * i, i / each, loss, learning_rate=rate))
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


def test_a_learning_rate_that_fell_with_it() -> None:
    """By more than a tenth, where it had not been falling."""
    for rates, fell in (((1e-4, 1e-4), False), ((1e-4, 5e-5), True)):
        step = _step(0.3, rates=rates)
        assert step is not None
        assert step.rate_fell is fell


@pytest.mark.parametrize(
    ("epochs", "ends"),
    [
        ([0.95, 0.975, 1.0, 1.025, 1.05], [3]),
        ([0.96123, 0.99123, 1.02123, 1.05123], [2]),
        ([0.99, 0.99, 1.0, 1.0, 1.01, 1.01], [2, 3, 4]),
        ([0.2, 0.21, 0.22], []),
        ([0.0, 0.0, 0.01, 0.01], []),
        ([1.98, 1.99, 2.0, 2.01], [2, 3]),
    ],
)
def test_where_an_epoch_may_begin(epochs: list[float], ends: list[int]) -> None:
    """At the first row beyond a whole number; where epochs are rounded, at any row that may be that."""
    window = EMPTY
    for i, epoch in enumerate(epochs, start=1):
        window = window.add(TrainObservation(10 * i, epoch, 2.0))
    assert [i for i in range(len(epochs)) if near_end(window, i)] == ends
    assert near_end(window, -1) == (len(epochs) - 1 in ends)


def test_without_epochs_no_end_is_near() -> None:
    """Old headers and other writers."""
    assert not near_end(EMPTY.add(TrainObservation(10, None, 2.0)).add(TrainObservation(20, 1.0, 2.0)), -1)
