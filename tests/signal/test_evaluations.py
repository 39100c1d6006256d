"""The series of evaluations: what may be compared, the training beside it, the noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.fold import NO_ROWS
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.signal.evaluations import Evaluations, Mark, Series
from ko_cpt_callbacks.signal.fit import line_through, noise_of


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
    last = state.sets["eval"].last
    assert (last.points, last.train, last.near, last.gap) == (0, None, None, None)


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


def test_the_noise_of_a_series() -> None:
    """That of its values."""
    assert _series([2.0, 2.01, 2.0, 2.01, 2.0]).noise == noise_of([2.0, 2.01, 2.0, 2.01, 2.0])


def test_memory_is_bounded() -> None:
    """Ten thousand evaluations keep as many marks as forty, and the first and best."""
    state = _fold(*(
        one for i in range(300)
        for one in (TrainObservation(i, loss=2.0), EvalObservation(i, loss=2.0 + abs(i - 50) / 1000))
    ))  # fmt: skip
    series = state.sets["eval"]
    assert (len(series.marks), len(series.gaps), series.count) == (40, 8, 300)
    assert (series.first.step, series.best.step) == (0, 50)


@pytest.mark.parametrize("later", ["utf8-v2-aa", "ids-v2-aa", None])
def test_a_fingerprint_of_another_version_is_unknown(later: str | None) -> None:
    """A run that an older version began goes on as one series: unknown is not changed."""
    old = EvalObservation(10, loss=3.0, fingerprint="utf8-0123456789abcdef")
    state = _fold(old, EvalObservation(20, loss=2.9, fingerprint=later))
    assert state.sets["eval"].count == 2
    state = _fold(old, EvalObservation(20, loss=2.9, fingerprint="utf8-0000000000000000"))
    assert state.sets["eval"].count == 1


# -- how much it takes: evaluations with exactly these numbers ----

ALIKE = NO_ROWS.add(EvalObservation(1, loss=1.0, fingerprint="f")).add(EvalObservation(2, loss=1.0, fingerprint="f"))


def _series(values: Sequence[float], *, alike: bool = False, se: float | None = None, near: float = 2.0) -> Series:
    marks = tuple(Mark(10 * i, value, se, 10, near, near) for i, value in enumerate(values))
    best = min(marks, key=lambda mark: mark.value)
    return Series("loss", len(marks), marks[0], best, marks, rows=ALIKE if alike else NO_ROWS)


@pytest.mark.parametrize(
    ("alike", "se", "least"), [(True, 0.0, 0.003), (False, 0.0, 0.006), (True, 0.1, 0.0990), (False, 0.1, 0.4243)]
)
def test_a_fall_between_two_evaluations(alike: bool, se: float, least: float) -> None:
    """By 0.003 of the level and 0.7 of their joint error; of rows not known to be the same twice that and 3 errors."""
    for share, fell in ((0.99, False), (1.01, True)):
        series = _series([1.0 + share * least, 1.0], alike=alike, se=se)
        assert series.fell(*series.marks) is fell


def test_an_evaluation_that_improves() -> None:
    """The best, after the lowest training loss, surely below the last evaluation before that, with training high."""
    series = _series([2.0, 1.9, 1.8], near=2.5)
    assert series.improves(5, 2.5)
    assert series.improves(15, 2.5)
    assert series.improves(-10, 2.5)
    assert not series.improves(20, 2.5)
    assert not series.improves(5, 2.6)
    assert not _series([2.0, 1.8, 1.9]).improves(5, 2.0)
    assert not _series([2.0, 1.804, 1.8]).improves(15, 2.0)
    assert not _series([2.0, 1.804, 1.8]).improves(10, 2.0)
    assert _series([2.0, 1.804, 1.8]).improves(5, 2.0)
    assert _series([1.81, 1.805, 1.8]).improves(-10, 2.0) is False  # from the first on: by 0.0055 of 0.0108
    assert not _series([1.8]).improves(-10, 2.0)


def test_a_few_evaluations_fall() -> None:
    """The last surely below the first, or each of three of the same rows below the one before."""
    assert _series([2.0, 1.9]).falls()
    assert not _series([2.0, 1.99]).falls()
    assert _series([2.0, 1.995, 1.99], alike=True, se=0.02).falls()
    assert not _series([2.0, 1.995, 1.99], se=0.02).falls()
    assert not _series([2.0, 1.998, 1.995], alike=True, se=0.02).falls()
    assert not _series([2.0, 1.98, 1.99], alike=True, se=0.02).falls()
    assert not _series([2.0, 1.99], alike=True, se=0.02).falls()
    assert not _series([2.0, 1.99, 1.99], alike=True, se=0.02).falls()


def test_a_line_through_many_evaluations_falls() -> None:
    """By three of its errors, and by 0.006 of the level."""
    for fall, falls in ((0.0115, False), (0.0125, True)):
        assert _series([2.0 + fall * (1 - i / 19) for i in range(20)]).falls() is falls
    noise = [0.02 * math.sin(37.0 * i * i) for i in range(20)]
    line = line_through([2.0 + one for one in noise])
    assert line is not None
    for errors, falls in ((2.9, False), (3.1, True)):
        fall = errors * line.error - line.fall
        assert _series([2.0 + fall * (1 - i / 19) + one for i, one in enumerate(noise)]).falls() is falls


@pytest.mark.parametrize(
    ("values", "size", "se", "waits"),
    [
        ((2.0, 2.1, 2.0), 0.395, 0.0, False), ((2.0, 2.1, 2.0), 0.405, 0.0, True),
        ((2.0, 2.0, 2.0), 0.238, 0.0, False), ((2.0, 2.0, 2.0), 0.242, 0.0, True), ((2.0, 2.0, 2.0), -0.242, 0.0, True),
        ((2.0, 2.0, 2.0), 0.395, 0.05, False), ((2.0, 2.0, 2.0), 0.405, 0.05, True),
        ((2.0, 2.0), 0.5, 0.0, False), ((3.0, *[2.0] * 7), 0.5, 0.0, False), ((3.0, *[2.0] * 8), 0.5, 0.0, True),
    ],
)  # fmt: skip
def test_how_far_is_another_level(values: tuple[float, ...], size: float, se: float, waits: bool) -> None:
    """Four times the largest of the last changes, 0.12 of the level, eight standard errors; after three evaluations."""
    mark = Mark(500, values[-1] + size, se, 10, 2.0, 2.0)
    assert _series(values, se=se).then(mark, NO_ROWS, alone=True).waits is waits
    assert not _series(values, se=se).then(mark, NO_ROWS, alone=False).waits


def test_another_level_that_training_explains_or_that_does_not_stay() -> None:
    """Training moves by a quarter of the change either way; the next evaluation is off by a quarter of it."""
    for near, waits in ((2.12, True), (2.13, False), (1.88, True), (1.87, False), (None, False)):
        mark = Mark(500, 2.5, 0.0, 10, near, near)
        assert _series([2.0, 2.0, 2.0]).then(mark, NO_ROWS, alone=True).waits is waits
    waiting = _series([2.0, 2.0, 2.0]).then(Mark(500, 2.5, 0.0, 10, 2.0, 2.0), NO_ROWS, alone=True)
    for value, near, swapped in ((2.38, 2.0, True), (2.37, 2.0, False), (2.62, 2.0, True), (2.63, 2.0, False),
                                 (2.5, 2.13, False)):  # fmt: skip
        after = waiting.then(Mark(510, value, 0.0, 10, near, near), NO_ROWS, alone=True)
        assert after.swapped is swapped
        if swapped:
            assert (after.count, after.first.value, after.first.gap) == (2, 2.5, None)
            assert after.best.value == min(value, 2.5)
            assert after.left == waiting.marks[-2]
            assert not after.then(Mark(520, value, 0.0, 10, near, near), NO_ROWS, alone=True).swapped
    same = waiting.then(Mark(510, 2.5, 0.0, 10, 2.0, 2.0), NO_ROWS, alone=True)
    assert (same.best.step, same.swapped) == (500, True)
    assert not _series([2.0, 1.9]).swapped
    low = Mark(500, 2.5, 0.0, 10, None, None)
    assert not _series([2.0, 2.0, 2.0], near=0.05).then(low, NO_ROWS, alone=True).waits


def test_the_level_beside_an_evaluation_is_of_the_last_eight_points() -> None:
    """Their median, of as many as there are since the evaluation before."""
    state = _fold(*_train(*[3.0] * 4, *[2.0] * 3, *[1.0] * 3), EvalObservation(100, loss=2.0))
    assert state.sets["eval"].last.near == 2.0
    state = _fold(*_train(*[9.0] * 40, *[3.0] * 4, *[1.0] * 4), EvalObservation(480, loss=2.0))
    assert state.sets["eval"].last.near == 2.0
    state = _fold(
        TrainObservation(10, loss=3.0, learning_rate=1e-4), TrainObservation(20, loss=2.0, learning_rate=5e-5),
        EvalObservation(20, loss=2.0), TrainObservation(30, loss=1.5), EvalObservation(30, loss=2.0),
    )  # fmt: skip
    first, last = state.sets["eval"].marks
    assert (first.rate, first.near, last.near, last.train) == (5e-5, 2.5, 1.5, 1.5)


def test_of_two_errors_the_larger_counts() -> None:
    """Eight of it, between an evaluation and the one before."""
    for size, waits in ((0.395, False), (0.405, True)):
        mark = Mark(500, 2.0 + size, 0.05, 10, 2.0, 2.0)
        assert _series([2.0] * 3, se=0.0).then(mark, NO_ROWS, alone=True).waits is waits


def test_of_equal_evaluations_the_first_is_the_best() -> None:
    """Later ones are no better."""
    assert _series([2.0, 1.9]).then(Mark(20, 1.9), NO_ROWS, alone=True).best.step == 10


def test_what_is_as_much_as_a_limit_of_a_level() -> None:
    """Four times the largest change before is not farther; a quarter of the change off it still stays there, and
    training that moved by a quarter of it explains it."""
    for size, waits in ((0.5, False), (0.5078125, True)):
        mark = Mark(500, 2.0 + size, 0.0, 10, 2.0, 2.0)
        assert _series([2.0, 2.125, 2.0]).then(mark, NO_ROWS, alone=True).waits is waits
    for near, waits in ((2.125, False), (2.1171875, True)):
        assert _series([2.0] * 3).then(Mark(500, 2.5, 0.0, 10, near, near), NO_ROWS, alone=True).waits is waits
    waiting = _series([2.0] * 3).then(Mark(500, 2.5, 0.0, 10, 2.0, 2.0), NO_ROWS, alone=True)
    for value, swapped in ((2.375, True), (2.625, True), (2.3671875, False)):
        assert waiting.then(Mark(510, value, 0.0, 10, 2.0, 2.0), NO_ROWS, alone=True).swapped is swapped


def test_gaps_of_another_level() -> None:
    """The first evaluation of it has none: the one before is not of its rows. The second is the first that has."""
    waiting = _series([2.0] * 3).then(Mark(500, 2.5, 0.0, 10, 2.0, 2.0), NO_ROWS, alone=True)
    after = waiting.then(Mark(510, 2.625, 0.0, 10, 2.0, 2.0), NO_ROWS, alone=True)
    assert [mark.gap for mark in after.marks] == [None, 0.5625]
    assert after.gaps == (0.5625,)
    beside_none = waiting.then(Mark(510, 2.625, 0.0, 0, None, 2.0), NO_ROWS, alone=True)
    assert (beside_none.swapped, beside_none.gaps) == (True, ())


def test_where_nothing_changed_nothing_fell() -> None:
    """Also where the loss is 0, of which any share is 0; nor does it improve anything."""
    series = _series([0.0, 0.0])
    assert not series.fell(*series.marks) and not series.falls()
    assert not _series([0.0] * 3).falls() and not _series([0.0] * 20).falls()


def test_an_evaluation_without_training_beside_it_explains_nothing() -> None:
    """It may be the best by far; what training is at is not known."""
    series = _series([2.0, 1.0])
    assert series.improves(5, 2.0)
    assert not series.then(Mark(20, 0.5), NO_ROWS, alone=True).improves(5, 2.0)


@pytest.mark.parametrize(("split", "waits"), [("eval", True), ("eval_en", False)])
def test_what_is_forgotten_is_no_other_level(split: str, waits: bool) -> None:
    """A retention set may go up while training stays: its evaluation counts at once."""
    seen: list[Observation] = []
    for i, loss in enumerate((2.0, 2.0, 2.0, 2.5)):
        seen += [*_train(2.0, start=10 + 10 * i), EvalObservation(10 + 10 * i, split=split, loss=loss)]
    assert (_fold(*seen).now is None) is waits
