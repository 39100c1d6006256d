"""`eos-not-trained`: the end token is never a target, because it is the pad token."""

from __future__ import annotations

from typing import Any

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.setup.check import EosNotTrained
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = EosNotTrained()
ROW = {"split": "train", "rows": 8, "tokens": 400, "ends": 7, "end_labels": 0, "pad_is_end": True}


def _row(**changes: Any) -> SetupObservation:
    return SetupObservation(1, "padding-in-loss", {**ROW, **changes})


def test_ends_without_a_label() -> None:
    """A warning that does not ask to stop, once."""
    state, (found,) = RULE.step(RULE.initial(), _row(), SILENT)
    assert (found.severity, found.asks_to_stop, found.split) == (Severity.WARNING, False, "train")
    assert shown(found) == ("", {"ends": 7})
    assert RULE.step(state, _row(), SILENT) == (state, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"ends": 0}, {"ends": None}, {"end_labels": 1}, {"end_labels": None}, {"pad_is_end": False},
        {"pad_is_end": None}, {"split": "eval"}, {"rows": 0},
    ],
    ids=str,
)  # fmt: skip
def test_silent(changes: dict[str, Any]) -> None:
    """No text ends, an end is labelled, another pad token, an evaluation, or an old row that does not say."""
    assert RULE.step((), _row(**changes), SILENT) == ((), ())


def test_other_rows_are_silent() -> None:
    """Rows of other kinds say nothing."""
    assert RULE.step((), SetupObservation(1, "stage", ROW), SILENT) == ((), ())
