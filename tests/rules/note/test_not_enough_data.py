"""not-enough-data: said once, at the end, where there is neither a trend nor a series of evaluations."""

from __future__ import annotations

import math

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.note.note import NotEnoughData
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation, TrainObservation


def _findings(*seen: Observation) -> list[Finding]:
    rule = NotEnoughData()
    return list(Monitor([rule]).judge(seen)[1])


def _train(points: int) -> list[TrainObservation]:
    return [TrainObservation(10 * i, loss=3.0) for i in range(1, points + 1)]


def test_empty_run() -> None:
    """Nothing at all is not enough, and no step is invented."""
    (found,) = _findings()
    assert (found.severity, found.step, found.asks_to_stop) == (Severity.INFO, None, False)
    assert shown(found) == ("", {"evaluations": 0, "min_evaluations": 3, "min_train_points": 10, "train_points": 0})


@pytest.mark.parametrize(("points", "expected"), [(1, 1), (9, 1), (10, 0), (12, 0)])
def test_training_points(points: int, expected: int) -> None:
    """Nine training points are too few, ten are enough; a run of 12 points is silent."""
    assert len(_findings(*_train(points))) == expected


def test_three_evaluations_of_one_set_are_enough() -> None:
    """Three of one set are enough without any training row, also beside a set with one; two of each of two are not."""
    three = [EvalObservation(step, loss=2.0) for step in (0, 10, 20)]
    assert _findings(*three) == _findings(*three, EvalObservation(20, split="eval_en", loss=2.0)) == []
    two = [EvalObservation(s, split=name, loss=2.0) for s in (0, 10) for name in ("eval_ko", "eval_en")]
    (found,) = _findings(*two)
    assert found.values["evaluations"] == 2


def test_said_once() -> None:
    """The end says it; close does not repeat it; a second end does not either."""
    assert [f.step for f in _findings(*_train(6), EndObservation(60))] == [60]
    assert len(_findings(*_train(2), EndObservation(20), TrainObservation(30, loss=3.0), EndObservation(30))) == 1


def test_close_is_silent_after_an_end_with_enough() -> None:
    """An end with enough points says nothing, and neither does close."""
    assert _findings(*_train(12), EndObservation(120)) == []


def test_repeats_are_not_points() -> None:
    """The same step again is the same point, of training rows and of evaluations."""
    assert len(_findings(*_train(5), *[TrainObservation(50, loss=3.0)] * 8)) == 1
    assert len(_findings(*[EvalObservation(0, loss=2.0)] * 3)) == 1


def test_nan_points_are_points() -> None:
    """A NaN row was logged all the same; what it means is another rule's matter."""
    assert _findings(*[TrainObservation(step, loss=math.nan) for step in range(10)]) == []
