"""`no-improvement`: patience on the evaluation loss."""

from __future__ import annotations

import math

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.generalization.no_improvement import NoImprovement
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.signal.signals import SILENT
from ko_cpt_callbacks.watch.stopping import Patience


def _found(losses: list[float], patience: Patience, split: str = "eval") -> list[Finding]:
    rule = NoImprovement(patience, leave_out=("eval_en",))
    state, found = rule.initial(), []
    for step, loss in enumerate(losses, start=1):
        state, new = rule.step(state, EvalObservation(step=10 * step, split=split, exact_loss=loss), SILENT)
        found.extend(new)
    return found


@pytest.mark.parametrize(
    ("losses", "patience", "steps"),
    [
        ([3.0, 2.9, 2.8, 2.7], Patience(1), []),
        ([3.0, 3.0], Patience(1), [20]),
        ([3.0, 3.1, 3.2], Patience(2), [30]),
        ([3.0, 3.1, 2.9, 3.0, 3.0], Patience(2), [50]),
        ([3.0, 2.995, 2.99], Patience(2, 0.02), [30]),
        ([3.0, 2.97, 2.94], Patience(2, 0.02), []),
        ([3.0, 2.98, 2.975], Patience(2, 0.01, relative=True), [30]),
        ([3.0, 3.1, 3.2, 3.3, 3.4], Patience(2), [30]),
        ([3.0, math.nan, math.inf, 3.1], Patience(2), [30]),
        ([3.0, math.nan, 2.9, math.nan, 2.8], Patience(2), []),
        ([3.0, math.nan, 3.1, 3.1], Patience(2), [30]),
        ([math.nan, 3.0, 3.1], Patience(2), []),
        ([math.nan, math.nan, math.nan], Patience(2), [30]),
        ([3.0, 3.1, 3.2], Patience(), []),
    ],
)
def test_when_it_speaks(losses: list[float], patience: Patience, steps: list[int]) -> None:
    """Evaluations without enough improvement are counted; a loss that is no number improves nothing, so it counts; the
    first evaluation, which nothing can be better than, never does."""
    assert [finding.step for finding in _found(losses, patience)] == steps


def test_the_sentence() -> None:
    """The sentence has the count, the best and what to do; the finding asks to stop."""
    finding = _found([3.0, 3.1, 3.2], Patience(2, 0.01))[0]
    assert finding.asks_to_stop
    assert shown(finding) == ("", {"best": 3.0, "best_step": 10, "loss": 3.2, "min_delta": 0.01, "patience": 2})


def test_a_retention_set_does_not_count() -> None:
    """A set that stands for what must not be forgotten never stops the run here."""
    assert _found([3.0, 3.1, 3.2], Patience(1), split="eval_en") == []


def test_a_repeated_evaluation_replaces() -> None:
    """The same step evaluated twice counts once, with its later value."""
    losses = ((10, 3.0), (20, 3.1), (20, 3.1), (20, 2.9), (30, 2.95))
    state, found = Monitor([NoImprovement(Patience(2))]).fold(
        EvalObservation(step=step, exact_loss=loss) for step, loss in losses
    )
    count = state.rules[0].count
    assert found == ()
    assert (count.best, count.best_step, count.since) == (2.9, 20, 1)


def test_without_an_exact_loss_the_trainers_counts() -> None:
    """A row without an exact loss is judged by the Trainer's, and the finding says which loss it was."""
    rule = NoImprovement(Patience(1))
    state = rule.initial()
    for step, loss in ((10, 3.0), (20, 3.1)):
        state, found = rule.step(state, EvalObservation(step=step, loss=loss), SILENT)
    assert [finding.values["metric"] for finding in found] == ["loss"]


def test_sentences_of_losses_that_are_none() -> None:
    """Where the last one is NaN the sentence has no loss of it; where all were, it has no best."""
    (last,) = _found([3.0, math.nan, math.nan], Patience(2, 0.01))
    assert shown(last) == ("not-finite", {"best": 3.0, "best_step": 10, "min_delta": 0.01, "patience": 2})
    (never,) = _found([math.nan] * 3, Patience(2, 0.01))
    assert never.asks_to_stop
    assert shown(never) == ("none-finite", {"patience": 2})


def test_bad_batches_count_too() -> None:
    """An evaluation with NaN batches is no improvement, however low the mean of the others is."""
    rule = NoImprovement(Patience(1))
    state, _ = rule.step(rule.initial(), EvalObservation(10, loss=3.0), SILENT)
    _, found = rule.step(state, EvalObservation(20, loss=2.0, nonfinite_batches=1), SILENT)
    assert [finding.step for finding in found] == [20]


