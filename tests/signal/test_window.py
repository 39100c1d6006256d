"""The window that the rules on the training curve share: what gets in, what is normal in it, where it begins anew.

And the whole segment, or its last part, as a few dozen values.
"""

from __future__ import annotations

import math
import random
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from run.curve import cosine, falling, rows

from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, SetupObservation, TrainObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.signals import SILENT, Signals, is_time
from ko_cpt_callbacks.signal.window import EMPTY, Recent, Trend, expected_steps, last_part, usable


def _after(*seen: Any, start: Recent = EMPTY) -> Recent:
    now = start
    for one in seen:
        now = now.add(one)
    return now


def _size(value: Any) -> int:
    """How many numbers and texts a state holds."""
    if is_dataclass(value):
        return sum(_size(getattr(value, one.name)) for one in fields(value))
    if isinstance(value, dict):
        return sum(_size(one) for one in value.values())
    return sum(_size(one) for one in value) if isinstance(value, tuple) else 1


def test_the_last_points_and_what_stands_beside_them() -> None:
    """50 losses, oldest first, with step, learning rate, epoch and tokens per step."""
    count = list(range(1000, 101_000, 1000))
    seen = rows(falling(100), rates=cosine(100), epochs=2.0, tokens=count)
    recent = _after(*seen)
    losses = [one.loss for one in seen if isinstance(one, TrainObservation)]
    assert recent.losses == tuple(losses[-limits.WINDOW:])
    assert (recent.steps[0], recent.steps[-1], recent.count, recent.segment) == (510, 1000, 100, 0)
    assert recent.rates == tuple(cosine(100)[-limits.WINDOW:])
    assert recent.rate_peak == max(cosine(100))
    assert recent.epochs[-1] == 2.0
    assert set(recent.paces) == {100.0}


def test_what_is_not_in_the_log_is_none() -> None:
    """No learning rate, epoch or counter; and NaN in them."""
    recent = _after(*rows([2.0] * 10), TrainObservation(110, loss=2.0, learning_rate=math.nan, epoch=math.inf))
    assert {*recent.rates, *recent.epochs, *recent.paces} == {None}


@pytest.mark.parametrize(
    ("row", "level"),
    [
        (TrainObservation(10, loss=2.0), True),
        (TrainObservation(10, loss=math.nan), False),
        (TrainObservation(10, loss=math.inf), False),
        (TrainObservation(10), False),
        (TrainObservation(10, loss=2.0, nonfinite_steps=1), False),
        (TrainObservation(10, loss=0.0), False),
        (TrainObservation(10, loss=0.0, grad_norm=math.nan), False),
        (TrainObservation(10, loss=0.0, grad_norm=0.3), True),
        (TrainObservation(10, loss=0.0, nonfinite_steps=0), True),
    ],
)
def test_which_losses_get_in(row: TrainObservation, level: bool) -> None:
    """No NaN, and none that was logged as 0."""
    assert usable(row) is level
    assert bool(_after(row).losses) is level


def test_other_rows_change_nothing() -> None:
    """Evaluations, the last row, and set-up rows that announce nothing: the very same object."""
    recent = _after(*rows([2.0] * 10))
    for other in (EvalObservation(100, loss=2.0), EndObservation(100), SetupObservation(100, "audit", {"a": 1})):
        assert recent.add(other) is recent


def test_the_same_rows_give_an_equal_window() -> None:
    """Nothing is remembered outside it."""
    row = TrainObservation(110, loss=2.1)
    assert _after(*rows([2.0] * 10)).add(row) == _after(*rows([2.0] * 10)).add(TrainObservation(110, loss=2.1))


def test_where_a_line_begins() -> None:
    """With six points."""
    assert _after(*rows([3.0] * 5)).line is None
    assert _after(*rows([3.0] * 6)).noise == limits.QUIET


def test_memory_is_bounded() -> None:
    """After 20,000 rows no more than after 2,000."""
    rng = random.Random(1)
    early = _after(*rows([rng.random() for _ in range(2000)], epochs=1.0))
    late = _after(*rows([rng.random() for _ in range(18_000)], start=20_000), start=early)
    assert _size(late) < 1.2 * _size(early) < 1500


def test_a_seam_begins_anew() -> None:
    """Steps that go back: everything is as of the first row after it."""
    recent = _after(*rows(falling(60), rates=cosine(60)), TrainObservation(10, loss=3.0, learning_rate=1e-6))
    assert (recent.seam, recent.segment, recent.count, recent.losses) == (True, 1, 1, (3.0,))
    assert (recent.rate_peak, recent.line) == (1e-6, None)
    assert not recent.add(TrainObservation(20, loss=3.0)).seam


def test_a_restart_begins_the_window_anew() -> None:
    """A learning rate that is back at once: the window is empty, the segment goes on."""
    recent = _after(*rows(falling(60), rates=cosine(60)))
    after = recent.add(TrainObservation(610, loss=2.6, learning_rate=1e-4))
    assert (after.losses, after.segment, after.count, after.seam) == ((2.6,), 0, 61, False)


def test_announcements() -> None:
    """``plan`` rows tell how many steps there will be; what is no number of them does not."""
    recent = _after(*rows([2.0] * 3), SetupObservation(30, "plan", {"planned_steps": 900}))
    assert recent.planned_steps == 900
    assert recent.add(SetupObservation(30, "plan", {"planned_steps": "many"})).planned_steps == 900
    assert _after(*rows([2.0] * 3, start=30), start=recent).planned_steps == 900


def test_a_plan_may_change() -> None:
    """Another number of planned steps replaces the one before; none, or none that can be, does not."""
    window = EMPTY
    for told, planned in ((100, 100), (200, 200), (None, 200), (0, 200), (True, 200)):
        window = window.add(SetupObservation(0, "plan", {"planned_steps": told}))
        assert window.planned_steps == planned


def test_before_the_first_row() -> None:
    """Nothing is counted, and no row began anything."""
    assert (EMPTY.count, EMPTY.segment, EMPTY.seam, EMPTY.grew) == (0, 0, False, False)
    assert _after(*rows([2.0] * 3)).count == 3


def test_the_line_goes_through_the_last_thirty_points() -> None:
    """What came before them is in the window, and not in its line or its noise."""
    recent = _after(*rows([9.0 - 0.2 * i for i in range(15)] + [2.0] * 30))
    assert recent.line == (2.0, 0.0)
    assert (recent.noise, recent.jitter) == (limits.QUIET, limits.QUIET)
    assert len(recent.losses) == 45


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


def test_how_long_a_run_is_young() -> None:
    """Up to 6.5 times its warm-up, or 30 points, and not once the learning rate is on its way down."""
    warm = replace(SILENT, trend=replace(SILENT.trend, peaked=20))
    for count, rate, young in ((130, 1.0, True), (131, 1.0, False), (130, 0.94, True), (130, 0.92, False)):
        signals = replace(warm, window=replace(EMPTY, count=count, rates=(rate,), rate_peak=1.0))
        assert signals.young is young
    assert [replace(SILENT, window=replace(EMPTY, count=count)).young for count in (30, 31)] == [True, False]
