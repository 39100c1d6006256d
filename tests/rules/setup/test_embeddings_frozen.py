"""`embeddings-frozen`: new tokens whose rows are not trained."""

from __future__ import annotations

from typing import Any

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.setup.check import EmbeddingsFrozen
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = EmbeddingsFrozen()
WHOLE: dict[str, Any] = {
    "new_tokens": 8000, "frozen": ["model.embed_tokens", "lm_head"], "untrained": True, "fix": "Do this.",
}  # fmt: skip


def test_rows_that_nobody_trained_are_a_warning() -> None:
    """The sentence names how many, where, and the line that trains them; once."""
    seen = SetupObservation(0, RULE.code, WHOLE)
    state, (found,) = RULE.step(RULE.initial(), seen, SILENT)
    assert (found.severity, found.variant, found.asks_to_stop) == (Severity.WARNING, "untrained", True)
    assert shown(found) == (
        "untrained",
        {
            "fix": "Do this.", "frozen": ["model.embed_tokens", "lm_head"], "new_tokens": 8000,
        },
    )  # fmt: skip
    assert RULE.step(state, seen, SILENT) == (state, ())


def test_rows_that_alone_tell_of_a_resize() -> None:
    """Where nothing but the rows shows the growth, the sentence says what was seen; without it the row is as before."""
    _, (found,) = RULE.step((), SetupObservation(0, RULE.code, {**WHOLE, "seen": "rows"}), SILENT)
    assert (found.severity, found.variant, found.asks_to_stop) == (Severity.WARNING, "alike", True)
    assert shown(found) == (
        "alike",
        {
            "fix": "Do this.", "frozen": ["model.embed_tokens", "lm_head"], "new_tokens": 8000,
        },
    )  # fmt: skip
    _, (known,) = RULE.step((), SetupObservation(0, RULE.code, {**WHOLE, "seen": "vocabulary"}), SILENT)
    assert known.variant == "untrained"


@pytest.mark.parametrize("untrained", [False, None, 1, "yes"])
def test_rows_that_may_have_been_trained_are_an_info(untrained: object) -> None:
    """Only a clear yes is a warning: an earlier stage may have trained them."""
    _, (found,) = RULE.step((), SetupObservation(0, RULE.code, {**WHOLE, "untrained": untrained}), SILENT)
    assert (found.severity, found.variant, found.asks_to_stop) == (Severity.INFO, "maybe-trained", False)


@pytest.mark.parametrize(
    "change",
    [{"new_tokens": 0}, {"new_tokens": None}, {"frozen": []}, {"frozen": "lm_head"}, {"frozen": [1]}, {"fix": ""}],
)
def test_a_row_without_what_the_sentence_shows_is_silent(change: dict[str, object]) -> None:
    """No new tokens, nothing frozen, no way out: nothing is said."""
    assert RULE.step((), SetupObservation(0, RULE.code, {**WHOLE, **change}), SILENT) == ((), ())


def test_other_rows_are_silent() -> None:
    """Rows of other kinds say nothing."""
    assert RULE.step((), SetupObservation(0, "stage", WHOLE), SILENT) == ((), ())
