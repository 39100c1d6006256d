"""Are these the rows of before? Fingerprints of one form tell, others do not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ko_cpt_callbacks.run.fold import NO_ROWS, EvalRows, same_text
from ko_cpt_callbacks.run.observation import EvalObservation

OLD, NEW = "utf8-0123456789abcdef", "utf8-v2-" + 64 * "a"


def _rows(prints: Sequence[str | None], tokens: Sequence[int | None] | None = None) -> list[EvalRows]:
    """What is known after each evaluation."""
    rows, found = NO_ROWS, []
    for i, text in enumerate(prints):
        count = None if tokens is None else tokens[i]
        rows = rows.add(EvalObservation(10 * (i + 1), loss=3.0, fingerprint=text, tokens=count))
        found.append(rows)
    return found


def _anew(prints: Sequence[str | None], tokens: Sequence[int | None] | None = None) -> list[int]:
    return [rows.step or 0 for rows in _rows(prints, tokens) if rows.anew]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("utf8-00", "utf8-00", True),
        ("utf8-00", "utf8-01", False),
        ("ids-00", "utf8-01", None),
        ("utf8-00", "utf8-0011", None),
        ("utf8-00", "utf8-2-00", None),
        ("utf8-00", None, None),
        (None, None, None),
        ("", "utf8-00", None),
        ("00", "01", False),
        (OLD, NEW, None),
        (NEW, "ids-v2-" + 64 * "a", None),
        (NEW, NEW, True),
        (NEW, NEW[:-1] + "0", False),
    ],
)
def test_same_text(before: str | None, after: str | None, said: bool | None) -> None:
    """Of one form and one length two fingerprints are the same or not; of different ones nothing is known."""
    assert same_text(before, after) is said
    assert same_text(after, before) is said


def test_where_comparisons_begin_anew() -> None:
    """At the first evaluation of other rows, once; an evaluation without a fingerprint, or with one of another form,
    forgets nothing."""
    assert _anew(["a-1", "a-1", "a-2", "a-2"]) == [30]
    assert _anew(["a-1", "a-1", None, "a-2", "a-2"]) == [40]
    assert _anew(["a-1", "b-2", "a-1", "b-2"]) == []
    assert _anew(["a-1", "b-2", "a-3", "b-2"]) == [30]
    assert _anew([None, "a-1", "a-1"]) == []
    assert _rows(["a-1", "a-1", "a-2", "a-2"])[-1].since == 30


def test_other_tokens_of_the_same_text() -> None:
    """The same text with another number of scored tokens is other rows; counts beside another form say nothing."""
    assert _anew(["a-1", "a-1", "a-1"], [900, 900, 450]) == [30]
    assert _rows(["a-1", "a-1"], [900, 450])[-1].labels
    assert _anew(["a-1", "a-1", "a-1"], [900, None, 900]) == []
    assert _anew(["a-1", "b-1", "a-1"], [900, 450, 900]) == []


def test_drawn_anew_each_time() -> None:
    """Three changes in a row make a set that is drawn each time: comparisons then go on, until two evaluations have the
    same rows."""
    rows = _rows(["a-1", "a-2", "a-3", "a-4", "a-5", "a-5", "a-5"])
    assert [one.anew for one in rows] == [False, True, True, False, False, True, False]
    assert [one.drawn for one in rows] == [False, False, False, True, True, False, False]


def test_a_repeat_replaces() -> None:
    """The same step evaluated twice counts once, with its later rows, also where the first of the two had others."""
    rows = NO_ROWS
    for step, text in ((10, "a-1"), (20, "a-1"), (30, "a-2"), (30, "a-1"), (40, "a-1")):
        rows = rows.add(EvalObservation(step, loss=3.0, fingerprint=text))
        assert not rows.anew or (step, text) == (30, "a-2")
    assert (rows.changes, rows.since) == (0, None)
