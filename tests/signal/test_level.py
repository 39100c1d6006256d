"""How low a loss can be, and what a sudden fall is."""

from __future__ import annotations

import math

import pytest

from ko_cpt_callbacks.run.observation import EvalObservation, TrainObservation
from ko_cpt_callbacks.signal.level import abrupt_drop, fewest_bytes, floor_of, least_fall, lowest_level
from ko_cpt_callbacks.signal.signals import SILENT


def _counted(tokens: int | None, count: int | None, **more: float) -> EvalObservation:
    return EvalObservation(10, tokens=tokens, bytes=count, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "reach"),
    [
        (_counted(1000, 3600), 3.6),
        (_counted(1000, 3600, exact_loss=2.0, bits_per_byte=9.0), 3.6),  # counts first
        (_counted(None, None, exact_loss=2.0, bits_per_byte=1.0), 2.0 / math.log(2.0)),
        (_counted(None, None, exact_loss=2.0, loss=5.0, bits_per_byte=1.0), 2.0 / math.log(2.0)),
        (_counted(0, 3600, loss=2.0, bits_per_byte=0.5), 4.0 / math.log(2.0)),
        (_counted(1000, 0), None),
        (_counted(1000, None, loss=2.0), None),
        (_counted(None, None, loss=2.0, bits_per_byte=0.0), None),
        (_counted(None, None, loss=math.nan, bits_per_byte=1.0), None),
        (_counted(None, None, loss=2.0, bits_per_byte=math.inf), None),
        (_counted(None, None, loss=5e-324, bits_per_byte=1e300), None),
    ],
)
def test_bytes_per_token(seen: EvalObservation, reach: float | None) -> None:
    """From the counts of a row, or a loss and its bits per byte; a row that has neither, or no number, tells none."""
    assert seen.bytes_per_token == (None if reach is None else pytest.approx(reach))


def test_the_fewest_of_all_sets() -> None:
    """The signals keep the fewest that any evaluation has told; a row without bytes changes nothing."""
    signals, known = SILENT, []
    for seen in (_counted(1000, None, loss=2.0), _counted(1000, 4000), _counted(1000, 1300), _counted(1000, 5000)):
        signals = signals.add(seen)
        known.append(signals.bytes_per_token)
        signals = signals.add(TrainObservation(10, loss=2.0))
    assert known == [None, 4.0, 1.3, 1.3]
    assert fewest_bytes(None, _counted(1, None)) is None


def test_floors_in_nats_per_token() -> None:
    """0.415 bits per byte and a fall of 0.18 on a tokenizer; ln 3 and half a nat where bytes are not known."""
    assert floor_of(None) == math.log(3.0)
    assert floor_of(4.0) == pytest.approx(0.4152 * 4.0 * math.log(2.0))
    assert floor_of(4.0, 0.5, 9.0) == pytest.approx(2.0 * math.log(2.0))
    assert least_fall(None) == 0.5
    assert least_fall(4.0) == pytest.approx(0.18 * 4.0 * math.log(2.0))


def _step(before: float, after: float, at: int, count: int) -> tuple[float, ...]:
    return tuple(before if i < at else after for i in range(count))


def test_a_fall_needs_points_on_both_sides() -> None:
    """Fifteen before and five after."""
    assert abrupt_drop(_step(2.7, 0.7, 15, 20)) == (2.7, 0.7)
    assert abrupt_drop(_step(2.7, 0.7, 15, 19)) is None
    assert abrupt_drop(_step(2.7, 0.7, 9, 20)) is None
    assert abrupt_drop(()) is abrupt_drop((2.7, 0.7)) is None


@pytest.mark.parametrize(("fall", "least", "found"), [(0.49, 0.5, False), (0.51, 0.5, True), (0.51, 0.6, False)])
def test_how_far_a_fall_is(fall: float, least: float, found: bool) -> None:
    """More than ``least`` nats, below the level before and below the lowest of all before."""
    assert (abrupt_drop(_step(2.7, 2.7 - fall, 30, 60), least=least) is not None) == found
    assert abrupt_drop(_step(2.7, 2.7 - fall, 30, 60), 2.6, least) is None or fall - 0.1 > least


@pytest.mark.parametrize(("fall", "found"), [(3.1, True), (2.9, False)])
def test_a_fall_is_sudden_beside_what_was_before_it(fall: float, found: bool) -> None:
    """Three times as far as the ten points before had moved, which is 1.0 here: else it was falling all the time."""
    before = tuple(12.0 - 0.1 * i for i in range(40))
    losses = (*before, *[before[-5] - fall] * 10)
    assert (abrupt_drop(losses) is not None) == found


def test_the_largest_of_several_falls() -> None:
    """Wherever it stands; of two that are as large the first."""
    assert abrupt_drop((*[5.0] * 20, *[3.0] * 20, *[2.0] * 20)) == (5.0, 3.0)
    assert abrupt_drop((*[5.0] * 20, *[4.0] * 20, *[1.0] * 20)) == (4.0, 1.0)
    assert abrupt_drop((*[5.0] * 20, *[4.0] * 20, *[3.0] * 20)) == (5.0, 4.0)


def test_as_much_as_a_limit_is_no_fall() -> None:
    """Below the level before, below the lowest of all before, and beside what was before it; one high point is no
    level."""
    high = (9.0, *[2.5] * 29)
    assert abrupt_drop((*high, *[2.0] * 10)) is None
    assert abrupt_drop((*high, *[1.9921875] * 10)) == (2.5, 1.9921875)
    for lowest, found in ((2.5, None), (2.5078125, (2.75, 2.0))):
        assert abrupt_drop((*[2.75] * 30, *[2.0] * 10), lowest) == found
    falling = tuple(16.0 - 0.125 * i for i in range(40))  # by 1.25 within ten points
    for level, found in ((7.875, None), (7.8671875, (11.625, 7.8671875))):
        assert abrupt_drop((*falling, *[level] * 10)) == found


def test_the_return_from_a_wide_spike_is_no_fall() -> None:
    """To where it was, also where that was within the first fifteen points; to well below that is one."""
    for level, found in ((2.0, None), (1.6, None), (1.4, (4.0, 1.4))):
        assert abrupt_drop((*[2.0] * 7, *[4.0] * 15, *[level] * 8)) == found


def test_the_lowest_level_of_what_is_forgotten() -> None:
    """The lowest median of five among those but the last, and what was known before."""
    losses = (3.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 0.5, 3.0, 3.0, 3.0, 3.0)
    assert lowest_level(losses, 5) == 1.0
    assert lowest_level(losses, 5, 0.9) == 0.9
    assert lowest_level(losses, 12) is None
    assert lowest_level(losses, 3, side=1) == 0.5
    assert lowest_level((3.0, 2.0, 1.0, 0.9, 0.8), 3, side=1) == 2.0
    assert lowest_level((5.0, 4.0, 3.0, 2.0, 1.0, 0.5), 1) == 3.0  # of a median of five
