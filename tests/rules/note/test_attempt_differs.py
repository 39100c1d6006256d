"""`attempt-differs`: once per attempt, from what to what; what is not known is not compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from messages.shown import shown
from run.curve import findings

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.note.attempt_differs import BEGUN_ANEW, KEPT, SCHEDULE, AttemptDiffers
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.fold import ATTEMPT
from ko_cpt_callbacks.run.observation import Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = AttemptDiffers()
FACTS: dict[str, dict[str, Any]] = {
    "data": {"training_rows": 24_000, "training_data": "5f0c"},
    "batch": {"rows_per_step": 64},
    "arguments": {"learning_rate": 2e-4, "optim": "adamw_torch", "bf16": True},
    "model": {"trainable_parameters": 4096},
    "versions": {"torch": "2.13.0", "peft": None},
}


def _attempt(step: int, **changes: Any) -> SetupObservation:
    """An attempt with other values under some names, wherever they are."""
    facts = {group: {name: changes.get(name, value) for name, value in of.items()} for group, of in FACTS.items()}
    return SetupObservation(step, "attempt", facts)


def _trained(first: int, last: int, tokens: int | Sequence[int] = 1000, every: int = 1) -> list[Observation]:
    """A row every step, or every so many, each with so many target tokens more."""
    each = [tokens] * (last - first + 1) if isinstance(tokens, int) else list(tokens)
    return [
        TrainObservation(first + every * i, loss=3.0, tokens_seen=1000 * first + sum(each[: i + 1]))
        for i in range(len(each))
    ]


def test_what_changed() -> None:
    """All of it in one finding: data first, versions last."""
    (found,) = findings(
        RULE,
        [_attempt(0), *_trained(1, 5), _attempt(5, training_data="91ab", rows_per_step=32, bf16=False, torch="2.14.0")],
    )
    assert (found.severity, found.step, found.asks_to_stop) == (Severity.WARNING, 5, False)
    assert shown(found) == (
        "",
        {
            "before_step": 0,
            "changed": [
                "training_data 5f0c → 91ab", "rows_per_step 64 → 32", "bf16 True → False", "torch 2.13.0 → 2.14.0",
            ],
        },
    )  # fmt: skip
    assert found.values["changes"][1] == {"name": "rows_per_step", "before": 64, "after": 32}  # type: ignore[index]


def test_as_it_was() -> None:
    """Silent, however often the run is resumed."""
    seen = [one for step in (0, 5, 10) for one in (_attempt(step), *_trained(step + 1, step + 5))]
    assert findings(RULE, seen) == []


def test_each_attempt_is_compared_with_the_one_before() -> None:
    """There and back again: two findings."""
    seen = [_attempt(0), *_trained(1, 5), _attempt(5, seed=1, optim="adafactor"), *_trained(6, 9), _attempt(9)]
    assert [one.step for one in findings(RULE, seen)] == [5, 9]


def test_an_attempt_without_a_step_is_no_measure() -> None:
    """Two attempts that begin at one step: the first of them trained nothing that holds."""
    wrong = _attempt(5, rows_per_step=8)
    found = findings(RULE, [_attempt(0), *_trained(1, 5), wrong, _attempt(5)])
    assert [one.values["before_step"] for one in found] == [0]
    assert len(findings(RULE, [_attempt(0), *_trained(1, 5), wrong, wrong])) == 2
    assert findings(RULE, [wrong, _attempt(5)]) == []


@pytest.mark.parametrize("name", ["training_rows", "peft", "learning_rate"])
def test_what_one_side_does_not_say(name: str) -> None:
    """None on either side, a name or a group that the other version does not have: not known, not compared."""
    assert findings(RULE, [_attempt(0, **{name: None}), *_trained(1, 5), _attempt(5, **{name: 7})]) == []
    assert findings(RULE, [_attempt(0, **{name: 7}), *_trained(1, 5), _attempt(5, **{name: None})]) == []
    bare = SetupObservation(0, "attempt", {"data": {}, "later": {name: 1}})
    assert findings(RULE, [bare, *_trained(1, 5), _attempt(5)]) == []
    assert findings(RULE, [SetupObservation(0, "attempt", {"data": 3}), *_trained(1, 5), _attempt(5)]) == []


def test_tokens_per_step() -> None:
    """Constant before, constant after, and another number, over three rows: said of an attempt of which nothing else
    was. The first row of an attempt, whose window may begin before it, does not count."""
    before = [_attempt(0), *_trained(1, 6), _attempt(6)]
    (found,) = findings(RULE, [*before, *_trained(7, 12, [700, *[500] * 5])])
    assert (found.step, found.values["changed"]) == (10, ["tokens_per_step 1,000 → 500"])
    assert findings(RULE, [*before, *_trained(7, 12)]) == []
    assert findings(RULE, [*before, *_trained(7, 12, [500, 500, 501, 500, 500, 500])]) == []
    uneven = [_attempt(0), *_trained(1, 6, [1000, 999, 1000, 1000, 1000, 1000]), _attempt(6)]
    assert findings(RULE, [*uneven, *_trained(7, 12, 500)]) == []
    changed = [_attempt(0), *_trained(1, 6), _attempt(6, rows_per_step=32), *_trained(7, 12, 500)]
    assert [one.step for one in findings(RULE, changed)] == [6]


def test_the_last_rows_before_count_too() -> None:
    """Constant over the first rows of the attempt before, but not to its end: it had no tokens per step of its own."""
    mixed = [_attempt(0), *_trained(1, 7, [1000, 1000, 1000, 1000, 1000, 900, 1000]), _attempt(7)]
    assert findings(RULE, [*mixed, *_trained(8, 13, 500)]) == []
    constant = [_attempt(0), *_trained(1, 7), _attempt(7)]
    assert [one.step for one in findings(RULE, [*constant, *_trained(8, 13, 500)])] == [11]


def test_each_attempt_has_its_own_tokens_per_step() -> None:
    """What the attempts before it had does not count, nor its first row, whose window may begin before it."""
    seen = [_attempt(0), *_trained(1, 6, 800), _attempt(6), *_trained(7, 12, [900, *[1000] * 5]), _attempt(12)]
    found = findings(RULE, [*seen, *_trained(13, 18, 500)])
    assert [(one.step, one.values["changed"]) for one in found] == [
        (10, ["tokens_per_step 800 → 1,000"]), (16, ["tokens_per_step 1,000 → 500"]),
    ]  # fmt: skip


def test_rows_of_several_steps() -> None:
    """Tokens are counted per step, however far apart the rows are."""
    seen = [_attempt(0), *_trained(2, 7, 1000, every=2), _attempt(12), *_trained(14, 19, 500, every=4)]
    (found,) = findings(RULE, seen)
    assert (found.step, found.values["changed"]) == (26, ["tokens_per_step 500 → 125"])


def test_rows_that_are_none_of_an_attempt() -> None:
    """Another set-up row says nothing of it, whatever it holds; training without an attempt has nothing to compare."""
    seen = [_attempt(0), *_trained(1, 5), SetupObservation(5, "plan", {"data": {"training_rows": 7}}), _attempt(5)]
    assert findings(RULE, seen) == []
    assert findings(RULE, _trained(1, 8)) == []
    (row,) = _trained(1, 1)
    assert RULE.step(RULE.initial(), row, SILENT) == (RULE.initial(), ())


def test_only_the_first_rows_are_remembered() -> None:
    """Four of an attempt: as many as make three paces. All others go by without a change of what the rule knows."""
    monitor = Monitor([RULE])
    known = [monitor.fold([_attempt(0), *_trained(1, last)])[0].rules for last in (3, 4, 5, 30)]
    assert known[0] != known[1] == known[2] == known[3]


def test_schedule_and_optimizer_begun_anew() -> None:
    """An attempt that begins them anew differs; one that goes on after it does not; a row that lacks them says
    nothing."""
    state, found = RULE.initial(), []
    for step, value in ((0, KEPT), (10, BEGUN_ANEW), (20, KEPT), (30, None), (40, KEPT)):
        facts = {} if value is None else {SCHEDULE: value}
        state, new = RULE.step(state, SetupObservation(step, ATTEMPT, {"state": facts}), SILENT)
        found.extend((one.step, one.values["changed"]) for one in new)
    assert found == [(10, ["schedule_and_optimizer kept → begun anew"])]
