"""`embeddings-not-padded`: a resize left the vocabulary at a size that tensor cores do not like."""

from __future__ import annotations

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.setup.check import EmbeddingsNotPadded
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT

RULE = EmbeddingsNotPadded()
ROW = {"rows": 40_185, "multiple": 64, "padded_rows": 40_192}


def test_the_size_and_the_one_to_take() -> None:
    """An info, once."""
    seen = SetupObservation(0, RULE.code, ROW)
    state, (found,) = RULE.step(RULE.initial(), seen, SILENT)
    assert (found.severity, found.asks_to_stop) == ("info", False)
    assert shown(found) == ("", {"multiple": 64, "padded_rows": 40192, "rows": 40185})
    assert RULE.step(state, seen, SILENT) == (state, ())


@pytest.mark.parametrize("missing", list(ROW))
def test_a_row_that_says_too_little_is_silent(missing: str) -> None:
    """Without one of the numbers nothing is said; nor by rows of other kinds."""
    values = {name: value for name, value in ROW.items() if name != missing}
    assert RULE.step((), SetupObservation(0, RULE.code, values), SILENT) == ((), ())
    assert RULE.step((), SetupObservation(0, "embeddings-frozen", ROW), SILENT) == ((), ())
