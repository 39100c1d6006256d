"""overfitting: above the best and not by chance, twice in a row, while training does not rise."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.generalization.overfitting import Overfitting
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.signal.evaluations import Evaluations, Mark, Series
from ko_cpt_callbacks.signal.fit import noise_of
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.watch.stopping import Patience

U_SHAPE = [3.0, 2.7, 2.55, 2.5, 2.48, 2.5, 2.53, 2.57, 2.62, 2.68]


def _findings(seen: Sequence[Observation], rule: Overfitting | None = None) -> list[Finding]:
    rule = rule or Overfitting()
    return list(Monitor([rule]).judge(seen)[1])


def _run(
    evals: Sequence[float], train: Sequence[float] | None = None, *, split: str = "eval", se: float | None = None,
    rates: Sequence[float] | None = None,
) -> list[Observation]:  # fmt: skip
    """Ten training rows, then an evaluation, and so on; training falls unless given (a level per evaluation)."""
    seen: list[Observation] = []
    for i, loss in enumerate(evals):
        level = 2.9 * 0.97**i if train is None else train[i]
        for j in range(10):
            step = 100 * i + 10 * (j + 1)
            rate = None if rates is None else rates[i]
            seen.append(TrainObservation(step, loss=level + 0.02 * math.sin(7.0 * step), learning_rate=rate))
        exact = None if se is None else loss
        seen.append(EvalObservation(100 * (i + 1), split=split, loss=loss, exact_loss=exact, exact_loss_se=se))
    return seen


def test_a_u_shape() -> None:
    """Said once, with its numbers, at the second evaluation that is surely above the best; it asks to stop."""
    (found,) = _findings(_run(U_SHAPE))
    assert (found.severity, found.step, found.split, found.asks_to_stop) == (Severity.WARNING, 800, "eval", True)
    assert (found.values["best"], found.values["best_step"], found.values["evaluations"]) == (2.48, 500, 2)
    assert (found.values["rise"], found.values["first_step"]) == (pytest.approx(0.09), 700)
    assert shown(found) == (
        "",
        {
            "best": 2.48, "best_step": 500, "evaluations": 2, "loss": 2.57, "threshold": 0.0385,
            "train_rise": -0.1475,
        },
    )  # fmt: skip


def test_from_the_first_evaluation_on() -> None:
    """The public run whose evaluations are 0.307, 0.356, 0.421 while training goes to nothing: at the third."""
    seen = _run([0.3075, 0.3558, 0.4214, 0.4519], [0.08, 0.03, 0.01, 0.002])
    assert [one.step for one in _findings(seen)] == [300]


@pytest.mark.parametrize(
    "evals",
    [
        [3.0, 2.7, 2.55, 2.5, 2.48, 2.47, 2.47, 2.465, 2.47, 2.465],
        [3.0, 2.7, 2.55, 2.5, 2.48, 2.57, 2.47, 2.46, 2.58, 2.46],
        [3.0, 2.7, 2.55, 2.5, 2.48, 2.485, 2.49, 2.488, 2.49, 2.49],
    ],
    ids=["converged", "two blips", "within the least"],
)
def test_healthy_evaluations(evals: list[float]) -> None:
    """No overfitting: a standstill, single evaluations far off, and a rise that is next to none."""
    assert _findings(_run(evals)) == []


def test_noise_of_the_evaluations_counts() -> None:
    """What is far above the best in a quiet series is nothing in a noisy one."""
    rng = random.Random(3)
    for noise, steps in ((0.02, []), (0.002, [3000])):
        evals = [2.5 - 0.002 * i + (0.04 if i >= 28 else 0.0) + rng.gauss(0.0, noise) for i in range(30)]
        assert [one.step for one in _findings(_run(evals))] == steps


def test_of_few_evaluations_a_lucky_one_is_no_best() -> None:
    """Eight noisy evaluations: two above a lucky one are said only where they go up one after the other."""
    assert _findings(_run([2.56, 2.4, 2.29, 2.39, 2.36, 2.32])) == []
    assert [one.step for one in _findings(_run([2.56, 2.4, 2.29, 2.36, 2.42, 2.5]))] == [500]


def test_other_rows_each_time() -> None:
    """Evaluations that differ by as much as their standard error score other rows: twice that of a difference."""
    evals = [3.0 - 0.02 * i + (0.008 if i % 2 else -0.008) for i in range(10)] + [2.95, 2.97, 2.96]
    assert len(_findings(_run(evals, se=0.01))) == 1
    assert _findings(_run(evals, se=0.055)) == []


def test_the_sets_own_error_counts() -> None:
    """A rise below the standard error of the exact loss is not said."""
    assert _findings(_run(U_SHAPE, se=0.3)) == []
    assert [one.values["se"] for one in _findings(_run(U_SHAPE, se=0.01))] == [0.01]


def test_training_that_rises_along_is_something_else() -> None:
    """Both rise after the learning rate came back, or diverge: not overfitting."""
    both = [2.8, 2.6, 2.5, 2.4, 2.35, 2.5, 2.6, 2.55]
    assert _findings(_run(both, both)) == []


def test_after_a_restart_it_has_to_be_surer() -> None:
    """With a learning rate above that of the best evaluation, training must not even seem to rise."""
    evals = [2.6 - 0.02 * i for i in range(10)] + [2.5, 2.5, 2.5]
    train = [2.6 - 0.02 * i for i in range(10)] + [2.43, 2.43, 2.43]
    assert len(_findings(_run(evals, train, rates=[1e-4] * 13))) == 1
    assert _findings(_run(evals, train, rates=[1e-4 - 1e-5 * i for i in range(10)] + [1e-4, 9e-5, 8e-5])) == []


def test_without_training_rows() -> None:
    """Evaluations alone do not show whether the model fits its training text."""
    assert _findings([one for one in _run(U_SHAPE) if isinstance(one, EvalObservation)]) == []


def test_a_retention_set_is_not_judged() -> None:
    """Neither one that is named so nor a declared one; another set is."""
    assert _findings(_run(U_SHAPE, split="eval_en")) == []
    assert _findings(_run(U_SHAPE, split="eval_old"), Overfitting(retention=("old",))) == []
    assert len(_findings(_run(U_SHAPE, split="eval_ko"))) == 1


@pytest.mark.parametrize(
    ("patience", "steps"),
    [
        (Patience(1), [800]),
        (Patience(3), [900]),
        (Patience(5), [1000]),
        (Patience(2, 0.04), [800]),
        (Patience(2, 0.1), [1000]),
        (Patience(2, 0.04, relative=True), [1000]),
        (Patience(2, 0.1, relative=True), []),
    ],
)
def test_patience_and_min_delta(patience: Patience, steps: list[int]) -> None:
    """Whoever sets them decides how many evaluations, and how far above the best, in nats or as a share of it."""
    assert [one.step for one in _findings(_run(U_SHAPE), Overfitting(patience=patience))] == steps


def test_another_text_is_another_series() -> None:
    """A new fingerprint, or an exact loss where there was none, is not compared with what was before."""
    seen = [
        *_run([2.0, 1.9, 1.85, 1.83, 1.82]),
        TrainObservation(510, loss=2.5),
        EvalObservation(600, loss=2.5, exact_loss=2.4),
        TrainObservation(610, loss=2.5),
        EvalObservation(700, loss=2.5, exact_loss=2.39),
    ]
    assert _findings(seen) == []


def test_a_repeated_evaluation_replaces() -> None:
    """The same step evaluated twice counts once, with its later value."""
    seen = _run(U_SHAPE[:6])
    again = EvalObservation(600, loss=2.45)
    assert (
        _findings(
            [*seen, EvalObservation(600, loss=2.6), EvalObservation(600, loss=2.6)], Overfitting(patience=Patience(2))
        )
        == []
    )
    more = [TrainObservation(610, loss=2.4), EvalObservation(700, loss=2.46)]
    assert _findings([*seen, again, *more]) == []


def test_two_runs_joined() -> None:
    """Steps that go back begin a new series: the second run is not worse than the first."""
    better, worse = _run([2.0, 1.9, 1.85, 1.83]), _run([3.0, 2.9, 2.85, 2.8])
    assert _findings([*better, *worse]) == []


def test_bad_evaluations_do_not_count() -> None:
    """NaN, infinite, or with a NaN batch: the business of another rule."""
    seen = _run(U_SHAPE[:5])
    for i, loss in enumerate((math.nan, math.inf, 2.9)):
        seen += [
            TrainObservation(510 + 100 * i, loss=2.4),
            EvalObservation(600 + 100 * i, loss=loss, nonfinite_batches=1),
        ]
    assert _findings(seen) == []


# -- how much it takes: evaluations with exactly these numbers ----


def _judged(
    above: Sequence[float], *, best: float = 1.0, before: Sequence[float] = (), count: int | None = None,
    near: float | None = 2.0, train: float = 1.0, spread: float = 0.0, points: int = 10, best_points: int = 10,
    se: float | None = None, rates: tuple[float | None, float | None] = (None, None), rule: Overfitting | None = None,
) -> dict[str, Any] | None:  # fmt: skip
    """The values of a finding, or None, at the last of the evaluations ``above`` the best; none was before the best
    but ``before``, which have no training points."""
    marks = [Mark(100 * i, value) for i, value in enumerate(before)]
    at = 100 * len(before)
    marks.append(Mark(at, best, points=best_points, near=near, noise=spread, rate=rates[0]))
    for i, value in enumerate(above, start=1):
        gap = 0.5 * (marks[-1].value + value) - train
        marks.append(Mark(at + 100 * i, value, se, points, train, train, spread, rates[1], gap=gap))
    series = Series("loss", count or len(marks), marks[0], marks[len(before)], tuple(marks))
    seen = EvalObservation(marks[-1].step, loss=above[-1])
    found = (rule or Overfitting()).step((), seen, Signals(evaluations=Evaluations(now=series)))[1]
    return dict(found[0].values) if found else None


@pytest.mark.parametrize(("best", "rise"), [(1.0, 0.036), (1.9, 0.036), (4.0, 0.072), (0.1, 0.036)])
def test_how_far_above_where_no_noise_is_known(best: float, rise: float) -> None:
    """Three times 0.012 nats, or three times 0.006 of the best where that is more; once alone is not enough."""
    assert _judged([best + rise - 0.001] * 2, best=best) is None
    assert _judged([best + rise + 0.001] * 2, best=best) is not None
    assert _judged([best + 1.0], best=best) is None


def test_one_of_them_may_be_lower() -> None:
    """By three tenths of the threshold, where their mean is above it; and none may fall where few are known."""
    assert _judged([1.0245, 1.06]) is None
    assert _judged([1.026, 1.06]) is not None
    assert _judged([1.07, 1.06]) is not None
    assert _judged([1.08, 1.06], before=[1.5, 1.4, 1.3, 1.2, 1.1], count=8) is not None


ZIGZAG = (1.31, 1.29, 1.31, 1.29, 1.31, 1.29, 1.31, 1.29, 1.31, 1.29, 1.31, 1.29, 1.31, 1.29)
NOISE = noise_of([*ZIGZAG, 1.2, 1.9, 1.9]) or 0.0


@pytest.mark.parametrize(("ratio", "errors"), [(0.32, 0.0), (0.34, 2.8)])
def test_evaluations_of_other_rows_each_time(ratio: float, errors: float) -> None:
    """Noise above a third of the standard error says that the rows are drawn anew: it takes 2.8 of these."""
    assert pytest.approx(0.02421, rel=0.01) == NOISE
    values = _judged([1.9, 1.9], best=1.2, before=ZIGZAG, se=NOISE / ratio)
    assert values is not None
    if errors:
        assert values["threshold"] == pytest.approx(errors * NOISE / ratio)
    else:
        assert values["threshold"] < 2.0 * NOISE / ratio


@pytest.mark.parametrize(("count", "times"), [(7, None), (8, 5.157)])
def test_the_noise_of_few_is_badly_known(count: int, times: float | None) -> None:
    """Up to seven evaluations it counts for no more than 1.7 times what it takes without; later it is believed.

    Three standard deviations, and those by which the lowest of all that compete lies low: of fourteen within four
    standard deviations of the best and itself 1.79, of three at least 0.87.
    """
    values = _judged([1.9, 1.9], best=1.25, before=ZIGZAG, count=count)
    assert values is not None
    noise = values["noise"]
    competing = sum(value - 1.25 <= 4.0 * noise for value in (*ZIGZAG, 1.25))
    low = -NormalDist().inv_cdf(0.625 / (competing + 0.25))
    expected = 1.7 * 3.0 * 0.012 if times is None else (3.0 + low) * noise
    assert values["threshold"] == pytest.approx(expected)


@pytest.mark.parametrize(("best", "competing"), [(1.235, 15), (1.2, 8), (1.15, 3)])
def test_who_competes_for_being_the_best(best: float, competing: int) -> None:
    """Evaluations within four standard deviations of the best, three at least."""
    values = _judged([1.9, 1.9], best=best, before=ZIGZAG)
    assert values is not None
    low = -NormalDist().inv_cdf(0.625 / (competing + 0.25))
    assert values["threshold"] == pytest.approx((3.0 + low) * values["noise"])


def test_training_that_rises_along() -> None:
    """By half of the evaluations' rise, 0.15 nats over the same points: it is no overfitting."""
    assert _judged([1.2, 1.2], train=1.074, near=1.0) is not None
    assert _judged([1.2, 1.2], train=1.076, near=1.0) is None


