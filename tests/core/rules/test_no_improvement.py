"""`no-improvement`: patience on the evaluation loss."""

from __future__ import annotations

import math

import pytest

from ko_cpt_callbacks.core.finding import Finding
from ko_cpt_callbacks.core.observation import EvalObservation
from ko_cpt_callbacks.core.patience import Patience
from ko_cpt_callbacks.core.rules.no_improvement import NoImprovement


def _found(losses: list[float], patience: Patience, split: str = "eval") -> list[Finding]:
    rule = NoImprovement(patience, leave_out=("eval_en",))
    state, found = rule.initial(), []
    for step, loss in enumerate(losses, start=1):
        state, new = rule.step(state, EvalObservation(step=10 * step, split=split, exact_loss=loss))
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
        ([3.0, math.nan, math.inf, 3.1], Patience(2), []),
        ([3.0, math.nan, 3.1, 3.1], Patience(2), [40]),
        ([3.0, 3.1, 3.2], Patience(), []),
    ],
)
def test_when_it_speaks(losses: list[float], patience: Patience, steps: list[int]) -> None:
    """Evaluations without enough improvement are counted; a loss that is no number neither improves nor counts."""
    assert [finding.step for finding in _found(losses, patience)] == steps


def test_the_sentence() -> None:
    """The sentence has the count, the best and what to do; the finding asks to stop."""
    finding = _found([3.0, 3.1, 3.2], Patience(2, 0.01))[0]
    assert finding.asks_to_stop
    assert finding.message() == (
        "eval, step 30: 2 evaluations in a row without a loss lower by more than 0.010 than the best, 3.000 at step "
        "10 (now 3.200). Stop here and use the best checkpoint, or lower the learning rate."
    )


def test_a_retention_set_does_not_count() -> None:
    """A set that stands for what must not be forgotten never stops the run here."""
    assert _found([3.0, 3.1, 3.2], Patience(1), split="eval_en") == []


def test_a_repeated_evaluation_replaces() -> None:
    """The same step evaluated twice counts once, with its later value."""
    rule = NoImprovement(Patience(2))
    state = rule.initial()
    found: list[Finding] = []
    for step, loss in ((10, 3.0), (20, 3.1), (20, 3.1), (20, 2.9), (30, 2.95)):
        state, new = rule.step(state, EvalObservation(step=step, exact_loss=loss))
        found.extend(new)
    assert found == []
    assert (state.best, state.best_step, state.since) == (2.9, 20, 1)


def test_without_an_exact_loss_the_trainers_counts() -> None:
    """A row without an exact loss is judged by the Trainer's, and the finding says which loss it was."""
    rule = NoImprovement(Patience(1))
    state = rule.initial()
    for step, loss in ((10, 3.0), (20, 3.1)):
        state, found = rule.step(state, EvalObservation(step=step, loss=loss))
    assert [finding.values["metric"] for finding in found] == ["loss"]
