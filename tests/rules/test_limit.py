"""Limits by name: which a rule has, what may be given for one, and that it is then judged by."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.note.note import NotEnoughData
from ko_cpt_callbacks.rules.registry import ALL_RULES, known_limits, rules_for
from ko_cpt_callbacks.rules.rule import limits_of
from ko_cpt_callbacks.rules.setup.threshold import EvalInTraining
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation
from ko_cpt_callbacks.watch.argument import checked_limit, read_limits
from ko_cpt_callbacks.watch.spec import WatchSpec

WHOLE, SHARE = NotEnoughData(), EvalInTraining()


def _judged(**limits: Any) -> list[Finding]:
    rules = rules_for(WatchSpec(rules=("not-enough-data",), limits={"not-enough-data": limits}))
    rows = [*(EvalObservation(step, loss=2.0) for step in (10, 20, 30)), EndObservation(30)]
    return list(Monitor(rules).judge(rows)[1])


def test_the_numbers_of_a_rule_are_its_limits() -> None:
    """Whole and other numbers; targets, sets, task and patience, of which a rule is told, are none."""
    assert limits_of(WHOLE) == {"min_train_points": 10, "min_evaluations": 3}
    told = {"targets", "task", "retention", "patience", "baseline", "stage", "leave_out"}
    for rule in ALL_RULES:
        assert not told & limits_of(rule).keys(), rule.code
        assert all(type(value) in (int, float) for value in limits_of(rule).values()), rule.code


def test_a_rule_judges_by_the_limit_that_was_given() -> None:
    """Three evaluations are enough by itself, and not where five are asked for; the finding has the number."""
    assert _judged() == []
    (found,) = _judged(min_evaluations=5)
    assert found.values["min_evaluations"] == 5


def test_a_limit_of_a_rule_that_is_not_asked() -> None:
    """It changes nothing, and is checked all the same."""
    spec = WatchSpec(rules=("non-finite",))
    assert rules_for(replace(spec, limits={"not-enough-data": {"min_evaluations": 5}})) == rules_for(spec)
    with pytest.raises(ConfigurationError, match="min_evaluation'"):
        rules_for(WatchSpec(rules=("non-finite",), limits={"not-enough-data": {"min_evaluation": 5}}))


@pytest.mark.parametrize(
    ("rule", "name", "value", "taken"),
    [
        (WHOLE, "min_evaluations", 5, 5),
        (WHOLE, "min_evaluations", 0, 0),
        (WHOLE, "min_evaluations", np.int64(5), 5),
        (SHARE, "min_share", 0.5, 0.5),
        (SHARE, "min_share", 1, 1.0),
        (SHARE, "min_share", np.float32(0.5), 0.5),
    ],
)
def test_what_may_be_given(rule: Any, name: str, value: Any, taken: float) -> None:
    """A plain number of the limit's own type: what JSON writes and reads back the same."""
    found = checked_limit("here", rule.code, limits_of(rule), name, value)
    assert (found, type(found)) == (taken, type(taken))


@pytest.mark.parametrize(
    ("rule", "name", "value"),
    [
        *((WHOLE, "min_evaluations", value) for value in (True, -1, 2.5, 2.0, math.nan, math.inf, "3", None, [3])),
        *((SHARE, "min_share", value) for value in (True, -0.1, math.nan, math.inf, -math.inf, "0.1", None, 10**400)),
    ],
)
def test_what_may_not(rule: Any, name: str, value: Any) -> None:
    """One error with place, value, what is expected and what the limit is by itself."""
    kind = "a whole number" if rule is WHOLE else "a number"
    with pytest.raises(ConfigurationError) as caught:
        checked_limit("here", rule.code, limits_of(rule), name, value)
    assert str(caught.value) == (
        f"here: found {value!r} for {name} of {rule.code}, expected {kind}, 0 or more (it is "
        f"{limits_of(rule)[name]:g} by itself)"
    )


def test_a_rule_without_limits() -> None:
    """It says so, rather than listing nothing."""
    (rule,) = rules_for(WatchSpec(rules=("note",)))
    with pytest.raises(ConfigurationError, match="found 'height' of note, but it has no limits"):
        checked_limit("here", rule.code, limits_of(rule), "height", 1)


def test_limits_as_text() -> None:
    """CODE.LIMIT=NUMBER; whole numbers stay whole; of one that stands twice the last counts."""
    texts = ["not-enough-data.min_evaluations=4", " eval-in-training.min_share = 2e-2", "eval-in-training.min_rows=3"]
    texts.append("not-enough-data.min_evaluations=5")
    assert read_limits("--rule", texts, known_limits()) == {
        "not-enough-data": {"min_evaluations": 5},
        "eval-in-training": {"min_share": 0.02, "min_rows": 3},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not-enough-data", "expected CODE.LIMIT=NUMBER"),
        ("not-enough-data.min_evaluations", "expected CODE.LIMIT=NUMBER"),
        ("not-enough-data=5", "expected CODE.LIMIT=NUMBER"),
        ("not-enough-data.min_evaluations=five", "expected CODE.LIMIT=NUMBER"),
        ("not-enough-data.min_evaluations=-1", "found -1 for min_evaluations"),
        ("not-enough-data.min_evaluations=nan", "found nan for min_evaluations"),
        ("not-enough-data.evaluations=5", "Did you mean 'min_evaluations'"),
        ("not-enough.min_evaluations=5", "Did you mean 'not-enough-data'"),
        ("nan-filter-on.height=5", "write 'note'"),
        ("", "expected CODE.LIMIT=NUMBER"),
    ],
)
def test_texts_that_are_none(text: str, said: str) -> None:
    """The option is named, and what is expected."""
    with pytest.raises(ConfigurationError, match=r"^--rule: found ") as caught:
        read_limits("--rule", [text], known_limits())
    assert said in str(caught.value)
