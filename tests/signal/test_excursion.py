"""Where the loss has left its level: rises that end and that do not, the lowest level, jumps, swings."""

from __future__ import annotations

import math

import pytest
from core.curve import cosine, falling, noisy, rows

from ko_cpt_callbacks.core.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.signal.excursion import Watch
from ko_cpt_callbacks.signal.signals import SILENT, Signals


def _signals(seen: list[Observation]) -> list[Signals]:
    signals, now = [], SILENT
    for one in seen:
        now = now.add(one)
        signals.append(now)
    return signals


def _watches(seen: list[Observation]) -> list[Watch]:
    return [one.watch for one in _signals(seen)]


def _flat(extra: dict[int, float], points: int = 100, sd: float = 0.01) -> list[Observation]:
    return rows([2.5 + e + extra.get(i, 0.0) for i, e in enumerate(noisy(points, sd))])


def test_a_rise_begins_and_ends() -> None:
    """With the first point above the band, and the first that is back; it knows what it rose from."""
    watches = _watches(_flat({60: 1.0, 61: 0.9, 62: 0.6}))
    assert [i for i, one in enumerate(watches) if one.rise] == [60, 61, 62]
    (ended,) = [one.ended for one in watches if one.ended]
    assert (ended.step, ended.peak_step, ended.points, ended.climb) == (610, 610, 3, 1)
    assert ended.base == pytest.approx(2.5, abs=0.01)
    assert ended.height == pytest.approx(1.0, abs=0.05)
    assert ended.noise == pytest.approx(0.01, rel=0.5)
    assert ended.first == ended.peak
    assert watches[63].ended is ended
    assert watches[64].ended is None


def test_a_rise_that_lasts_is_given_up() -> None:
    """After 30 points it is no spike: nothing has ended."""
    watches = _watches(_flat(dict.fromkeys(range(50, 100), 1.0)))
    assert [one.ended for one in watches if one.ended] == []
    assert watches[85].rise is None


def test_the_band_follows_a_steep_curve() -> None:
    """On a curve that falls by several noises a point the level is where it was going, not the last five points'."""
    losses = [3.0 + 4.0 * math.exp(-i / 10) + e for i, e in enumerate(noisy(40, 0.01))]
    losses[15] += 0.6
    (ended,) = [one.ended for one in _watches(rows(losses)) if one.ended]
    assert ended.step == 160
    assert ended.base == pytest.approx(losses[14], abs=0.15)


def test_the_lowest_level() -> None:
    """A short median, its step, and the noise of its time."""
    low = _watches(rows(falling(200)))[-1].low
    assert low is not None
    assert low.level == pytest.approx(2.49, abs=0.03)
    assert 0.005 < (low.noise or 0.0) < 0.04


def test_jumps() -> None:
    """Between two points, up or down, seen two points later; a ramp and a single point are none."""
    watches = _watches(_flat(dict.fromkeys(range(40, 60), 0.3)))
    assert [(one.index, one.size > 0) for one in watches[-1].jumps] == [(41, True), (61, False)]
    assert watches[41].jumps == ()
    assert watches[42].jumps[0].size == pytest.approx(0.3, abs=0.03)
    assert _watches(_flat({i: 0.02 * min(i - 40, 15) for i in range(40, 100)}))[-1].jumps == ()
    assert _watches(_flat({40: 0.5}))[-1].jumps == ()


def test_swings() -> None:
    """What went up for eight points or more, by more than 0.6 nats, and came back, is counted."""
    assert _watches(_flat(dict.fromkeys(range(40, 54), 2.0)))[-1].swings == 1
    assert _watches(_flat(dict.fromkeys((*range(30, 44), *range(60, 74)), 2.0)))[-1].swings == 2
    assert _watches(_flat(dict.fromkeys(range(40, 44), 2.0)))[-1].swings == 0
    assert _watches(_flat(dict.fromkeys(range(40, 54), 0.4)))[-1].swings == 0


def test_waves_are_remembered() -> None:
    """The largest that came back, up to 0.6 nats: a rise has to be larger than that to be a divergence."""
    waves = _watches(rows([2.5 + 0.2 * math.sin(i / 4) for i in range(100)]))[-1]
    assert waves.swing == pytest.approx(0.38, abs=0.06)


def test_young() -> None:
    """While the learning rate warms up and some time after; not once it has come down."""
    watches = _watches(rows(falling(200), rates=cosine(200, warmup=0.1)))
    assert watches[10].young
    assert watches[25].young
    assert not watches[80].young
    assert not _watches(rows(falling(60)))[-1].young


def test_other_rows_and_nan() -> None:
    """An evaluation changes nothing; a NaN brings no point and ends no rise."""
    last = _signals(_flat({}))[-1]
    assert last.add(EvalObservation(1000, loss=9.0)).watch is last.watch
    odd = last.add(TrainObservation(1010, loss=math.nan))
    assert (odd.window.grew, odd.watch.since, odd.watch.rise) == (False, last.watch.since, None)


def test_a_repeat_replaces() -> None:
    """Of two rows of one step the last counts."""
    monitor, low, high = Monitor([]), TrainObservation(1010, loss=2.5), TrainObservation(1010, loss=9.0)
    last = monitor.fold(_flat({}))[0]
    assert monitor.fold([high], last)[0].signals.watch.rise is not None
    assert monitor.fold([high, low], last)[0] == monitor.fold([low], last)[0]


def test_a_seam_begins_anew() -> None:
    """Steps that go back: no lowest level, no rise, no jumps of the run before."""
    now = _signals(_flat(dict.fromkeys(range(40, 60), 0.3)))[-1].add(TrainObservation(10, loss=9.0)).watch
    assert (now.since, now.first, now.rise, now.jumps, now.swings) == (1, 9.0, None, (), 0)


@pytest.mark.parametrize(("share", "back"), [(0.32, False), (0.28, True)])
def test_when_a_rise_is_back(share: float, back: bool) -> None:
    """At the first point that is no higher than three tenths of the peak above the level; of a small one, than 2.5
    noises."""
    (peak,) = [one.rise for one in _watches(_flat({60: 1.0}, points=61)) if one.rise]
    seen = [*_flat({60: 1.0}, points=61), TrainObservation(620, loss=peak.base + share * peak.height)]
    assert (_watches(seen)[-1].ended is not None) is back
    small = peak.base + 7.0 * peak.noise
    for noises, ends in ((2.6, False), (2.4, True)):
        seen = [*_flat({}, points=60), TrainObservation(610, loss=small)]
        seen.append(TrainObservation(620, loss=peak.base + noises * peak.noise))
        assert (_watches(seen)[-1].ended is not None) is ends


@pytest.mark.parametrize(("noises", "points", "odd"), [(8.8, 1, True), (9.2, 1, False), (8.8, 2, False)])
def test_a_point_that_is_odd(noises: float, points: int, odd: bool) -> None:
    """One alone, above the band by less than nine noises, is remembered by how many."""
    (peak,) = [one.rise for one in _watches(_flat({60: 1.0}, points=61)) if one.rise]
    high = [TrainObservation(610 + 10 * i, loss=peak.base + noises * peak.noise) for i in range(points)]
    last = _watches([*_flat({}, points=60), *high, TrainObservation(700, loss=peak.base)])[-1]
    assert last.ended is not None
    assert last.odd == pytest.approx(noises if odd else 0.0, rel=1e-6)