def test_other_rows_begin_anew() -> None:
    """A harder set under the same name is not worse than the best of another: its own first loss is the best. A
    fingerprint of another version, or none, changes nothing."""
    for prints, steps in (
        (("utf8-01", "utf8-01", "utf8-02", "utf8-02", "utf8-02"), [50]),
        (("utf8-01", "utf8-01", "utf8-0002", "utf8-0002", "utf8-0002"), [40]),
        (("utf8-01", "utf8-01", None, None, None), [40]),
    ):
        rule = NoImprovement(Patience(2))
        state, found = rule.initial(), []
        for i, (loss, text) in enumerate(zip((3.0, 2.9, 5.0, 5.1, 5.2), prints, strict=True), start=1):
            state, new = rule.step(state, EvalObservation(10 * i, exact_loss=loss, fingerprint=text), SILENT)
            found.extend(new)
        assert [finding.step for finding in found] == steps


def test_another_kind_of_loss_begins_anew() -> None:
    """The exact loss and the Trainer's are two scales: neither is the other's best."""
    rule = NoImprovement(Patience(1))
    state, _ = rule.step(rule.initial(), EvalObservation(10, exact_loss=2.0), SILENT)
    state, found = rule.step(state, EvalObservation(20, loss=3.0), SILENT)
    assert found == () and state.count.best == 3.0


def _steps(rule: NoImprovement, *seen: Observation) -> list[tuple[int | None, str | None]]:
    return [(one.step, one.split) for one in Monitor([rule]).judge(seen)[1]]


def test_one_set_counts() -> None:
    """The first that is evaluated and not left out; how another goes is nothing to it. Without a number of evaluations
    the rule is silent."""
    rows = [
        EvalObservation(step, split=name, loss=loss)
        for step in (10, 20, 30) for name, loss in (
            ("eval_en", 3.0), ("eval_ko", 3.0 + step / 100), ("eval", 3.0 - step / 100),
        )
    ]  # fmt: skip
    assert _steps(NoImprovement(Patience(2), leave_out=("eval_en",)), *rows) == [(30, "eval_ko")]
    assert _steps(NoImprovement(Patience(2)), *rows) == [(30, "eval_en")]
    assert _steps(NoImprovement(Patience(2), leave_out=("eval_en", "eval_ko")), *rows) == []
    assert _steps(NoImprovement(), *rows) == []


def test_what_does_not_count() -> None:
    """A training row, and an evaluation that logged no loss and counted nothing wrong."""
    first, more = EvalObservation(10, loss=3.0), [TrainObservation(20, loss=9.0), EvalObservation(20)]
    assert _steps(NoImprovement(Patience(1)), first, *more) == []
    assert _steps(NoImprovement(Patience(2)), first, *more, EvalObservation(30, loss=3.1)) == []


def test_a_failed_evaluation_is_of_no_kind_of_loss() -> None:
    """One whose exact loss is missing because a batch was NaN: it counts, and the best stands."""
    rows = [
        EvalObservation(10, exact_loss=3.0), EvalObservation(20, nonfinite_batches=1),
        EvalObservation(30, exact_loss=2.9), EvalObservation(40, nonfinite_batches=1),
    ]  # fmt: skip
    assert _steps(NoImprovement(Patience(1)), *rows) == [(20, "eval")]
    assert _steps(NoImprovement(Patience(2)), *rows, EvalObservation(50, exact_loss=2.95)) == [(50, "eval")]


def test_another_level_begins_anew() -> None:
    """In a log without fingerprints, where the evaluation alone goes to another level and stays there."""
    levels = (2.0, 1.99, 1.98, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5)
    rows: list[Observation] = []
    for place, level in enumerate(levels, start=1):
        rows += [TrainObservation(10 * place, loss=2.0), EvalObservation(10 * place, loss=level)]
    # The second one of the new level tells: it is the best there, and three more are no better.
    assert _steps(NoImprovement(Patience(3)), *rows) == [(80, "eval")]


def test_as_much_as_min_delta_is_no_improvement() -> None:
    """It takes more."""
    assert [one.step for one in _found([3.0, 2.75, 2.5], Patience(1, 0.25))] == [20]
    assert _found([3.0, 2.7421875, 2.484375], Patience(1, 0.25)) == []
