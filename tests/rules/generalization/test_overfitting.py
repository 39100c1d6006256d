"""overfitting: above the best and not by chance, twice in a row, while training does not rise."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.core.patience import Patience
from ko_cpt_callbacks.rules.generalization.overfitting import Overfitting
from ko_cpt_callbacks.rules.monitor import Monitor

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
    assert found.message() == (
        "eval, step 800: 2 evaluations in a row above the best, 2.480 at step 500 (now 2.570; more than 0.038 is "
        "beyond the noise), while the training loss beside them changed by -0.148. The model gets better at its "
        "training text only. Go back to the checkpoint of step 500; use more text, fewer epochs, or a lower learning "
        "rate."
    )


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
    assert [one.step for one in _findings(_run(U_SHAPE), Overfitting(patience))] == steps


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
        _findings([*seen, EvalObservation(600, loss=2.6), EvalObservation(600, loss=2.6)], Overfitting(Patience(2)))
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
