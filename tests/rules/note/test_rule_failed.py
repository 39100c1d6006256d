"""`rule-failed`: a rule that raised is named once, and the others go on."""

from __future__ import annotations

from messages.shown import shown

from ko_cpt_callbacks.rules.note.note import RuleFailed
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT


def _noted(rule: str = "plateau", **values: object) -> SetupObservation:
    error = "IndexError: tuple index out of range"
    return SetupObservation(70, "rule-failed", {"rule": rule, "error": error, **values})


def test_a_rule_is_named_once() -> None:
    """Rule, step and error are said once; a second rule is said beside it; it never asks to stop."""
    rule = RuleFailed()
    state, found = rule.step(rule.initial(), _noted(), SILENT)
    assert [(one.severity.value, one.step, one.asks_to_stop, shown(one)) for one in found] == [
        ("warning", 70, False, ("at-a-row", {"error": "IndexError: tuple index out of range", "rule": "plateau"}))
    ]
    assert rule.step(state, _noted(), SILENT) == (state, ())
    assert [one.values["rule"] for one in rule.step(state, _noted("diverged"), SILENT)[1]] == ["diverged"]


def test_the_end_of_the_history() -> None:
    """A rule that raised when it judged the end is told apart from one that raised at a row."""
    (found,) = RuleFailed().step((), _noted(at_the_end=True), SILENT)[1]
    assert shown(found) == ("at-the-end", {"error": "IndexError: tuple index out of range", "rule": "plateau"})


def test_other_rows_say_nothing() -> None:
    """Neither set-up rows of another kind, nor one without rule and error."""
    rule = RuleFailed()
    assert rule.step((), SetupObservation(0, "plan", {"rule": "plateau", "error": "x"}), SILENT) == ((), ())
    assert rule.step((), SetupObservation(0, "rule-failed", {"rule": "plateau"}), SILENT) == ((), ())
