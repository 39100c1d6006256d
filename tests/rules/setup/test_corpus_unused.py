"""`corpus-unused`: the mixture ends with another source, and a part of this one is never trained on."""

from __future__ import annotations

from typing import Any

import pytest

from ko_cpt_callbacks.rules.setup.threshold import CorpusUnused
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = CorpusUnused()
ROW: dict[str, Any] = {
    "split": "ko",
    "source": "ko",
    "share": 0.75,
    "read": 899,
    "available": 1000,
    "passes": 1.0,
    "corpus_bytes": 100_000,
    "shortest": ["en"],
}


def row(**changed: Any) -> SetupObservation:
    """What a run notes of a source."""
    return SetupObservation(0, "corpus-use", {**ROW, **changed})


def test_a_source_of_which_too_little_is_used() -> None:
    """A warning with the counts and the source that the mixture ends with, once, which asks for no stop."""
    state, (found,) = RULE.step(RULE.initial(), row(), SILENT)
    assert (found.code, found.severity, found.asks_to_stop) == ("corpus-unused", Severity.WARNING, False)
    values = {"source": "ko", "read": 899, "available": 1000, "used": 0.899, "shortest": ["en"]}
    assert (found.split, found.values) == (None, values)
    assert RULE.step(state, row(), SILENT) == (state, ())
    _, (other,) = RULE.step(state, row(source="web", split="web"), SILENT)
    assert other.values["source"] == "web"


def test_nine_tenths_are_enough() -> None:
    """From 90 % on nothing is said; a user sets another share."""
    assert RULE.step((), row(read=900), SILENT) == ((), ())
    assert CorpusUnused(least_used=0.95).step((), row(read=900), SILENT)[1] != ()


def test_a_text_to_try_a_recipe_out() -> None:
    """Below 100 kB of all sources together none is judged; a corpus whose bytes were not counted is."""
    assert RULE.step((), row(corpus_bytes=99_999), SILENT) == ((), ())
    assert RULE.step((), row(corpus_bytes=None), SILENT)[1] != ()
    assert CorpusUnused(least_bytes=0).step((), row(corpus_bytes=10), SILENT)[1] != ()


@pytest.mark.parametrize(
    "changed", [{"available": None}, {"source": None}, {"read": "many"}, {"read": -1}, {"shortest": []}]
)
def test_a_row_that_says_too_little(changed: dict[str, Any]) -> None:
    """A source that was not counted, a mixture that no source ended, and a row that is none: nothing is said."""
    assert RULE.step((), row(**changed), SILENT) == ((), ())
    assert RULE.step((), SetupObservation(0, "corpus-unused", ROW), SILENT) == ((), ())