@pytest.mark.parametrize(("rate", "errors"), [(1.19e-4, 0.5), (1.2 * 1e-4, 0.5), (1.21e-4, 2.0)])
def test_training_that_may_have_risen_along(rate: float, errors: float) -> None:
    """Half an error of its rise is added, two after the learning rate has gone up by a fifth; beside the best are its
    last eight points."""
    told = {"train": 1.0, "near": 1.0, "points": 10, "best_points": 100, "rates": (1e-4, rate)}
    error = math.sqrt(1 / 20 + 1 / 8)
    for share, said in ((0.98, True), (1.02, False)):
        values = _judged([1.2, 1.2], spread=share * 0.075 / (errors * error), **told)  # type: ignore[arg-type]
        assert (values is not None) is said


def test_what_is_as_much_as_a_limit_is_not_above_it() -> None:
    """The least, the threshold of the mean, the share of it for each, and the noise of rows that are drawn anew."""
    rules = (
        (Overfitting(least_nats=0.25, few=0.5), (1.25, 1.25), (1.2578125, 1.2578125)),
        (Overfitting(least_nats=0.25, few=2.0), (1.5, 1.5), (1.5, 1.5078125)),
        (Overfitting(least_nats=0.25, few=4.0, each=0.5), (1.5, 3.0), (1.5078125, 3.0)),
        (Overfitting(patience=Patience(2, 0.25)), (1.25, 1.25), (1.2578125, 1.2578125)),
        (Overfitting(patience=Patience(2, 0.25), each=1.0), (1.25, 1.5), (1.2578125, 1.2578125)),
    )
    for rule, at, beyond in rules:
        assert _judged(at, rule=rule) is None
        assert _judged(beyond, rule=rule) is not None
    drawn = _judged([1.9, 1.9], best=1.2, before=ZIGZAG, se=2.0 * NOISE, rule=Overfitting(drawn=0.5))
    assert drawn is not None and drawn["threshold"] < 5.0 * NOISE
    assert _judged([1.5, 1.5], train=1.1875, near=1.0) is not None


