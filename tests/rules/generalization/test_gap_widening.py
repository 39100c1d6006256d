"""gap-widening: training leaves an evaluation behind; never the size of the gap."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.generalization.gap_widening import GapWidening
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.signal.evaluations import Evaluations, Mark, Series
from ko_cpt_callbacks.signal.fit import noise_of
from ko_cpt_callbacks.signal.signals import Signals

Curve = Callable[[float], float]


def _findings(seen: Sequence[Observation], rule: GapWidening | None = None) -> list[Finding]:
    rule = rule or GapWidening()
    return list(Monitor([rule]).judge(seen)[1])


def _run(
    train: Curve, evaluation: Curve, *, points: int = 200, every: int = 10, noise: float = 0.02, split: str = "eval"
) -> list[Observation]:
    """Curves over the run's length, from 0 to 1."""
    rng = random.Random(1)
    seen: list[Observation] = []
    for i in range(1, points + 1):
        at = i / points
        seen.append(TrainObservation(10 * i, loss=train(at) + rng.gauss(0.0, noise)))
        if i % every == 0:
            seen.append(EvalObservation(10 * i, split=split, loss=evaluation(at) + rng.gauss(0.0, 0.003)))
    return seen


def _healthy(at: float) -> float:
    return 2.5 + 0.3 / math.sqrt(at + 0.05)


def _parting(at: float) -> float:
    return _healthy(at) - 0.5 * max(0.0, at - 0.4)


def _stopped(at: float) -> float:
    return _healthy(min(at, 0.4)) + 0.1


def test_training_leaves_the_evaluation_behind() -> None:
    """Said once, as a warning that does not ask to stop, when the gap is wider by a tenth of a nat."""
    (found,) = _findings(_run(_parting, _stopped))
    assert (found.severity, found.split, found.asks_to_stop) == (Severity.WARNING, "eval", False)
    assert 1000 < (found.step or 0) < 1500
    assert 0.1 < float(str(found.values["widened"])) < 0.2
    assert shown(found) == (
        "",
        {
            "early_gap": 0.104, "evaluations": 3, "gap": 0.2899, "threshold": 0.1, "widened": 0.1489,
        },
    )  # fmt: skip


@pytest.mark.parametrize("offset", [-0.3, 0.0, 1.16])
def test_a_constant_gap_is_none(offset: float) -> None:
    """RedWhale's 1.16 nats from the first stage on, dropout's negative one, and none."""
    assert _findings(_run(_healthy, lambda at: _healthy(at) + offset)) == []


@pytest.mark.parametrize("steep", [0.002, 0.01, 0.05])
def test_a_steep_start_is_no_widening(steep: float) -> None:
    """The mean of a steep interval lies far above its end: both sides are means over the same interval."""

    def curve(at: float) -> float:
        return 2.5 + 4.0 * math.exp(-at / steep) + 0.05 / math.sqrt(at + steep)

    for every in (5, 20, 40):
        assert _findings(_run(curve, lambda at: curve(at) + 0.1, every=every)) == []


def test_an_evaluation_that_falls_along() -> None:
    """Training falls faster, but the evaluation falls too: no finding."""
    assert _findings(_run(_parting, lambda at: _healthy(at) + 0.1 - 0.25 * max(0.0, at - 0.4))) == []


def test_three_evaluations() -> None:
    """One or two wide gaps are not enough."""
    for wide in (1, 2):

        def train(at: float, wide: int = wide) -> float:
            return _healthy(at) - (0.3 if 0.5 < at <= 0.5 + 0.05 * wide else 0.0)

        assert _findings(_run(train, lambda at: _healthy(at) + 0.1)) == []


def test_noise_counts() -> None:
    """With one noisy training point per evaluation a tenth of a nat is nothing."""
    assert _findings(_run(lambda at: 2.5, lambda at: 2.6, every=1, noise=0.15)) == []


def test_retention_sets_are_not_judged() -> None:
    """They are forgetting's."""
    assert _findings(_run(_parting, _stopped, split="eval_en")) == []
    assert _findings(_run(_parting, _stopped, split="eval_old"), GapWidening(retention=("old",))) == []


def test_without_training_rows() -> None:
    """Evaluations alone have no gap."""
    assert _findings([one for one in _run(_parting, _stopped) if isinstance(one, EvalObservation)]) == []


# -- how much it takes: evaluations with exactly these numbers ----


