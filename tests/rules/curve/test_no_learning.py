"""no-learning: flat from the start, past the warm-up, and not for lack of points."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.curve.no_learning import NoLearning
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import (
    EndObservation,
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
)
from ko_cpt_callbacks.signal.fit import FittedLine, line_through
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.signal.window import last_part

Curve = Callable[[float], float]


def _findings(seen: Sequence[Observation], *, close: bool = True) -> list[Finding]:
    rule = NoLearning()
    monitor = Monitor([rule])
    return list((monitor.judge(seen) if close else monitor.fold(seen))[1])


def _run(
    loss: Curve, rate: Curve | None = lambda at: 1.0 - at / 2, *, points: int = 100, noise: float = 0.02
) -> list[Observation]:
    """A loss and a learning rate over the run's length, from 0 to 1."""
    rng = random.Random(1)
    return [
        TrainObservation(
            10 * i, loss=loss(i / points) + rng.gauss(0.0, noise),
            learning_rate=None if rate is None else 1e-4 * rate(i / points),
        )
        for i in range(1, points + 1)
    ]  # fmt: skip


def _flat(at: float) -> float:
    return 2.5


def test_flat_from_the_start() -> None:
    """Said once, while the run goes on, as a warning that does not ask to stop."""
    seen = [SetupObservation(0, "plan", {"planned_steps": 1000}), *_run(_flat)]
    (found,) = _findings(seen, close=False)
    assert (found.severity, found.split, found.asks_to_stop) == (Severity.WARNING, "train", False)
    assert 400 <= (found.step or 0) <= 900
    assert shown(found) == ("", {"level": 2.5027, "points": 44, "start": 2.5013})


def test_at_the_end_of_a_short_run() -> None:
    """Too few points while it goes on are enough at its end; and only once."""
    seen = _run(_flat, points=30)
    assert _findings(seen, close=False) == []
    assert [one.step for one in _findings(seen)] == [300]
    assert [one.step for one in _findings([*seen, EndObservation(300, 2.5)])] == [300]


def test_a_small_fall_of_the_first_points_is_no_learning() -> None:
    """Stuck where guessing is, after a hundredth in the first steps."""
    assert len(_findings(_run(lambda at: 11.0 + 0.15 * math.exp(-at / 0.03)))) == 1


@pytest.mark.parametrize(
    "loss",
    [
        lambda at: 2.5 - 0.1 * at,
        lambda at: 2.5 + 0.5 * math.exp(-at / 0.02),
        lambda at: 2.5 + 0.03 / math.sqrt(at + 0.02),
        lambda at: 2.5 + 0.5 * at,
    ],
    ids=["slowly", "at once", "little by little", "rising"],
)
def test_what_moves_is_not_flat(loss: Curve) -> None:
    """Slow falls are falls; what learned at once has learned; what rises is another code."""
    assert _findings(_run(loss)) == []


@pytest.mark.parametrize(("first", "count"), [(0.2, 0), (0.06, 1)])
def test_what_was_learned_in_the_first_row(first: float, count: int) -> None:
    """A first row of ten steps that is 8 % higher than all others was learning; one that is 2 % higher was not."""
    seen = _run(lambda at: 2.5 + (first if at < 0.015 else 0.0), points=80)
    assert len(_findings(seen)) == count


@pytest.mark.parametrize("points", [5, 12, 19])
def test_too_few_points(points: int) -> None:
    """Nothing can be said of them."""
    assert _findings(_run(_flat, points=points)) == []


def test_noise_that_could_hide_a_fall() -> None:
    """A fall of three percent would not be seen: silent."""
    assert _findings(_run(_flat, noise=0.5, points=40)) == []


def test_not_during_the_warm_up() -> None:
    """Nothing happens while the learning rate rises, and nothing is said, at the end either."""
    assert _findings(_run(_flat, lambda at: at)) == []


def test_without_learning_rates_only_at_the_end() -> None:
    """The warm-up cannot be seen."""
    seen = _run(_flat, None, points=300)
    assert _findings(seen, close=False) == []
    assert len(_findings(seen)) == 1


