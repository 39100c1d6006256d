"""The series of evaluations: what may be compared, the training beside it, the noise."""

from __future__ import annotations

import math

import pytest

from ko_cpt_callbacks.core.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.evaluations import Evaluations, noise_of


def _fold(*seen: Observation) -> Evaluations:
    return Monitor([]).fold(seen)[0].signals.evaluations


def _train(*losses: float, start: int = 10) -> list[TrainObservation]:
    return [TrainObservation(start + 10 * i, loss=loss, learning_rate=1e-4) for i, loss in enumerate(losses)]


def test_an_evaluation_has_the_training_since_the_one_before() -> None:
    """Mean, count and level of the interval; the gap is between means over the same interval."""
    series = _fold(
        *_train(3.0, 2.8), EvalObservation(20, loss=2.9), *_train(2.6, 2.4, start=30), EvalObservation(40, loss=2.5)
    ).sets["eval"]
    first, last = series.marks
    assert (first.points, first.train, first.gap) == (2, pytest.approx(2.9), None)
    assert (last.points, last.train, last.near, last.rate) == (2, pytest.approx(2.5), pytest.approx(2.5), 1e-4)
    assert last.gap == pytest.approx((2.9 + 2.5) / 2 - 2.5)
    assert series.gaps == (last.gap,)


def test_each_set_has_its_own_interval() -> None:
    """A set that is evaluated seldom looks back further."""
    state = _fold(
        *_train(3.0), EvalObservation(10, split="eval_a", loss=3.0), EvalObservation(10, split="eval_b", loss=3.0),
        *_train(2.0, start=20), EvalObservation(20, split="eval_a", loss=3.0),
        *_train(1.0, start=30), EvalObservation(30, split="eval_a", loss=3.0),
        EvalObservation(30, split="eval_b", loss=3.0),
    )  # fmt: skip
    assert (state.sets["eval_a"].last.train, state.sets["eval_b"].last.train) == (1.0, 1.5)


def test_an_interval_without_training_has_no_gap() -> None:
    """Evaluated twice between two training rows."""
    state = _fold(*_train(3.0), EvalObservation(10, loss=3.0), EvalObservation(15, loss=2.9))
    assert (state.sets["eval"].last.train, state.sets["eval"].last.gap) == (None, None)


def test_a_repeat_replaces() -> None:
    """Of an evaluation and of a training row."""
    once = _fold(*_train(3.0, 2.0), EvalObservation(20, loss=2.5))
    twice = _fold(
        *_train(3.0, 2.0), *_train(2.0, start=20), EvalObservation(20, loss=9.0), EvalObservation(20, loss=2.5)
    )
    assert once.sets["eval"].last == twice.sets["eval"].last
    assert twice.sets["eval"].count == 1


@pytest.mark.parametrize(
    "other",
    [
        EvalObservation(30, loss=2.0, exact_loss=1.9),
        EvalObservation(30, loss=2.0, fingerprint="f1"),
        EvalObservation(5, loss=2.0),
    ],
    ids=["exact now", "another text", "an earlier step"],
)
def test_what_cannot_be_compared_begins_anew(other: EvalObservation) -> None:
    """The kind of loss, the text, the direction of time."""
    state = _fold(EvalObservation(10, loss=3.0, fingerprint="f0"), EvalObservation(20, loss=2.9), other)
    assert state.sets["eval"].count == 1


def test_a_seam_begins_anew() -> None:
    """The evaluations of another run are not compared with these."""
    state = _fold(*_train(3.0, 2.0), EvalObservation(20, loss=2.5), *_train(3.0))
    assert state.sets == {}


def test_what_is_no_evaluation() -> None:
    """Without a loss, not finite, or with a batch that was not: nothing new."""
    first = EvalObservation(10, loss=3.0)
    for seen in (
        EvalObservation(20), EvalObservation(20, loss=math.nan), EvalObservation(20, loss=2.0, nonfinite_batches=1),
        TrainObservation(20, loss=2.0),
    ):  # fmt: skip
        assert _fold(first, seen).now is None
    last = _fold(first, EvalObservation(20, loss=2.0))
    assert last.now is last.sets["eval"]


def test_memory_is_bounded() -> None:
    """Ten thousand evaluations keep as many marks as forty, and the first and best."""
    state = _fold(*(
        one for i in range(300)
        for one in (TrainObservation(i, loss=2.0), EvalObservation(i, loss=2.0 + abs(i - 50) / 1000))
    ))  # fmt: skip
    series = state.sets["eval"]
    assert (len(series.marks), len(series.gaps), series.count) == (limits.EVAL_KEPT, limits.EVAL_EARLY, 300)
    assert (series.first.step, series.best.step) == (0, 50)


def test_noise() -> None:
    """Neither a trend, nor a bend, nor an outlier is noise; what goes up and down is, whatever it rides on."""
    assert noise_of([1.0, 2.0]) is None
    assert noise_of([3.0 * 0.7**i for i in range(12)]) == pytest.approx(0.0, abs=0.02)
    wobble = [0.01 * math.sin(37.0 * i * i) for i in range(40)]
    flat = noise_of(wobble)
    assert flat == pytest.approx(0.0071, rel=0.4)
    assert noise_of([2.0 - 0.1 * i + x for i, x in enumerate(wobble)]) == pytest.approx(flat)
    assert noise_of([x + (5.0 if i == 20 else 0.0) for i, x in enumerate(wobble)]) == pytest.approx(flat, rel=0.3)


@pytest.mark.parametrize("later", ["utf8-v2-aa", "ids-v2-aa", None])
def test_a_fingerprint_of_another_version_is_unknown(later: str | None) -> None:
    """A run that an older version began goes on as one series: unknown is not changed."""
    old = EvalObservation(10, loss=3.0, fingerprint="utf8-0123456789abcdef")
    state = _fold(old, EvalObservation(20, loss=2.9, fingerprint=later))
    assert state.sets["eval"].count == 2
    state = _fold(old, EvalObservation(20, loss=2.9, fingerprint="utf8-0000000000000000"))
    assert state.sets["eval"].count == 1
