"""What explains that the loss left its level: an epoch's end, the learning rate, teeth of rows grouped by length."""

from __future__ import annotations

import math

import pytest
from core.curve import noisy, rows

from ko_cpt_callbacks.signal.excursion import Jump
from ko_cpt_callbacks.signal.explanation import (
    another_tooth,
    epoch_ends,
    interval_changes,
    lengths_jumped,
    paces_differ,
    rate_falls,
    rate_rises,
    teeth,
    undone,
)
from ko_cpt_callbacks.signal.window import EMPTY, Recent


def _window(losses: list[float]) -> Recent:
    now = EMPTY
    for one in rows(losses):
        now = now.add(one)
    return now


def _epochs(*epochs: float) -> Recent:
    return Recent(losses=(*[2.5] * (len(epochs) - 6), *[2.0] * 6), epochs=epochs)


def test_where_an_epoch_ends() -> None:
    """Between two rows, also where the row at the end is the epoch's last; rounded rows that read the end itself."""
    assert epoch_ends(_epochs(0.96, 0.97, 0.98, 0.99, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06), 6)
    assert epoch_ends(_epochs(0.96, 0.97, 0.98, 1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06), 6)
    assert epoch_ends(_epochs(0.99, 0.99, 1.0, 1.0, 1.0, 1.0, 1.01, 1.01, 1.01, 1.01), 6)
    assert not epoch_ends(_epochs(0.5, 0.51, 0.52, 0.53, 0.54, 0.55, 0.56, 0.57, 0.58, 0.59), 6)
    assert not epoch_ends(_epochs(0.96, 0.99, 1.01, 1.03, 1.05, 1.07, 1.09, 1.11, 1.13, 1.15, 1.17, 1.19), 6)


def test_the_learning_rate() -> None:
    """Rises from row to row, or falls at once; a schedule that comes down evenly is neither."""
    even = [1e-4 * (1 - i / 60) for i in range(40)]
    rising = [1e-4 * i / 40 for i in range(1, 41)]
    fallen = [1e-4 if i < 34 else 5e-5 for i in range(40)]
    for rates, rises, falls in ((even, False, False), (rising, True, False), (fallen, False, True)):
        window = Recent(rates=tuple(rates), rate_peak=max(rates))
        assert (rate_rises(window, 6), rate_falls(window, 6)) == (rises, falls)
    assert not rate_falls(Recent(rates=tuple(fallen[:-20] + fallen[-20:] + [5e-5] * 20), rate_peak=1e-4), 6)
    unknown = Recent(rates=(*rising[:-1], None), rate_peak=1e-4)
    assert not rate_rises(unknown, 6)


def test_the_next_of_its_kind() -> None:
    """After a jump like it, if the loss has drifted back since, or the distance is what it was."""
    jumps = [Jump(20, 0.3, 2.8)]
    assert another_tooth(jumps, 50, 0.3, 2.5)
    assert not another_tooth(jumps, 50, 0.3, 2.79)
    assert another_tooth(jumps, 40, 0.3, 2.79)  # as far from the first as that from the start
    assert another_tooth([Jump(20, 0.3, 2.8), Jump(45, 0.28, 2.8)], 71, 0.3, 2.79)


@pytest.mark.parametrize("jump", [Jump(20, -0.3, 2.5), Jump(20, 0.05, 2.8), Jump(20, 2.0, 2.8), Jump(49, 0.3, 2.8)])
def test_another_kind(jump: Jump) -> None:
    """The other way, of another size, or the jump itself."""
    assert not another_tooth([jump], 50, 0.3, 2.5)


def test_none_before() -> None:
    """The first jump is no next one."""
    assert not another_tooth([], 50, 0.3, 2.5)


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


def test_paces() -> None:
    """Rows of a third more tokens per step than before, or fewer, are of another length; a tenth is not."""
    usual = [2000.0 + e for e in noisy(20, 40)]
    for now, differ in ((2700.0, True), (1500.0, True), (2200.0, False), (1800.0, False)):
        assert paces_differ((*usual, *[now] * 6), 6) is differ
    assert not paces_differ((*[None] * 20, *[2700.0] * 6), 6)
    assert not paces_differ((*usual, *[None] * 6), 6)


def test_intervals() -> None:
    """Rows of twice as many steps as before or more, or half as many, are other means."""
    for every, changes in ((5, True), (20, True), (50, True), (10, False), (11, False)):
        steps = [10 * i for i in range(1, 11)]
        window = Recent(steps=(*steps, *(100 + every * i for i in range(1, 7))))
        assert interval_changes(window, 6) is changes


def test_teeth() -> None:
    """Jumps of most of the height, twice, in one direction: a saw. Both ways it swings; once may be anything."""
    up, down = Jump(20, 0.8, 2.8), Jump(45, -0.8, 2.0)
    assert teeth([up, up], 1.0)
    assert teeth([down, down, down], 1.0)
    assert not teeth([up], 1.0)
    assert not teeth([up, down], 1.0)
    assert not teeth([up, up], 2.0)