def test_an_evaluation_that_falls() -> None:
    """It has less noise than training: the model learns."""
    plan = SetupObservation(0, "plan", {"planned_steps": 1000})
    for fall, count in ((0.0005, 0), (0.0, 1)):
        seen: list[Observation] = [plan]
        for i, one in enumerate(_run(_flat), start=1):
            seen.append(one)
            if i % 10 == 0:
                seen.append(EvalObservation(one.step, loss=2.4 - fall * i))
        assert len(_findings(seen)) == count


def test_a_falling_rate_tells_how_long() -> None:
    """A tenth of a linear decay: nine tenths are to come, in which a fall that noise hides now will show."""
    quiet = _run(_flat, lambda at: 1.0 - at, points=2000, noise=0.01)
    assert _findings(quiet[:200], close=False) == []
    assert len(_findings(_run(_flat, lambda _: 1.0, points=200, noise=0.01), close=False)) == 1


def test_a_loss_around_zero_need_not_fall() -> None:
    """Policy gradients."""
    assert _findings(_run(lambda at: 0.0, noise=0.01)) == []


def test_after_a_seam_nothing_starts() -> None:
    """The second of two joined runs goes on from where the first had come to."""
    first, second = _run(lambda at: 3.0 - at), _run(lambda at: 2.0)
    assert _findings([*first, *second]) == []


@pytest.mark.parametrize(
    ("values", "text", "said"),
    [
        ((4.05, 4.0), "utf8-01", False),  # one standard error, of the same rows
        ((4.03, 4.015, 4.0), "utf8-01", False),  # less, and ever lower
        ((4.03, 4.04, 4.0), "utf8-01", True),
        ((4.008, 4.004, 4.0), "utf8-01", True),  # 0.2 %
        ((4.05, 4.0), None, True),  # rows that are not known to be the same
        ((4.0, 4.0, 4.0), "utf8-01", True),
        ((4.0, 4.05), "utf8-01", True),
    ],
)
def test_few_evaluations_that_fall(values: tuple[float, ...], text: str | None, said: bool) -> None:
    """A stage has two or three evaluations; of the same rows, their own standard errors are far too wide for their
    difference. Where they fall the model learns, though its training points do not show it."""
    seen = _run(_flat, points=30)
    for number, value in enumerate(values):
        at = number * 30 // (len(values) - 1)
        one = EvalObservation(10 * at, exact_loss=value, exact_loss_se=0.04, fingerprint=text)
        seen.insert(at + number, one)
    assert bool(_findings(seen)) is said


# -- how much it takes: losses with exactly these numbers ----

ZIGZAG = [(-1.0) ** i for i in range(100)]


def _still_run(
    size: float = 0.0, fall: float = 0.0, *, level: float = 2.0, points: int = 40, rated: bool = False
) -> Signals:
    """A run whose last nine tenths fall by so many of their standard errors, zigzag by ``size``."""
    part = round(0.9 * points)
    line = line_through([size * one for one in ZIGZAG[:part]])
    assert line is not None
    losses = [level] * (points - part)
    slope = (fall * line.error - line.fall) / (part - 1)
    losses += [level + size * one - slope * (i - part / 2) for i, one in enumerate(ZIGZAG[:part])]
    rate = 1e-4 if rated else None
    seen = [TrainObservation(10 * i, loss=loss, learning_rate=rate) for i, loss in enumerate(losses, start=1)]
    return Monitor([]).fold(seen)[0].signals


def _said(signals: Signals, head: Sequence[float] = (2.0,) * 5) -> bool:
    return bool(NoLearning().close(False, replace(signals, trend=replace(signals.trend, head=tuple(head)))))


def test_where_it_started() -> None:
    """The first points are higher by 0.018 of the level, or by 1.5 deviations; the very first by 0.04, or by 3."""
    for size, start, first in ((0.0, 0.036, 0.08), (0.03, None, None)):
        signals = _still_run(size)
        noise, end = signals.window.noise or 0.0, median(signals.window.losses[-18:])
        for share, said in ((0.98, True), (1.02, False)):
            assert _said(signals, [end + share * (start or 1.5 * noise)] * 5) is said
            assert _said(signals, [end + share * (first or 3.0 * noise), *[end] * 4]) is said


