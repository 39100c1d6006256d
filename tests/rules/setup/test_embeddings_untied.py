"""`embeddings-untied`: one matrix by the configuration, two in training."""

from __future__ import annotations

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.setup.check import EmbeddingsUntied
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = EmbeddingsUntied()
FIX = "To save both: model.config.tie_word_embeddings = False."


def test_it_names_what_is_trained() -> None:
    """A warning, once, with the line that came with the row."""
    seen = SetupObservation(0, RULE.code, {"trained": ["model.embed_tokens", "lm_head"], "fix": FIX})
    state, (found,) = RULE.step(RULE.initial(), seen, SILENT)
    assert (found.severity, found.asks_to_stop) == (Severity.WARNING, True)
    assert shown(found) == (
        "",
        {
            "fix": "To save both: model.config.tie_word_embeddings = False.",
            "trained": ["model.embed_tokens", "lm_head"],
        },
    )  # fmt: skip
    assert RULE.step(state, seen, SILENT) == (state, ())


@pytest.mark.parametrize(
    "values", [{}, {"trained": [], "fix": FIX}, {"trained": ["lm_head"]}, {"trained": 3, "fix": FIX}]
)
def test_a_row_without_what_the_sentence_shows_is_silent(values: dict[str, object]) -> None:
    """Where nothing is trained the two cannot drift apart."""
    assert RULE.step((), SetupObservation(0, RULE.code, values), SILENT) == ((), ())


def test_other_rows_are_silent() -> None:
    """Rows of other kinds say nothing."""
    assert RULE.step((), SetupObservation(0, "stage", {"trained": ["lm_head"], "fix": FIX}), SILENT) == ((), ())
