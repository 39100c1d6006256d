"""Limits by name: which a rule has, what may be given for one, and that it is then judged by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from run.curve import cosine, falling, noisy, rows
from suite.odd_log import odd_rows

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.rules.baseline.stage_regression import StageRegression
from ko_cpt_callbacks.rules.curve.level_shift import LevelShift
from ko_cpt_callbacks.rules.curve.loss_spike import LossSpike
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.note.note import NotEnoughData
from ko_cpt_callbacks.rules.registry import ALL_RULES, known_limits, rules_for
from ko_cpt_callbacks.rules.rule import Rule, limits_of, with_limits
from ko_cpt_callbacks.rules.setup.threshold import EvalInTraining
from ko_cpt_callbacks.run.file import clip
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation, SetupObservation
from ko_cpt_callbacks.run.rows import observations_of
from ko_cpt_callbacks.watch.argument import checked_limit, read_limits
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.target import parse_targets

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
        assert all(isinstance(value, int | float) for value in limits_of(rule).values()), rule.code


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
        (WHOLE, "min_evaluations", 1, 1),
        (WHOLE, "min_evaluations", np.int64(5), 5),
        (SHARE, "min_share", 0.5, 0.5),
        (SHARE, "min_share", 1, 1.0),
        (SHARE, "min_share", np.float32(0.5), 0.5),
        (SHARE, "min_share", 1e-300, 1e-300),
        (LevelShift(), "few", 3, 3),
        (LevelShift(), "many", 22, 22),
        (LossSpike(), "more", 2, 2.0),
    ],
)
def test_what_may_be_given(rule: Any, name: str, value: Any, taken: float) -> None:
    """A plain number of the limit's own type: what JSON writes and reads back the same."""
    found = checked_limit("here", rule.code, limits_of(rule), name, value)
    assert (found, type(found)) == (taken, type(taken))


FROM_ONE, PART = "a whole number, 1 or more", "a number above 0, at most 1"


@pytest.mark.parametrize(
    ("rule", "name", "value", "expected"),
    [
        *((WHOLE, "min_evaluations", value, FROM_ONE) for value in (True, 0, -1, 2.5, 2.0, math.nan, "3", None, [3])),
        *((SHARE, "min_share", value, PART) for value in (True, 0, -0.1, 1.01, math.nan, math.inf, "1", None, 10**400)),
        *((LossSpike(), "more", value, "a number above 0") for value in (0, 0.0, -math.inf)),
        *((LevelShift(), "few", value, "a whole number, 3 or more, at most 22") for value in (2, 23)),
        (StageRegression(), "confidence", 1, "a number above 0, at most 0.9999"),
    ],
)
def test_what_may_not(rule: Any, name: str, value: Any, expected: str) -> None:
    """One error with place, value, what is expected and what the limit is by itself."""
    with pytest.raises(ConfigurationError) as caught:
        checked_limit("here", rule.code, limits_of(rule), name, value)
    own = limits_of(rule)[name]
    found = f"here: found {clip(value)} for {name} of {rule.code}"
    assert str(caught.value) == f"{found}, expected {expected} (it is {own:g} by itself)"


def test_a_limit_that_is_0_by_itself() -> None:
    """Of another package's rule: what it is by itself is always taken."""
    known = {"rows": 0, "norm": 0.0}
    assert [checked_limit("here", "odd", known, name, 0) for name in known] == [0, 0.0]
    assert checked_limit("here", "odd", known, "rows", 3) == 3
    with pytest.raises(ConfigurationError, match="expected a whole number, 0 or more"):
        checked_limit("here", "odd", known, "rows", -1)


def _tries(rule: Rule) -> Iterator[dict[str, float]]:
    """Limits of a rule, one at a time and then all together: the least, half, twice, one, the most that is taken."""
    known, together = limits_of(rule), dict[int, dict[str, float]]()
    for name, own in known.items():
        half: float = own // 2 if isinstance(own, int) else own / 2
        for place, value in enumerate((getattr(own, "least", 1 if isinstance(own, int) else 1e-300), half, 2 * own, 1,
                                       getattr(own, "most", 10**6))):  # fmt: skip
            with suppress(ConfigurationError):
                taken = {name: checked_limit("here", rule.code, known, name, value)}
                together.setdefault(place, {}).update(taken)
                yield taken
    yield from together.values()


def _made() -> list[Observation]:
    """Epochs at whose ends the loss steps down, a shift of its level, a spike, evaluations that rise, and the end."""
    shifted = falling(90, extra=lambda i: -0.4 * (i // 15) + 0.6 * (i > 66) + 2.0 * (i == 40))
    seen: list[Observation] = [SetupObservation(0, "stage-difference", {
        "split": "eval_ko", "unit": "nats per token", "difference": 0.3, "se": 0.01, "rows": 100, "outcome": "paired",
        "before": "first",
    })]  # fmt: skip
    for place, row in enumerate(rows(shifted, rates=cosine(90), epochs=6.0)):
        seen.append(row)
        if place % 9 == 8:
            loss = 1.5 + 0.04 * place
            seen.append(EvalObservation(row.step, loss=loss, exact_loss=loss, exact_loss_se=0.01, tokens=900, rows=30))
    return [*seen, EndObservation(900)]


LOGS = {"made": _made(), "level": rows(noisy(60), rates=cosine(60)), "flat": rows([3.0] * 60, rates=[1e-4] * 60),
        **{f"odd {seed}": observations_of(odd_rows(seed)) for seed in (3, 7, 21, 33)}}  # fmt: skip


@pytest.mark.parametrize("name", LOGS)
def test_no_limit_that_is_taken_makes_a_rule_fail(name: str) -> None:
    """Every limit of every rule at its least, halved, doubled, at one and at its most, alone and with the others."""
    told = rules_for(WatchSpec(parse_targets(["eval_loss<2.9"]), retention=("eval_en",)))
    tries = {rule.code: list(_tries(rule)) for rule in told}
    failed = []
    for place in range(max(map(len, tries.values()))):
        given = {code: each[place] for code, each in tries.items() if place < len(each)}
        rules = [with_limits(rule, given) for rule in told if rule.code in given]
        _, found = Monitor(rules).judge(LOGS[name])
        failed += [(one.values["rule"], given[str(one.values["rule"])], one.values["error"]) for one in found
                   if one.code == "rule-failed"]  # fmt: skip
        assert all(one.as_dict() for one in found)
    assert failed == []


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
