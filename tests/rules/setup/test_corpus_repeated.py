"""`corpus-repeated`: the stages go over a source more often than repeating it is worth."""

from __future__ import annotations

from typing import Any

import pytest

from ko_cpt_callbacks.rules.setup.threshold import CorpusRepeated
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = CorpusRepeated()


def row(passes: Any, source: Any = "en", size: Any = None) -> SetupObservation:
    """What a run notes of a source; without a size beside one of the hub, whose documents are not counted."""
    values = {"split": source, "source": source, "read": 6, "available": None, "passes": passes, "corpus_bytes": size}
    return SetupObservation(0, "corpus-use", values)


def test_a_source_that_is_repeated_too_often() -> None:
    """An info with the passes, once for each source."""
    state, (found,) = RULE.step(RULE.initial(), row(4.01), SILENT)
    assert (found.code, found.severity, found.asks_to_stop) == ("corpus-repeated", Severity.INFO, False)
    assert found.split is None
    assert found.values == {"source": "en", "passes": 4.01, "most_passes": 4}
    assert RULE.step(state, row(4.01), SILENT) == (state, ())
    assert len(RULE.step(state, row(9, "ko"), SILENT)[1]) == 1


def test_four_passes_are_not_too_many() -> None:
    """Up to four nothing is said; a user sets another number."""
    assert RULE.step((), row(4.0), SILENT) == ((), ())
    assert CorpusRepeated(most_passes=2).step((), row(3), SILENT)[1] != ()


def test_a_text_to_try_a_recipe_out() -> None:
    """Below 100 kB of all sources together none is judged."""
    assert RULE.step((), row(9, size=99_999), SILENT) == ((), ())
    assert RULE.step((), row(9, size=100_000), SILENT)[1] != ()


@pytest.mark.parametrize(("passes", "source"), [("many", "en"), (float("nan"), "en"), (None, "en"), (9, None)])
def test_a_row_that_says_too_little(passes: Any, source: Any) -> None:
    """No number or no source: nothing is said."""
    assert RULE.step((), row(passes, source), SILENT) == ((), ())
    assert RULE.step((), SetupObservation(0, "corpus-repeated", {"source": "en", "passes": 9}), SILENT) == ((), ())