def _judged(
    wide: Sequence[float | None], *, early: Sequence[float] = (0.0, 0.0, 0.0), count: int = 12, spread: float = 0.0,
    values: Callable[[int], float] = lambda i: 2.0, train: Callable[[int], float] = lambda i: 2.0,
    rule: GapWidening | None = None, points: int = 100,
) -> dict[str, Any] | None:  # fmt: skip
    """The values of a finding, or None, after six evaluations with the median gap and those with a wide one."""
    gaps = [*[sorted(early)[len(early) // 2]] * 6, *wide]
    marks = tuple(
        Mark(100 * i, values(i), points=points, train=train(i), near=train(i), noise=spread, gap=gap)
        for i, gap in enumerate(gaps)
    )
    series = Series("loss", count, marks[0], marks[0], marks, tuple(early))
    seen = EvalObservation(marks[-1].step, loss=marks[-1].value)
    found = (rule or GapWidening()).step((), seen, Signals(evaluations=Evaluations(now=series)))[1]
    return dict(found[0].values) if found else None


def test_by_how_much_it_widens() -> None:
    """The mean of three by a tenth of a nat, none of them by less."""
    assert _judged([0.099] * 3) is None
    assert _judged([0.101] * 3) is not None
    assert _judged([0.3, 0.3]) is None
    assert _judged([0.3, 0.099, 0.3]) is None


def test_the_error_of_a_gap() -> None:
    """Of three means of 100 points, and of the median of three early ones, 1.25 times their mean's; five of it."""
    values = _judged([1.0] * 3, spread=1.0)
    assert values is not None
    error = 0.1 * math.hypot(1 / math.sqrt(3), 1.25 / math.sqrt(3))
    assert values["error"] == pytest.approx(error)
    assert values["threshold"] == pytest.approx(5.0 * error)


@pytest.mark.parametrize("points", [0, 1])
def test_the_error_of_a_gap_beside_one_point(points: int) -> None:
    """Is that of the point."""
    values = _judged([1.0] * 3, spread=0.125, points=points)
    assert values is not None
    assert values["error"] == pytest.approx(0.125 * math.hypot(1 / math.sqrt(3), 1.25 / math.sqrt(3)))


def test_the_noise_of_the_evaluations_is_part_of_the_error() -> None:
    """A gap has the mean of two of them."""
    levels = [2.0 + 0.01 * (-1) ** i for i in range(9)]
    noise = noise_of(levels)
    values = _judged([1.0] * 3, values=lambda i: levels[i])
    assert noise is not None and values is not None
    expected = noise / math.sqrt(2) * math.hypot(1 / math.sqrt(3), 1.25 / math.sqrt(3))
    assert values["error"] == pytest.approx(expected)


def test_an_evaluation_without_a_gap() -> None:
    """No training beside one of the three: nothing is said."""
    assert _judged([0.5, None, 0.5]) is None
    assert _judged([0.5, 0.5, None]) is None


@pytest.mark.parametrize(
    ("gaps", "count", "used"), [(3, 12, 3), (8, 12, 3), (8, 24, 4), (8, 39, 7), (8, 40, 8), (8, 100, 8)]
)
def test_how_many_early_gaps(gaps: int, count: int, used: int) -> None:
    """A fifth of all evaluations, three at least, as many as are kept at most."""
    values = _judged([0.5] * 3, early=[0.0] * gaps, count=count)
    assert values is not None
    assert values["early_evaluations"] == used


def test_too_few_evaluations() -> None:
    """Three early ones with a gap, and three that are wide, beside the first."""
    assert _judged([0.5] * 3, count=6) is None
    assert _judged([0.5] * 3, count=7) is not None
    assert _judged([0.5] * 3, early=[0.0, 0.0]) is None


def test_since_when_it_falls_along() -> None:
    """Since the last evaluation that was at most half as wide, or the three in a row if that is longer; the evidence
    has the first of the three, and how far a line falls from first to last."""
    values = _judged([0.125, 0.25, 0.25, 0.25], values=lambda i: 2.0 - 0.01 * i, train=lambda i: 3.0 - 0.1 * i)
    assert values is not None
    assert (values["since_step"], values["first_step"]) == (500, 700)
    assert (values["eval_fall"], values["train_fall"]) == (pytest.approx(0.04), pytest.approx(0.4))
    for half, since in ((0.25, 600), (0.2578125, 500)):
        values = _judged([half, 0.75, 0.75, 0.75], rule=GapWidening(limit=0.5))
        assert values is not None and values["since_step"] == since


def test_how_much_is_a_fall_along() -> None:
    """By more than a fifth of training's fall since before the gap was half as wide."""
    for share, said in ((0.19, True), (0.21, False)):
        values = _judged([0.5] * 3, values=lambda i, share=share: 2.0 - 0.1 * share * i, train=lambda i: 3.0 - 0.1 * i)
        assert (values is not None) is said
    for slope, said in ((-0.001, True), (0.0, True), (0.001, False)):  # where training does not fall, by anything
        assert bool(_judged([0.5] * 3, values=lambda i, slope=slope: 2.0 - slope * i)) is said
    values = _judged([0.049, 0.051, 0.3, 0.3, 0.3])
    assert values is not None
    assert values["since_step"] == 600
