"""The whole run, or its last part, as a few dozen values; the line through them, and how sure its fall is."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from ko_cpt_callbacks.run.observation import SetupObservation, TrainObservation
from ko_cpt_callbacks.signal.signals import SILENT, Signals, Trend, due
from ko_cpt_callbacks.signal.trend import expected_steps, last_part, line_through
from ko_cpt_callbacks.signal.window import EMPTY


def _series(seed: int, fall: float, *, noise: float = 0.02, linked: float = 0.0, n: int = 60) -> list[float]:
    rng = random.Random(seed)
    last, found = 0.0, []
    for i in range(n):
        last = linked * last + (1 - linked**2) ** 0.5 * rng.gauss(0.0, noise)
        found.append(2.5 - fall * i / (n - 1) + last)
    return found


def test_a_straight_line() -> None:
    """Its fall, its start, and no less noise than there can be."""
    found = line_through([3.0 - 0.1 * i for i in range(11)])
    assert found is not None
    assert (found.fall, found.start, found.points) == (pytest.approx(1.0), pytest.approx(3.0), 11)
    assert found.noise == pytest.approx(0.002)


def test_too_few() -> None:
    """Five points are no line."""
    assert line_through([1.0] * 5) is None


@pytest.mark.parametrize("linked", [0.0, 0.5])
def test_the_error_is_the_error(linked: float) -> None:
    """Falls of 200 made series scatter by about the error that each of them names."""
    falls = [line_through(_series(seed, 0.1, linked=linked)) for seed in range(200)]
    off = [(one.fall - 0.1) / one.error for one in falls if one is not None]
    assert 0.7 < (sum(x * x for x in off) / len(off)) ** 0.5 < 1.35


def test_outliers_are_pulled_in() -> None:
    """Three points far off hardly move it."""
    values = _series(1, 0.1)
    for i in (3, 30, 57):
        values[i] += 2.0
    clean, found = line_through(_series(1, 0.1)), line_through(values)
    assert clean is not None
    assert found is not None
    assert found.fall == pytest.approx(clean.fall, abs=0.03)


@pytest.mark.parametrize("slope", [-0.01, 0.0, 0.02])
def test_a_broken_line(slope: float) -> None:
    """What it drops by in the middle is told from what it falls by on the way, and its error is the error."""
    drops = [
        line_through([slope * i - (0.3 if i >= 10 else 0.0) + off for i, off in enumerate(_series(seed, 0.0, n=20))],
                     broken=True)
        for seed in range(200)
    ]  # fmt: skip
    off = [(one.drop - 0.3) / one.drop_error for one in drops if one is not None]
    assert abs(sum(off)) / len(off) < 0.25
    assert 0.7 < (sum(x * x for x in off) / len(off)) ** 0.5 < 1.4


def _rising(points: int) -> Signals:
    """A learning rate that rises, and a loss that falls from 5 to 4."""
    return _signals([1e-4 * (i + 1) for i in range(points)], [5.0 - i / points for i in range(points)])


@pytest.mark.parametrize("points", [30, 120, 900])
def test_the_last_part(points: int) -> None:
    """It begins where that share of the run begins, in losses and learning rate, and is never long."""
    signals = _rising(points)
    values, rate = last_part(signals.window, signals.trend.blocks, 0.3)
    assert 8 <= len(values) <= 50
    assert values[0] == pytest.approx(4.3, abs=0.05)
    assert rate == pytest.approx(1e-4 * 0.7 * points, rel=0.06)


@pytest.mark.parametrize("points", [30, 120, 900])
def test_the_whole(points: int) -> None:
    """From the first point to the last."""
    signals = _rising(points)
    values, _ = last_part(signals.window, signals.trend.blocks, 1.0)
    assert 25 <= len(values) <= 64
    assert values[0] == pytest.approx(5.0, abs=0.03)
    assert values[-1] == pytest.approx(4.0, abs=0.06)


def test_due_grows_with_the_run() -> None:
    """Every point of a short run, every hundredth of one of 4,000."""
    assert all(due(replace(EMPTY, count=points)) for points in (1, 5, 40))
    assert sum(due(replace(EMPTY, count=points)) for points in range(1, 2001)) < 250


def _signals(rates: list[float | None], losses: list[float] | None = None) -> Signals:
    signals = SILENT
    for i, rate in enumerate(rates):
        loss = 2.0 - 0.01 * i if losses is None else losses[i]
        signals = signals.add(TrainObservation(10 * (i + 1), loss=loss, learning_rate=rate))
    return signals


def test_the_start_is_kept() -> None:
    """The first five losses, and at which point the learning rate was last at a peak; a flat rate peaks once."""
    signals = _signals([1.0, 2.0, 3.0, 3.0, 2.0, 1.0, 1.0])
    assert (signals.trend.head, signals.trend.peaked) == ((2.0, 1.99, 1.98, 1.97, 1.96), 3)
    assert _signals([1.0] * 7).trend.peaked == 1
    assert signals.total == pytest.approx(2.0 * 7 - 0.21)


def test_a_seam_starts_anew() -> None:
    """The start, the peak and the sum of losses are those of the new segment; so they are where it has no point yet."""
    rows = [1.0] * 8
    signals = _signals(rows).add(TrainObservation(10, loss=5.0, learning_rate=0.5))
    assert (signals.trend, signals.total) == (Trend((5.0,), 1, rest=(5.0, 1)), 5.0)
    signals = _signals(rows).add(TrainObservation(10, loss=float("nan"), learning_rate=0.5))
    assert (signals.trend, signals.total) == (Trend(), 0.0)


@pytest.mark.parametrize("points", [300, 1000])
def test_blocks_remember_the_whole_segment(points: int) -> None:
    """In 32 to 63 blocks of equally many points, in order, each with their mean and the learning rate at its end."""
    trend = _rising(points).trend
    assert 32 <= len(trend.blocks) < 64
    for i, (level, rate) in enumerate(trend.blocks):
        assert level == pytest.approx(5.0 - (trend.size * (i + 0.5) - 0.5) / points)
        assert rate == pytest.approx(1e-4 * trend.size * (i + 1))
    rest = points - trend.size * len(trend.blocks)
    assert (trend.rest[1], 0 <= rest < trend.size) == (rest, True)


def test_the_first_blocks() -> None:
    """Of four points each."""
    losses = [3.0, 9.0, 2.0, 2.5, 1.0, 1.2, 1.4, 0.1]
    for points, levels in ((3, []), (7, [4.125]), (8, [4.125, 0.925])):
        found = [level for level, _ in _signals([None] * points, losses).trend.blocks]
        assert found == [pytest.approx(level) for level in levels]


def test_how_long_the_run_is_to_be() -> None:
    """As told; else where a learning rate that falls on meets 0; else nothing tells."""
    assert expected_steps(_signals([1.0, 0.9, 0.8]).window) == 110
    assert expected_steps(_signals([1.0, 1.0]).window) is None
    assert expected_steps(_signals([1.0, None, 0.8]).window) == 110
    told = _signals([1.0, 0.9]).add(SetupObservation(20, "plan", {"planned_steps": 400}))
    assert expected_steps(told.window) == 400


def test_how_often_the_whole_run_is_looked_at() -> None:
    """Forty times while it doubles."""
    assert [n for n in range(395, 425) if due(replace(EMPTY, count=n))] == [396, 400, 410, 420]


def test_neighbors_that_resemble_each_other() -> None:
    """They make the error twice as large, at most: a correlation of 0.6, however slow the wave is."""
    for period in (12, 30):
        line = line_through([2.0 + 0.01 * math.cos(2 * math.pi * i / period) for i in range(60)])
        assert line is not None
        plain = line.noise * 59 / math.sqrt(60 * (60**2 - 1) / 12)
        assert line.error == pytest.approx(2.0 * plain)


def test_how_far_an_outlier_counts() -> None:
    """After three fits a point a hundred deviations off, at the end, moves the line by 0.011 to 0.013 of itself; of one
    within three deviations nothing is taken."""
    zigzag = [0.01 * (-1) ** i for i in range(40)]
    far, near = line_through([*zigzag[:-1], 1.0]), line_through([*zigzag[:-1], -0.04])
    assert far is not None and near is not None
    slope = sum((i - 19.5) * value for i, value in enumerate([*zigzag[:-1], -0.04])) / 5330
    assert near.fall == pytest.approx(-39 * slope)
    assert -0.013 < far.fall < -0.010
