"""Where the loss has left its level: rises that end and that do not, the lowest level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from run.curve import falling, noisy, rows

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.signal.excursion import Low, Rise, Watch
from ko_cpt_callbacks.signal.signals import SILENT, Signals
from ko_cpt_callbacks.signal.window import Recent


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
    assert (len(ended.before), ended.points, ended.after[0]) == (49, 3, ended.peak)
    assert ended.base == pytest.approx(2.5, abs=0.01)
    assert ended.height == pytest.approx(1.0, abs=0.05)
    assert ended.noise == pytest.approx(0.01, rel=0.5)
    assert watches[63].ended is ended
    assert watches[64].ended is None


def test_a_rise_that_lasts_is_given_up() -> None:
    """After 30 points it is no spike: nothing has ended."""
    watches = _watches(_flat(dict.fromkeys(range(50, 100), 1.0)))
    assert [one.ended for one in watches if one.ended] == []
    assert watches[85].rise is None


def test_the_lowest_level() -> None:
    """A short median, its step, and the noise of its time."""
    low = _watches(rows(falling(200)))[-1].low
    assert low is not None
    assert low.level == pytest.approx(2.49, abs=0.03)
    assert 0.005 < (low.noise or 0.0) < 0.04


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


# -- how much it takes: windows with exactly these numbers ----


def _add(
    before: Sequence[float], loss: float, *, line: tuple[float, float] | None = (2.5, 0.0), noise: float | None = 0.02,
    jitter: float | None = 0.02, now: float | None = None, **watch: Any,
) -> Watch:  # fmt: skip
    """The watch after one more loss; ``now``: the noise after it."""
    n = len(before)
    past = Recent(
        losses=tuple(before), steps=tuple(range(n)), line=line, noise=noise, jitter=jitter, count=n,
    )  # fmt: skip
    window = replace(
        past, losses=(*past.losses, loss), steps=tuple(range(n + 1)), noise=noise if now is None else now, grew=True,
    )  # fmt: skip
    return Watch(**{"since": 100, **watch}).add(window, past)


FLAT = [2.5] * 30


@pytest.mark.parametrize(("jitter", "high"), [(0.02, 0.102), (None, 0.102), (0.005, 0.051), (0.2, 0.102)])
def test_how_high_the_band_is(jitter: float | None, high: float) -> None:
    """4.5 noises and 18 over the points of the window, or of twice the first differences where that is less."""
    assert _add(FLAT, 2.5 + high - 0.0005, jitter=jitter).rise is None
    assert _add(FLAT, 2.5 + high + 0.0005, jitter=jitter).rise is not None


def test_the_band_of_a_long_window() -> None:
    """From 41 points on the noise is at least that around their line."""
    for points, rises in ((40, True), (41, False)):
        zigzag = [2.5 + 0.05 * (-1) ** i for i in range(points)]
        assert (_add(zigzag, 2.75).rise is not None) is rises
        assert _add(zigzag, 3.15).rise is not None


def test_the_band_of_the_first_points() -> None:
    """None of two; then the last four differ from a line by no more than they have so far."""
    bare: dict[str, Any] = {"line": None, "noise": None, "jitter": None}
    assert _add([2.5, 2.5], 9.0, **bare).rise is None
    for loss, rises in ((2.55 + 1.04, False), (2.55 + 1.06, True)):
        assert (_add([2.5, 2.6, 2.55], loss, **bare).rise is not None) is rises
    for start in ([], [9.0]):
        falling_points = [*start, 3.0, 2.8, 2.6, 2.4]
        band = 4.5 * (1 + 4 / len(falling_points)) * 0.002
        assert _add(falling_points, 2.7 + band - 0.001, **bare).rise is None
        assert _add(falling_points, 2.7 + band + 0.001, **bare).rise is not None
    rising = _add([2.4, 2.6, 2.8, 3.0], 9.0, **bare).rise
    assert rising is not None
    assert (rising.base, len(rising.before)) == (3.0, 4)


def test_the_level_of_a_window() -> None:
    """The line's end and one point more where it rises, or the last five points."""
    for told, base in (
        ({}, 2.5), ({"line": (2.5, 0.1)}, 2.6), ({"line": (2.3, 0.0)}, 2.5), ({"line": (2.5, -0.009)}, 2.5),
    ):  # fmt: skip
        rise = _add(FLAT, 4.0, **told).rise  # type: ignore[arg-type]
        assert rise is not None and rise.base == pytest.approx(base)


