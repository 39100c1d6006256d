"""The sentences of each language: complete, and the same numbers in all."""

from __future__ import annotations

import re

import pytest

from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, catalogue


def test_unknown_sentence() -> None:
    """A code, variant or language that is not there raises, naming all three."""
    with pytest.raises(KeyError, match=r"code 'nope', variant 'x', language 'en'"):
        catalogue().detail("nope", "x", {})
    with pytest.raises(KeyError, match=r"found language 'kr', expected one of en, ko; did you mean ko\?"):
        catalogue("kr")


def test_every_code_has_sentences_and_an_explanation() -> None:
    """The two tables know the same codes, and nothing is empty."""
    english = catalogue(DEFAULT_LANGUAGE)
    assert {code for code, _ in english.wordings} == set(english.explanations)
    assert all(one.short and one.detail and one.action for one in english.wordings.values())
    for code, found in english.explanations.items():
        assert found.meaning and found.decided and found.action
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
