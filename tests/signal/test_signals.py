"""What set-up rows say of the rows that follow."""

from __future__ import annotations

import math
from typing import Any

import pytest
from run.curve import noisy, rows

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.observation import Observation, SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

# What a model learns in 40 points, and then rows that are longer again: a shift, if nothing explains it.
LOSSES = [2.0 + math.exp(-i / 8) + e for i, e in enumerate(noisy(40, 0.005))]
LOSSES += [2.7 - 0.6 * i / 40 + e for i, e in enumerate(noisy(40, 0.005, seed=1))]


def _log(attempts: dict[int, dict[str, Any]]) -> list[Observation]:
    """The log, with an ``attempt`` row before some of its points."""
    found: list[Observation] = []
    for i, one in enumerate(rows(LOSSES)):
        if i in attempts:
            found.append(SetupObservation(step=10 * i, kind="attempt", values={"arguments": attempts[i]}))
        found.append(one)
    return found


def _said(seen: list[Observation]) -> list[str]:
    return [one.code for one in Monitor().fold(seen)[1] if one.severity != "info"]


@pytest.mark.parametrize(
    "arguments", [{"group_by_length": True, "seed": 1}, {"train_sampling_strategy": "group_by_length"}], ids=str
)
def test_rows_that_are_grouped_by_length(arguments: dict[str, Any]) -> None:
    """The arguments say so, before the first row or when the run is resumed: a level that the run had is no alarm."""
    other: dict[str, Any] = {"group_by_length": False, "train_sampling_strategy": "random"}
    assert _said(_log({0: arguments})) == []
    assert _said(_log({0: arguments, 60: arguments})) == []
    for attempts in ({}, {0: other}, {0: arguments, 38: other}):
        assert "level-shift" in _said(_log(attempts)), attempts


def test_a_fold_that_is_taken_up_anywhere() -> None:
    """The state has what the row said: the same findings, wherever the fold is cut."""
    seen, monitor = _log({0: {"group_by_length": True}}), Monitor()
    whole, found = monitor.fold(seen)
    for cut in range(0, len(seen), 7):
        before, first = monitor.fold(seen[:cut])
        after, then = monitor.fold(seen[cut:], before)
        assert ((*first, *then), after) == (found, whole)


def test_a_level_that_the_run_never_had() -> None:
    """Above all levels before: grouped or not, that is said."""
    seen = _log({0: {"group_by_length": True}})
    up = rows([*LOSSES, *(4.5 + e for e in noisy(30, 0.005, seed=2))])[len(LOSSES) :]
    assert "level-shift" in _said([*seen, *up])


def test_other_rows_change_nothing() -> None:
    """A row of another kind, or an attempt that says nothing of its arguments, leaves the signals as they are."""
    for row in (SetupObservation(0, "prompt-in-loss", {}), SetupObservation(0, "attempt", {})):
        assert SILENT.add(row) is SILENT
    told = SILENT.add(SetupObservation(0, "attempt", {"arguments": {"group_by_length": True}}))
    assert told.groups_by_length and told.add(SetupObservation(9, "attempt", {})).groups_by_length
