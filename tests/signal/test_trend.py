"""The whole run, or its last part, as a few dozen values; the line through them, and how sure its fall is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ko_cpt_callbacks.run.observation import SetupObservation, TrainObservation
from ko_cpt_callbacks.signal.signals import SILENT, Signals, is_time
from ko_cpt_callbacks.signal.window import EMPTY, Trend, expected_steps, last_part


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


def _is_time(count: int, points: int = 0) -> bool:
    return is_time(TrainObservation(1), replace(SILENT, window=replace(EMPTY, count=count)), points=points)


def test_due_grows_with_the_run() -> None:
    """Every point of a short run, every hundredth of one of 4,000."""
    assert all(_is_time(points) for points in (1, 5, 40))
    assert sum(_is_time(points) for points in range(1, 2001)) < 250
    assert not _is_time(40, points=41)


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
    assert [n for n in range(395, 425) if _is_time(n)] == [396, 400, 410, 420]
