"""What the checks of the set-up share: reading a row's values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from ko_cpt_callbacks.rules.rule import RuleInfo
from ko_cpt_callbacks.rules.setup.check import AdaptersFrozen, EmbeddingsNotPadded, PromptInLoss
from ko_cpt_callbacks.rules.setup.setup_rule import (
    SetupReason,
    SetupRule,
    count_of,
    first_of,
    names_of,
    some_names,
    some_of,
    text_of,
)
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import SetupObservation, TrainObservation
from ko_cpt_callbacks.signal.signals import SILENT


@pytest.mark.parametrize(
    ("value", "count", "some"),
    [(0, 0, None), (1, 1, 1), (7, 7, 7), (-1, None, None), (2.5, None, None), ("3", None, None), (None, None, None),
     (10**400, None, None)],
)  # fmt: skip
def test_counts(value: object, count: int | None, some: int | None) -> None:
    """Integers from 0 on, or from 1 on; anything else is none."""
    seen = SetupObservation(0, "stage", {"n": value})
    assert (count_of(seen, "n"), some_of(seen, "n")) == (count, some)
    assert count_of(seen, "m") is None


@pytest.mark.parametrize(
    ("value", "names"), [(["a", "b"], ["a", "b"]), (("a", 3, None), ["a"]), ([], []), ("ab", []), (3, []), (None, [])]
)
def test_names(value: object, names: list[str]) -> None:
    """The texts of a sequence; a text is none. None where there is not one."""
    seen = SetupObservation(0, "stage", {"names": value})
    assert names_of(seen, "names") == names
    assert some_names(seen, "names") == (names or None)


def test_texts() -> None:
    """A text that is not empty."""
    values = {"a": "x", "b": "", "c": 3}
    assert [text_of(SetupObservation(0, "stage", values), name) for name in "abcd"] == ["x", None, None, None]


@dataclass(frozen=True, slots=True)
class Frozen(SetupRule):
    """A check of a kind of its own: rows with a severity, and a name for the sentence."""

    info: ClassVar = RuleInfo("frozen", (Severity.WARNING, Severity.INFO), (SetupObservation,), may_stop=True)

    def judge(self, seen: SetupObservation) -> Finding | None:
        """A row with a severity."""
        severity = text_of(seen, "severity")
        return severity and self._found(seen, Severity(severity), {}, text_of(seen, "name") or "")  # type: ignore[return-value]


class Quiet(Frozen):
    """The same, and it may not stop a run."""

    info: ClassVar = replace(Frozen.info, may_stop=False)


def _row(step: int, **values: object) -> SetupObservation:
    return SetupObservation(step, "frozen", values)


def test_a_sentence_is_said_once() -> None:
    """Of each name and each set; rows that show nothing, and rows of other kinds, leave the state as it was."""
    rule, said = Frozen(), []
    state = rule.initial()
    assert state == ()
    for seen in (
        TrainObservation(1), _row(2), _row(3, severity="warning", name="a"), _row(4, severity="warning", name="a"),
        _row(5, severity="warning", name="b"), _row(6, severity="warning", name="a", split="eval"), _row(7),
    ):  # fmt: skip
        state, found = rule.step(state, seen, SILENT)
        said += [(one.step, one.variant, one.split) for one in found]
    assert said == [(3, "a", None), (5, "b", None), (6, "a", "eval")]
    assert rule.step(state, TrainObservation(8), SILENT) == (state, ())


@pytest.mark.parametrize(
    ("rule", "severity", "stops"),
    [(Frozen(), "warning", True), (Frozen(), "info", False), (Quiet(), "warning", False), (Quiet(), "info", False)],
)
def test_what_asks_to_stop(rule: Frozen, severity: str, stops: bool) -> None:
    """A finding that is no info, of a rule that may stop."""
    (found,) = rule.step((), _row(3, severity=severity), SILENT)[1]
    assert (found.code, found.severity, found.step, found.asks_to_stop) == ("frozen", severity, 3, stops)


def test_the_first_reason_that_a_row_shows() -> None:
    """All that its sentence needs is there, and it holds; a row that shows none is no mistake."""
    few = SetupReason("few", Severity.WARNING, {"n": count_of}, lambda seen: seen.values["n"] < 3)
    named = SetupReason("named", Severity.WARNING, {"n": count_of, "t": text_of})
    bare = SetupReason("bare", Severity.INFO)
    reasons = (few, named)
    assert first_of(reasons, _row(1, n=2, t="x")) == (few, {"n": 2})
    assert first_of(reasons, _row(1, n=3, t="x")) == (named, {"n": 3, "t": "x"})
    assert first_of(reasons, _row(1, n=3)) is None
    assert first_of(reasons, _row(1, t="x")) is None
    assert first_of((*reasons, bare), _row(1)) == (bare, {})


class Tabled(SetupRule):
    """A check that is a table of reasons, of rows of another kind."""

    reasons: ClassVar = (
        SetupReason("few", Severity.WARNING, {"n": some_of}, lambda seen: seen.values["n"] < 3),
        SetupReason("many", Severity.INFO, {"n": some_of, "source": text_of}),
    )
    row: ClassVar = "counted"
    info: ClassVar = replace(Frozen.info, code="tabled")


def test_a_check_that_is_a_table() -> None:
    """It reports the first reason that a row of its kind shows; each sentence once of a source."""
    rule, state, said = Tabled(), Tabled().initial(), []
    rows = ({"n": 2, "split": "eval"}, {"n": 3}, {"n": 4, "source": "ko"}, {"n": 5, "source": "ko"},
            {"n": 6, "source": "en"}, {"n": 0, "source": "ko"})  # fmt: skip
    for step, values in enumerate(rows):
        assert rule.step(state, SetupObservation(step, "tabled", values), SILENT) == (state, ())
        state, found = rule.step(state, SetupObservation(step, "counted", values), SILENT)
        said += [(one.code, one.severity, one.step, one.split, one.values, one.variant) for one in found]
    assert said == [
        ("tabled", Severity.WARNING, 0, "eval", {"n": 2}, "few"),
        ("tabled", Severity.INFO, 2, None, {"n": 4, "source": "ko"}, "many"),
        ("tabled", Severity.INFO, 4, None, {"n": 6, "source": "en"}, "many"),
    ]


def test_what_is_known_of_a_check_without_asking_it() -> None:
    """The severities of its reasons, the gravest first; what training itself needs comes before the rest."""
    assert AdaptersFrozen.info.severities == (Severity.ERROR, Severity.INFO)
    assert EmbeddingsNotPadded.info.severities == (Severity.INFO,)
    assert EmbeddingsNotPadded.info.place < PromptInLoss.info.place
