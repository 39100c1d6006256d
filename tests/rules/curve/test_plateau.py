"""plateau: the last part of the run brought nothing, and the learning rate is not the reason."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.curve.plateau import Plateau
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.signal.fit import line_through

Curve = Callable[[float], float]


def _findings(seen: Sequence[Observation], *, close: bool = True) -> list[Finding]:
    rule = Plateau()
    monitor = Monitor([rule])
    return list((monitor.judge(seen) if close else monitor.fold(seen))[1])


def _run(
    loss: Curve, rate: Curve | None = lambda at: 1.0, *, points: int = 200, noise: float = 0.02
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


def _still(at: float) -> float:
    return 2.5 + math.exp(-at / 0.05)


def _falling(at: float) -> float:
    return 2.0 + 0.2 / math.sqrt(at + 0.02)


def test_a_standstill() -> None:
    """Said once, as a note, while the run goes on."""
    (found,) = _findings(_run(_still), close=False)
    assert (found.severity, found.split, found.asks_to_stop) == (Severity.INFO, "train", False)
    assert 500 < (found.step or 0) < 1500
    assert shown(found) == ("", {"error": 0.0124, "fall": -0.0136, "level": 2.494, "rate_share": 1.0, "share": 0.3})


@pytest.mark.parametrize("points", [40, 200, 1500])
def test_of_any_length(points: int) -> None:
    """The window of recent points reaches that far back, or the blocks do."""
    assert len(_findings(_run(_still, points=points))) == 1


@pytest.mark.parametrize("points", [60, 200, 1500])
def test_a_slow_fall_is_none(points: int) -> None:
    """A power law at a constant rate."""
    assert _findings(_run(_falling, points=points)) == []


@pytest.mark.parametrize(
    "rate",
    [
        lambda at: 1.0 - at,
        lambda at: 0.5 * (1 + math.cos(math.pi * at)),
        None,
        lambda at: 0.0,
        lambda at: 1 - 0.85 * at,
    ],
    ids=["linear", "cosine", "no rates", "rate 0", "to a seventh"],
)
def test_the_learning_rate_explains_it(rate: Curve | None) -> None:
    """It has come down, or it is not known."""
    still_late: Curve = lambda at: 2.5 - min(at, 0.65)  # noqa: E731
    assert _findings(_run(still_late, rate)) == []
    assert len(_findings(_run(still_late))) == 1


def test_not_while_warming_up() -> None:
    """A standstill while the learning rate rises is no plateau."""
    assert _findings(_run(_still, lambda at: at)) == []


def test_what_has_not_fallen_before_is_no_plateau() -> None:
    """Flat from the start, and rising: other codes."""
    assert _findings(_run(lambda at: 2.5)) == []
    assert _findings(_run(lambda at: 2.5 + at)) == []


def test_short_runs_are_not_judged() -> None:
    """Twelve points, and twenty."""
    for points in (12, 26):
        assert _findings(_run(_still, points=points)) == []


def test_at_the_end_noise_decides() -> None:
    """With much noise nothing is said while the run goes on, and at its end what is not beyond it is none."""
    seen = _run(_still, noise=0.1, points=60)
    assert _findings(seen, close=False) == []
    (found,) = _findings([*seen, EndObservation(600, 2.6)])
    assert (found.step, found.values["points"], found.values["share"]) == (600, 18, 0.3)


# -- how much it takes: losses with exactly these numbers ----

ZIGZAG = [0.02 * (-1.0) ** i for i in range(30)]


def _said(errors: float, fallen: float, *, live: bool = False, late_rate: float = 1e-4) -> bool:
    """Whether it is said after 100 rows, of which the last 30 fall by so many standard errors, and all had fallen by
    so many before."""
    line = line_through(ZIGZAG)
    assert line is not None
    slope = (errors * line.error - line.fall) / 29
    losses = [2.0] * 70 + [2.0 + one - slope * (i - 14.5) for i, one in enumerate(ZIGZAG)]
    rates = [1e-4] * 60 + [late_rate] * 40
    seen = [TrainObservation(10 * i, None, loss, None, rates[i - 1]) for i, loss in enumerate(losses, start=1)]
    signals = Monitor([]).fold(seen)[0].signals
    level = line.start - 0.5 * line.fall + 2.0
    signals = replace(signals, trend=replace(signals.trend, head=(level + fallen * line.error,) * 5))
    rule = Plateau()
    return bool(rule.step(False, seen[-1], signals)[1] if live else rule.close(False, signals))


@pytest.mark.parametrize(
    ("errors", "live", "said"),
    [(0.95, True, True), (1.05, True, False), (1.7, False, True), (1.85, False, False), (-1.45, True, True),
     (-1.55, True, False), (-1.55, False, True)],
)  # fmt: skip
def test_how_much_is_a_fall(errors: float, live: bool, said: bool) -> None:
    """One standard error while the run goes on, 1.75 at its end; a rise by 1.5 while it goes on."""
    assert _said(errors, 1000.0, live=live) is said


@pytest.mark.parametrize(("fallen", "said"), [(3.95, False), (4.05, True)])
def test_how_much_it_must_have_fallen_before(fallen: float, said: bool) -> None:
    """Four standard errors."""
    assert _said(0.0, fallen) is said


@pytest.mark.parametrize(("errors", "fallen", "said"), [(0.0, 98.0, False), (0.0, 102.0, True)])
def test_how_much_more_there_may_be(errors: float, fallen: float, said: bool) -> None:
    """While the run goes on two standard errors of the fall are below 0.02 of all that it had fallen."""
    assert _said(errors, fallen, live=True) is said


@pytest.mark.parametrize(("rate", "said"), [(0.29e-4, False), (0.31e-4, True)])
def test_a_rate_at_which_a_model_learns(rate: float, said: bool) -> None:
    """Three tenths of its peak."""
    assert _said(0.0, 1000.0, late_rate=rate) is said


def test_not_before_three_tenths_of_the_plan() -> None:
    """Of a run that has just begun the last part is no part of the run."""
    plan = SetupObservation(0, "plan", {"planned_steps": 5000})
    seen = _run(_still)
    assert 500 < (_findings(seen, close=False)[0].step or 0) < 1500
    assert (_findings([plan, *seen], close=False)[0].step or 0) >= 1500


def test_a_rise_is_no_standstill() -> None:
    """While the run goes on; at its end it has brought nothing all the same."""
    plan = SetupObservation(0, "plan", {"planned_steps": 2000})
    seen = [plan, *_run(lambda at: 2.5 + math.exp(-at / 0.02) + 0.3 * max(at - 0.08, 0.0), noise=0.005)]
    assert _findings(seen, close=False) == []
    assert len(_findings(seen)) == 1
