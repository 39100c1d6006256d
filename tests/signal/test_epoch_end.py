"""What happens to the training loss where an epoch ends."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from ko_cpt_callbacks.rules.curve.memorizing import EpochStep, begun, step_at
from ko_cpt_callbacks.run.observation import TrainObservation
from ko_cpt_callbacks.signal.window import EMPTY, Recent


@pytest.mark.parametrize(
    ("epoch", "done"), [(0.0, 0), (0.5, 0), (1.0, 0), (1.0001, 1), (1.01, 1), (1.5, 1), (2.0, 1), (2.5, 2)]
)
def test_begun(epoch: float, done: int) -> None:
    """The row at 1.0 is the last of the first epoch."""
    assert begun(epoch) == done


def _step(
    drop: float, slope: float = 0.0, *, each: int = 10, after: int = 8, rates: tuple[float, float] | None = None
) -> EpochStep | None:
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
    ("epoch", "done"), [(1.0000007, 0), (1.0000015, 1), (1.004, 1), (1.994, 1), (1.9999995, 1), (2.0000005, 1)]
)
def test_a_row_at_the_end_is_of_the_epoch_that_ends(epoch: float, done: int) -> None:
    """Within a millionth of an epoch, where epochs are not rounded."""
    assert begun(epoch) == done


def _window(epochs: Sequence[float], losses: Sequence[float], rates: Sequence[float | None] | None = None) -> Recent:
    window = EMPTY
    for i, (epoch, loss) in enumerate(zip(epochs, losses, strict=True)):
        rate = None if rates is None else rates[i]
        window = window.add(TrainObservation(10 * (i + 1), epoch, loss, learning_rate=rate))
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


def test_a_rounded_end_is_no_row_of_both() -> None:
    """A last epoch of 0.99 may be the end itself, one of 0.98 may not."""
    losses = [2.0] * 6 + [1.7, 1.6, 1.5, 1.4]
    for last, after in ((0.99, 1.55), (0.98, 1.5)):
        step = step_at(_window([0.5, 0.6, 0.7, 0.8, 0.9, last, 1.03, 1.1, 1.2, 1.3], losses), 1, 8)
        assert step is not None
        assert step.after == pytest.approx(after)


@pytest.mark.parametrize(
    ("rates", "fell"),
    [
        ((1.0, 1.0, 0.92), False), ((1.0, 1.0, 0.88), True),
        ((1.1, 1.0, 0.71), False), ((1.1, 1.0, 0.69), True),
        ((0.9, 1.0, 0.88), True), ((None, 1.0, 0.5), False), ((1.0, None, 0.5), False), ((1.0, 1.0, None), False),
    ],
)  # fmt: skip
def test_how_far_a_rate_must_fall(rates: tuple[float | None, ...], fell: bool) -> None:
    """By a tenth, beside twice what it fell by just before; a rate that is not known has not fallen."""
    before, last, first = rates
    window = _window(
        [0.2 * i for i in range(1, 11)], [2.0] * 5 + [1.8] * 5, [None, None, None, before, last, *[first] * 5]
    )
    step = step_at(window, 1, 8)
    assert step is not None
    assert step.rate_fell is fell
