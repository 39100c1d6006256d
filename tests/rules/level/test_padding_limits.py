"""padding-in-loss at its limits: what is just as much as each of them, of counts and of losses that are exact."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from ko_cpt_callbacks.rules.level.padding_in_loss import PaddingInLoss
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.signal.level import floor_of

VARIED = [8000 + 37 * (i * i % 101) for i in range(30)]


def _rows(rates: list[int], loss: Callable[[int], float]) -> list[TrainObservation]:
    """Rows every ten steps with so many tokens per step; the first is row 1."""
    return [TrainObservation(10 * i, loss=loss(i), input_tokens=10 * sum(rates[:i])) for i in range(1, len(rates) + 1)]


def _said(*seen: Observation, **limits: float) -> list[tuple[str, int]]:
    """Variant and row of the findings."""
    rule = dataclasses.replace(PaddingInLoss(), **limits)  # type: ignore[arg-type]
    return [(one.variant, (one.step or 0) // 10) for one in Monitor([rule]).judge(seen)[1]]


def _evaluation(reach: float) -> EvalObservation:
    return EvalObservation(0, exact_loss=2.5, tokens=1000, bytes=round(1000 * reach))


def _dropped(first: float, level: float, rows: int = 60) -> list[TrainObservation]:
    """Constant rows whose loss is at a level from the second on."""
    return _rows([8192] * rows, lambda i: first if i == 1 else level)


def test_as_far_as_the_fall_that_is_asked_for() -> None:
    """A quarter of a nat where it is the limit is no fall: then it takes twelve constant rows, not five."""
    for level, row in ((2.5, 42), (2.4921875, 35)):
        seen = _rows([*VARIED, *[32768] * 20], lambda i, level=level: 2.75 if i <= 30 else level)  # type: ignore[misc]
        assert _said(*seen, fall=0.25) == [("constant", row)]


def test_fewer_constant_rows_may_be_asked_for() -> None:
    """Three in a row: none of the varied ones before was as long as two."""
    seen = _rows([*VARIED, *[32768] * 20], lambda i: 2.75 if i <= 30 else 1.5)
    assert _said(*seen, constant_rows=3) == [("constant", 33)]


def test_a_level_at_the_floor_is_no_collapse() -> None:
    """However suddenly it got there; and a run that began at the floor can collapse."""
    for level, found in ((1.0, []), (0.9921875, [("collapse", 41)])):
        seen = _rows([8192] * 60, lambda i, level=level: 4.0 if i <= 30 else level)  # type: ignore[misc]
        assert _said(*seen, floor_nats=1.0) == found
    assert _said(*_dropped(1.0, 0.25), floor_nats=1.0) == [("collapse", 20)]
    assert _said(*_dropped(0.9921875, 0.25), floor_nats=1.0) == []


def test_a_level_at_the_floor_in_bits_per_byte() -> None:
    """At 1.25 bytes per token it is 0.36 nats: from there on up only a sudden fall of half a nat tells."""
    floor = floor_of(1.25)
    assert _said(_evaluation(1.25), *_dropped(4.0, floor)) == []
    assert _said(_evaluation(1.25), *_dropped(4.0, 0.999 * floor)) == [("collapse", 20)]
    for before, found in ((0.9, []), (1.2, [("collapse", 40)])):
        seen = _rows([8192] * 60, lambda i, before=before: before if i <= 30 else 0.6)  # type: ignore[misc]
        assert _said(_evaluation(1.25), *seen) == found


def test_as_low_as_the_share_that_is_asked_for() -> None:
    """A quarter, or an eighth, of the first loss where it is the limit is none below it."""
    for level, found in ((1.0, []), (0.9921875, [("collapse", 20)])):
        assert _said(*_dropped(4.0, level), early_share=0.25, share=0.125) == found


@pytest.mark.parametrize(("part", "found"), [(1.0, []), (0.999, [("collapse", 55)])])
def test_as_deep_as_is_asked_for(part: float, found: list[tuple[str, int]]) -> None:
    """Half of the floor in bits per byte, slowly and in the first epoch: below it is a collapse."""
    level = part * 0.5 * floor_of(4.0)
    seen = _rows([8000] * 80, lambda i: max(4.0 + (level - 4.0) * (i - 1) / 44, level))
    assert _said(_evaluation(4.0), *seen, deep=0.5) == found


def test_a_row_that_trained_on_nothing() -> None:
    """Its count stands still: that is no number of tokens per step, and those after it go on where it was."""
    rates = [*VARIED, 32768, 0, *[32768] * 20]
    assert _said(*_rows(rates, lambda i: 2.7 if i <= 30 else 1.0)) == [("constant", 36)]


def test_the_numbers_of_the_evidence() -> None:
    """A whole number of tokens per step is one; the loss is that of the row that it is said of."""
    rule = PaddingInLoss()
    (found,) = Monitor([rule]).judge(_rows([8192] * 60, lambda i: 9.0 if i == 1 else 1.0 - i / 256))[1]
    assert found.step == 200 and found.values["loss"] == 1.0 - 20 / 256
    assert isinstance(found.values["tokens_per_step"], int)
    (halves,) = Monitor([rule]).judge(
        [TrainObservation(2 * i, loss=9.0 if i == 1 else 0.9, input_tokens=8191 * i) for i in range(1, 60)]
    )[1]
    assert halves.values["tokens_per_step"] == 4095.5
