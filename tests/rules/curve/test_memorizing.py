"""memorizing: steps where epochs end, or far below the first epoch after many."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.curve.memorizing import Memorizing
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, TrainObservation

Curve = Callable[[float], float]


def _findings(seen: Sequence[Observation], rule: Memorizing | None = None) -> list[Finding]:
    rule = rule or Memorizing()
    return list(Monitor([rule]).judge(seen)[1])


def _run(
    loss: Curve, *, epochs: int = 4, each: int = 20, noise: float = 0.02, decimals: int | None = None,
    rate: Curve | None = None,
) -> list[Observation]:  # fmt: skip
    """A loss over epochs; the last row of an epoch is logged at its end."""
    rng = random.Random(1)
    seen: list[Observation] = []
    for i in range(1, epochs * each + 1):
        epoch = i / each
        logged = epoch if decimals is None else round(epoch, decimals)
        value = loss(epoch - 1e-9) + rng.gauss(0.0, noise)
        seen.append(TrainObservation(10 * i, logged, value, 1.0, None if rate is None else rate(epoch - 1e-9)))
    return seen


def _stairs(share: float) -> Curve:
    return lambda epoch: 2.5 * (1.0 - share) ** math.floor(epoch) - 0.02 * epoch


def test_steps_at_the_ends_of_epochs() -> None:
    """Said once, soon after the second."""
    (found,) = _findings(_run(_stairs(0.12)))
    assert (found.severity, found.variant, found.split, found.asks_to_stop) == (
        Severity.WARNING, "steps", "train", False,
    )  # fmt: skip
    assert 400 < (found.step or 0) <= 520
    assert found.values["epochs"] == [1, 2]
    assert shown(found) == ("steps", {"after": 1.8921, "before": 2.1705, "ends": 2, "last_share": 0.1084})


@pytest.mark.parametrize(("each", "decimals"), [(8, 2), (12, None), (60, 2), (500, None)])
def test_epochs_of_any_length(each: int, decimals: int | None) -> None:
    """With eight points an epoch, and with five hundred; with epochs of two decimals."""
    assert len(_findings(_run(_stairs(0.15), each=each, epochs=3, decimals=decimals))) == 1


def test_a_row_that_is_a_bit_of_both_epochs() -> None:
    """Logged every 93 thousandths of an epoch, as in a public run: the row across the end does not hide the step."""
    seen = [
        TrainObservation(10 * i, 0.1075 * i, 2.15 * 0.82 ** max(0.0, math.floor(0.1075 * i)), 1.0) for i in range(1, 28)
    ]
    assert [one.variant for one in _findings(seen)] == ["steps"]


@pytest.mark.parametrize("share", [0.0, 0.008, 0.02])
def test_gentle_steps_are_what_epochs_are_for(share: float) -> None:
    """No step, and small ones."""
    assert _findings(_run(_stairs(share))) == []


def test_one_step_is_not_enough() -> None:
    """A drop at one end of an epoch, once."""
    assert _findings(_run(lambda epoch: 2.5 if epoch < 2 else 2.1)) == []


def test_a_fall_is_no_step() -> None:
    """Steep, bent, and without a break at the ends of epochs."""
    assert _findings(_run(lambda epoch: 2.0 + 2.0 * math.exp(-epoch / 0.5))) == []
    assert _findings(_run(lambda epoch: 4.0 / (1.0 + epoch), epochs=3)) == []


@pytest.mark.parametrize("period", [1.0, 0.5, 0.25])
def test_a_saw_has_no_steps(period: float) -> None:
    """Rows grouped by length: it falls at the end of an epoch, and rises again within."""
    assert _findings(_run(lambda epoch: 2.5 + 0.5 * (epoch % period) / period)) == []


def test_outliers_at_the_ends_are_no_steps() -> None:
    """The last point of each epoch, of a small batch, is far off."""

    def loss(epoch: float) -> float:
        return 2.5 + (0.4 if epoch % 1.0 > 0.95 else 0.0)

    assert _findings(_run(loss)) == []


def test_a_learning_rate_that_drops_there_explains_them() -> None:
    """A schedule by epochs; without it the same losses are steps."""
    assert _findings(_run(_stairs(0.12), rate=lambda epoch: 1e-4 * 0.3 ** math.floor(epoch))) == []
    assert len(_findings(_run(_stairs(0.12), rate=lambda epoch: 1e-4 * (1 - epoch / 4)))) == 1


def test_without_epochs_nothing_is_said() -> None:
    """Old headers and other writers."""
    seen = [
        TrainObservation(one.step, loss=one.loss) for one in _run(_stairs(0.2)) if isinstance(one, TrainObservation)
    ]
    assert _findings(seen) == []


def test_far_below_after_many_epochs() -> None:
    """Two points an epoch show no steps, but a small part of the first level does."""
    (found,) = _findings(_run(lambda epoch: 4.0 * math.exp(-epoch / 10), epochs=30, each=2))
    assert (found.variant, found.severity) == ("far-below", Severity.WARNING)
    assert 0.45 < float(str(found.values["share"])) < 0.5
    assert 3.0 < float(str(found.values["first_level"])) < 4.0


def test_not_far_below() -> None:
    """Three epochs of anything, and many that fall by a third."""
    assert _findings(_run(lambda epoch: 4.0 * math.exp(-epoch / 2), epochs=3, each=2)) == []
    assert _findings(_run(lambda epoch: 2.0 + math.exp(-epoch / 3), epochs=30, each=2)) == []


@pytest.mark.parametrize(("split", "codes"), [("eval", []), ("eval_en", ["memorizing"])])
def test_an_evaluation_that_falls_along_is_learning(split: str, codes: list[str]) -> None:
    """From scratch over many epochs, held-out text falls too; a retention set says nothing about it."""
    seen: list[Observation] = []
    for one in _run(lambda epoch: 4.0 * math.exp(-epoch / 10), epochs=30, each=2):
        assert isinstance(one, TrainObservation)
        seen += [one, EvalObservation(one.step, one.epoch, split, (one.loss or 0.0) + 0.1)]
    assert [one.code for one in _findings(seen)] == codes


def test_an_evaluation_that_stays_is_no_excuse() -> None:
    """It has not fallen along."""
    seen: list[Observation] = []
    for one in _run(lambda epoch: 4.0 * math.exp(-epoch / 10), epochs=30, each=2):
        seen += [one, EvalObservation(one.step, None, "eval", 3.5)]
    assert len(_findings(seen)) == 1


def test_what_is_learned_within_epochs_is_no_recognition() -> None:
    """A model that begins far off falls within its first two epochs, whatever it is evaluated on; what it comes to in
    the third is what the later ones are compared with."""
    assert _findings(_run(lambda epoch: 1.0 + 11.0 * math.exp(-2.0 * epoch), epochs=12, each=6)) == []
    (found,) = _findings(_run(lambda epoch: (1.0 + 11.0 * math.exp(-2.0 * epoch)) * 0.9**epoch, epochs=14, each=2))
    assert (found.variant, found.values["first_level"]) == ("far-below", pytest.approx(0.8, abs=0.15))


def test_two_runs_joined() -> None:
    """Epochs that go back begin anew: the steps of one run are not counted with those of another."""
    one = _run(lambda epoch: 2.5 if epoch < 1 else 2.1, epochs=2)
    assert _findings([*one, *one]) == []


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("more", [0, 1, 12])
def test_a_seam_at_a_row_without_a_level(bad: float, more: int) -> None:
    """A restart whose first row is not finite brings no point: the epochs are counted from the next one that does."""
    first = [
        TrainObservation(60, 3.0, 0.9996, None, 1.9e-4, input_tokens=6006),
        TrainObservation(70, 0.1, bad, None, 1.4e-4, input_tokens=1000),
    ]
    seen = [*first, *_run(_stairs(0.12), epochs=1, each=max(more, 1))[:more]]
    monitor = Monitor([Memorizing()])
    state = monitor.initial()
    for one in seen:
        state, found = monitor.step(state, one)
        assert found == ()
        # Those of the run before are gone: the points of this epoch are all there are.
        assert state.rules[0].began == 0
    assert monitor.close(state) == ()


# -- how much it takes: losses without noise, or with exactly this one ----


def _steps(rule: Memorizing, loss: Curve, *, epochs: int = 4, size: float = 0.0) -> list[Finding]:
    """What is said of twenty rows an epoch that zigzag by ``size``."""
    rows = [
        TrainObservation(10 * i, i / 20, loss((i - 0.5) / 20) + size * (-1) ** i) for i in range(1, 20 * epochs + 1)
    ]
    return _findings(rows, rule)


def test_which_share_is_a_step() -> None:
    """0.07 of the level."""
    for part, said in ((0.98, False), (1.02, True)):
        found = _steps(Memorizing(), lambda at, fall=part * 0.07: 2.5 * (1 - fall) ** math.floor(at))
        assert bool(found) is said


def test_how_sure_a_step_must_be() -> None:
    """Two standard errors of the drop, as the finding of a large one names them."""
    rule = Memorizing(drop=0.0)
    (large,) = _steps(rule, lambda at: 9.0 - 2.0 * math.floor(at), size=0.1)
    error = max(large.values["errors"])  # type: ignore[type-var, arg-type]
    off = max(abs(drop - 2.0) for drop in large.values["drops"])  # type: ignore[union-attr]
    for fall, said in ((1.94 * error - off, False), (2.06 * error + off, True)):
        assert bool(_steps(rule, lambda at, fall=fall: 9.0 - fall * math.floor(at), size=0.1)) is said


def test_how_much_of_a_step_must_be_kept() -> None:
    """Half of the drop: the rest comes back within the epoch."""
    for share, said in ((0.45, False), (0.55, True)):
        found = _steps(
            Memorizing(), lambda at, kept=share: 2.5 - 0.4 * kept * math.floor(at) + 0.4 * (1 - kept) * (at % 1.0)
        )
        assert bool(found) is said


def test_which_ends_are_remembered() -> None:
    """Two of three in a row, whichever; steps farther apart are two single ones."""
    for ends, said in (((2, 4), True), ((2, 3), True), ((2, 5), False)):
        found = _steps(Memorizing(), lambda at, ends=ends: 3.0 - 0.3 * sum(at >= end for end in ends), epochs=7)
        assert bool(found) is said


def test_when_a_step_is_judged() -> None:
    """Twelve points after an end and the one that may be of both epochs; half of a shorter epoch, from three on."""
    for each, step in ((60, 1330), (20, 510), (10, 260), (4, 120)):
        rows = [TrainObservation(10 * i, i / each, _stairs(0.2)((i - 0.5) / each)) for i in range(1, 4 * each + 1)]
        assert [one.step for one in _findings(rows)] == [step]


def _sinking(at: float, *, start: float = 2.0, end: float = 0.9) -> float:
    """Flat in the first epoch, down in the course of the third, flat."""
    return start + (end - start) * min(max(at - 2.2, 0.0) / 0.6, 1.0)


def test_after_how_many_epochs_it_is_far_below() -> None:
    """At the first row of the fifth, or as soon then as the median of five points is below half of the first epoch."""
    assert [(one.variant, one.step) for one in _steps(Memorizing(), _sinking, epochs=6)] == [("far-below", 810)]
    for row in (85, 90):
        found = _steps(Memorizing(), lambda at, row=row: _sinking(at, end=1.03) - 0.06 * (20 * at > row), epochs=6)
        assert [(one.variant, one.step) for one in found] == [("far-below", 10 * (row + 3))]
    assert _steps(Memorizing(), lambda at: _sinking(at, end=1.01), epochs=6) == []


def test_an_evaluation_that_fell_along() -> None:
    """To less than 0.7 of what it was at first."""
    for last, said in ((1.39, False), (1.41, True)):
        rows: list[Observation] = []
        for i in range(1, 121):
            rows.append(TrainObservation(10 * i, i / 20, _sinking((i - 0.5) / 20)))
            if i % 20 == 0:
                rows.append(EvalObservation(10 * i, loss=2.0 if i == 20 else last))
        assert bool(_findings(rows)) is said


def test_which_epoch_the_later_ones_are_compared_with() -> None:
    """The first whose second half is no lower than 0.85 of its first half: what is far below is so four epochs on."""
    for half, step in ((0.86, 810), (0.84, 1010)):
        (found,) = _steps(
            Memorizing(),
            lambda at, half=half: _sinking(at, start=2.0 * half, end=0.8) + 2.0 * (1 - half) * (at < 0.5),
            epochs=7,
        )
        assert (found.variant, found.step) == ("far-below", step)
        assert found.values["first_level"] == pytest.approx(2.0 * half)


@pytest.mark.parametrize("begun", [0, 3])
def test_epochs_are_counted_from_the_first_that_is_there(begun: int) -> None:
    """A log that begins in the middle of a run: four of its own epochs are many, and steps have their names."""
    rows = [TrainObservation(10 * i, begun + i / 20, _sinking((i - 0.5) / 20)) for i in range(1, 121)]
    assert [(one.variant, one.step) for one in _findings(rows)] == [("far-below", 810)]
    rows = [TrainObservation(10 * i, begun + i / 20, _stairs(0.2)((i - 0.5) / 20)) for i in range(1, 81)]
    assert [one.values["epochs"] for one in _findings(rows)] == [[begun + 1, begun + 2]]


def test_what_is_said_of_the_steps() -> None:
    """Each with its share; level and noise are those of the last."""
    (found,) = _steps(Memorizing(), lambda at: 4.0 - 1.0 * (at >= 1) - 0.6 * (at >= 2))
    v = found.values
    assert v["shares"] == [pytest.approx(0.25), pytest.approx(0.2)]
    assert (v["last_share"], v["ends"]) == (pytest.approx(0.2), 2)
    assert (v["before"], v["after"], v["noise"]) == (pytest.approx(3.0), pytest.approx(2.4), pytest.approx(0.002))


def test_an_epoch_without_a_row_has_no_end() -> None:
    """Epochs that go on by more than one: nothing steps down there, and what the epoch before began with is gone."""
    rows = [TrainObservation(10 * i, (i + 20 * (i > 20)) / 20, 3.0 - 0.4 * (i > 20)) for i in range(1, 61)]
    assert _findings(rows) == []
    rows += [TrainObservation(10 * i, (i + 20) / 20, 2.3 - 0.3 * (i > 80)) for i in range(61, 101)]
    assert [one.values["epochs"] for one in _findings(rows)] == [[4, 5]]