def test_a_min_delta_is_the_threshold_where_no_noise_is_known() -> None:
    """By itself it would be three times the least."""
    for rule, threshold in ((Overfitting(patience=Patience(2, 0.25)), 0.25), (Overfitting(least_nats=0.125), 0.375)):
        values = _judged([1.5, 1.5], rule=rule)
        assert values is not None and values["threshold"] == threshold


def test_of_few_noisy_ones_those_since_the_best_go_up() -> None:
    """What fell before it does not count; one that hardly rises is not below; a clear rise may fall again."""
    before = (1.3, 1.1, 1.3)
    assert _judged([1.1, 1.15], before=before) is not None
    assert _judged([1.1, 1.105], before=before) is not None
    assert _judged([1.2, 1.195], before=before) is not None
    assert _judged([1.2, 1.1], before=before) is None
    assert _judged([1.2, 1.1], before=(1.4, 1.3, 1.2, 1.1)) is not None


def test_training_on_one_side_only_tells_nothing() -> None:
    """None before the best, or none since."""
    assert _judged([1.5, 1.5]) is not None
    assert _judged([1.5, 1.5], near=None) is None
    assert _judged([1.5, 1.5], points=0) is None


def test_training_is_compared_beside_those_above_the_best_in_a_row() -> None:
    """Not beside one before that was as good as the best, to the least."""
    for close, above in ((1.25, 2), (1.2578125, 3)):
        values = _judged([close, 1.75, 1.75], rule=Overfitting(least_nats=0.25, few=1.0))
        assert values is not None and values["above"] == above