def test_what_a_rise_remembers() -> None:
    """The second highest of all before it, how low the last twenty went, and how far off the second farthest was."""
    rise = _add([3.0, 2.9, *FLAT], 4.0).rise
    assert rise is not None and (rise.reach, rise.dip, rise.far) == (pytest.approx(0.4), 0.0, 0.0)
    assert (rise.after, rise.peak, rise.points) == ((4.0,), 4.0, 1)
    for at, dip in ((9, 0.0), (10, 0.3), (29, 0.3)):
        assert Rise(2.5, 0.01, tuple(2.2 if i == at else 2.5 for i in range(30)), (3.0,)).dip == pytest.approx(dip)
    for odd, far in (((0, 1), 0.0), ((15, 16), 0.9), ((40, 41), 0.9)):  # of 40 points the last thirty are looked at
        before = tuple(3.4 if i in odd else 2.5 for i in range(40 + (odd[0] == 40) * 10))
        assert Rise(2.5, 0.01, before, (4.0,)).far == pytest.approx(far)
    assert Rise(2.5, 0.01, (3.4, 3.4, *[2.5] * 39), (4.0,)).far == pytest.approx(0.9)
    assert Rise(2.5, 0.01, (2.5,) * 5, (4.0,)).far == 0.0


def test_a_rise_goes_on() -> None:
    """With its peak, for thirty points."""
    rise = Rise(2.5, 0.02, (2.5,) * 30, (3.5,) * 29)
    higher, lower = _add(FLAT, 4.0, rise=rise).rise, _add(FLAT, 3.2, rise=rise).rise
    assert higher is not None and lower is not None
    assert (higher.points, higher.peak) == (30, 4.0)
    assert (lower.points, lower.peak) == (30, 3.5)
    over = _add(FLAT, 4.0, rise=higher)
    assert (over.rise, over.ended) == (None, None)


def test_the_noise_of_the_lowest() -> None:
    """That of its time."""
    low = Low(2.5, 0.01, 10, 100)
    assert _add([2.0] * 30, 2.0, now=0.05, low=low).low == Low(2.0, 0.05, 101, 30)
    assert _add([2.6] * 30, 2.6, low=low).low is low
    first = _add([2.0, 2.5], 2.4, jitter=None, since=2).low
    assert first is not None and first.level == 2.4


def test_a_level_is_of_five_points() -> None:
    """Their median; 128 of them are kept."""
    found = _add([2.0, 2.6, 2.5, 2.4, 2.3], 2.2).low
    assert found is not None and found.level == 2.4
    assert len(_add(FLAT, 2.5, middles=(2.5,) * 200).middles) == 128


@pytest.mark.parametrize(("bent", "noise"), [(0.7, 0.7), (0.9, 1.0)])
def test_the_noise_around_a_line_through_a_curve(bent: float, noise: float) -> None:
    """Second differences count where they say less than 0.8 of it."""
    zigzag = [2.5 + 0.01 * (-1) ** i for i in range(30)]
    known = 1.4826 * 0.04 / math.sqrt(6.0)
    rise = _add(zigzag, 9.0, noise=known / bent, jitter=1.0).rise
    assert rise is not None
    assert rise.noise == pytest.approx(known / bent * noise)


def test_a_seam_begins_anew() -> None:
    """Steps that go back: no lowest level and no rise of the run before."""
    now = _signals(_flat(dict.fromkeys(range(40, 60), 0.3)))[-1].add(TrainObservation(10, loss=9.0)).watch
    assert (now.since, now.first, now.rise, now.low) == (1, 9.0, None, None)


@pytest.mark.parametrize(("share", "back"), [(0.32, False), (0.28, True)])
def test_when_a_rise_is_back(share: float, back: bool) -> None:
    """At the first point that is no higher than three tenths of the peak above the level."""
    (peak,) = [one.rise for one in _watches(_flat({60: 1.0}, points=61)) if one.rise]
    seen = [*_flat({60: 1.0}, points=61), TrainObservation(620, loss=peak.base + share * peak.height)]
    assert (_watches(seen)[-1].ended is not None) is back


def test_as_high_as_where_a_rise_is_over() -> None:
    """Is over."""
    rise = Rise(2.0, 0.5, (2.0,) * 30, (12.0,))
    assert _add(FLAT, 5.0, rise=rise).ended is rise


def test_the_first_level_is_that_of_two_points() -> None:
    """One tells none; what is lower then is the lowest, at its own step."""
    lows = [one.low for one in _watches(rows([2.5, 2.4, 2.3, 2.6]))]
    assert lows[0] is None
    assert [(low.index, low.step) for low in lows if low] == [(2, 20), (3, 30), (3, 30)]
