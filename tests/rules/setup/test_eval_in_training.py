"""`eval-in-training`: rows of an evaluation set found in the training set, how many of how many."""

from __future__ import annotations

from typing import Any

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.setup.threshold import EvalInTraining
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = EvalInTraining()
WHOLE: dict[str, Any] = {
    "split": "eval_ko", "found": 5, "compared": 400, "set_rows": 500, "train_compared": 9000, "train_rows": 9000,
}  # fmt: skip


def _seen(**change: Any) -> SetupObservation:
    return SetupObservation(0, RULE.code, {**WHOLE, **change})


def test_every_training_row_was_looked_at() -> None:
    """A warning of the set with all numbers; once."""
    state, (found,) = RULE.step(RULE.initial(), _seen(), SILENT)
    assert (found.severity, found.split, found.variant, found.asks_to_stop) == (
        Severity.WARNING, "eval_ko", "whole", True,
    )  # fmt: skip
    assert shown(found) == ("whole", {"compared": 400, "found": 5, "set_rows": 500, "train_rows": 9000})
    assert RULE.step(state, _seen(), SILENT) == (state, ())


def test_each_set_speaks_for_itself() -> None:
    """A finding of one set does not hide another's."""
    state, _ = RULE.step(RULE.initial(), _seen(), SILENT)
    assert [item.split for item in RULE.step(state, _seen(split="eval_en"), SILENT)[1]] == ["eval_en"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"found": 4}, True),  # exactly 1 %
        ({"found": 3}, False),
        ({"found": 1, "compared": 100}, True),
        ({"found": 1, "compared": 101}, False),
        ({"found": 2, "train_rows": 90_000}, True),  # 2 in a tenth: 20 of 400
        ({"found": 1, "train_rows": 90_000}, False),  # one alone may be a text that everybody quotes
        ({"found": 400}, True),  # all of them
        ({"found": 400, "train_rows": 90_000}, True),
        ({"train_compared": 0, "train_rows": 0}, False),
        ({"found": None}, False),
        ({"compared": None}, False),
        ({"found": 2, "compared": 2000, "train_rows": 90_000}, True),
        ({"found": 2, "compared": 2001, "train_rows": 90_000}, False),
    ],
)
def test_how_many_it_takes(change: dict[str, int], says: bool) -> None:
    """An estimated 1 % of the set; of a sample two rows at least."""
    assert bool(RULE.step((), _seen(**change), SILENT)[1]) is says


def test_a_sample_is_called_one() -> None:
    """The sentence says how many training rows were looked at, of how many."""
    _, (found,) = RULE.step((), _seen(train_rows=1_000_000), SILENT)
    assert found.variant == "sample"
    assert (found.values["train_compared"], found.values["train_rows"]) == (9_000, 1_000_000)


@pytest.mark.parametrize(
    "change",
    [
        {"split": None}, {"found": 0}, {"found": 500}, {"compared": 0}, {"train_compared": 0}, {"train_rows": 10},
        {"set_rows": None}, {"found": 2.5}, {"train_compared": None},
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_are_silent(change: dict[str, object]) -> None:
    """A row that lacks a number, or whose numbers contradict each other, says nothing."""
    assert RULE.step((), _seen(**change), SILENT) == ((), ())


def test_other_rows_are_silent() -> None:
    """Rows of other kinds say nothing."""
    assert RULE.step((), SetupObservation(0, "stage", WHOLE), SILENT) == ((), ())