def test_how_much_is_a_fall() -> None:
    """By two of its standard errors."""
    for errors, said in ((1.95, True), (2.05, False)):
        assert _said(_still_run(0.02, errors)) is said


def test_how_much_is_a_rise() -> None:
    """By three of its standard errors, or by 0.003 of the level where these are smaller."""
    for errors, said in ((-2.95, True), (-3.05, False)):
        assert _said(_still_run(0.01, errors)) is said
    for rise, said in ((0.0059, True), (0.0061, False)):
        losses = [2.0] * 4 + [2.0 + rise * (i / 35 - 0.5) for i in range(36)]
        seen = [TrainObservation(10 * i, loss=loss) for i, loss in enumerate(losses, start=1)]
        assert _said(Monitor([]).fold(seen)[0].signals) is said


def test_which_loss_is_around_zero() -> None:
    """One below a tenth of a nat."""
    for level, said in ((0.101, True), (0.099, False)):
        assert _said(_still_run(level=level), [level] * 5) is said


def test_a_fall_that_noise_may_hide() -> None:
    """A standard error of 0.03 of the level tells nothing."""
    one = (line_through(ZIGZAG[:36]) or pytest.fail("a line")).error
    for share, said in ((0.98, True), (1.02, False)):
        assert _said(_still_run(share * 0.06 / one)) is said


def test_while_nothing_tells_how_long_the_run_is() -> None:
    """Where four times as many points would bring 0.008 of the level at most."""
    last = TrainObservation(1000, loss=2.0, learning_rate=1e-4)

    def falling(fall: float) -> tuple[Signals, FittedLine]:
        losses = [2.0] * 10 + [2.0 - fall * i / 89 for i in range(90)]
        seen = [TrainObservation(10 * i, loss=loss, learning_rate=1e-4) for i, loss in enumerate(losses, start=1)]
        signals = Monitor([]).fold(seen)[0].signals
        line = line_through(last_part(signals.window, signals.trend.blocks, 0.9)[0])
        assert line is not None
        return signals, line

    _, probe = falling(0.004)
    for share, said in ((0.97, True), (1.03, False)):
        signals, line = falling((share * 0.004 - probe.error) * 0.004 / probe.fall)
        assert line.fall + line.error == pytest.approx(share * 0.004, rel=0.01)
        assert bool(NoLearning().step(False, last, signals)[1]) is said


def test_the_start_is_no_part_of_it() -> None:
    """The first tenth of a run may lie far off; what falls after it is a fall."""
    signals = _still_run(points=40)
    early = [TrainObservation(10 * i, loss=2.0 + (0.5 if i <= 4 else 0.0)) for i in range(1, 41)]
    late = [TrainObservation(10 * i, loss=2.0 + (0.5 if 5 <= i <= 20 else 0.0)) for i in range(1, 41)]
    assert _said(signals)
    assert _said(Monitor([]).fold(early)[0].signals)
    assert not _said(Monitor([]).fold(late)[0].signals)


@pytest.mark.parametrize(("peaked", "said"), [(160, True), (161, False)])
def test_how_long_after_the_warm_up(peaked: int, said: bool) -> None:
    """Forty points after the learning rate was last higher than ever."""
    seen = [
        TrainObservation(10 * i, loss=2.0, learning_rate=1e-6 * min(i, peaked)) for i in range(1, 201)
    ]
    signals = Monitor([]).fold(seen)[0].signals
    assert bool(NoLearning().step(False, seen[-1], signals)[1]) is said


def test_a_rise_is_no_standstill() -> None:
    """A loss that rises by 2 %, beyond its noise, is not where it was at the start."""
    assert _findings(_run(lambda at: 2.5 + 0.05 * at, noise=0.005)) == []


def test_a_loss_near_zero_has_nothing_to_fall_to() -> None:
    """A loss that stands still at 0.08 nats is none that does not learn; at 0.8 it is."""
    assert _findings(_run(lambda at: 0.08, noise=0.0005)) == []
    assert len(_findings(_run(lambda at: 0.8, noise=0.002))) == 1
