"""The sentences of each language: complete, and the same numbers in all."""

from __future__ import annotations

import re

import pytest

from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, catalogue


def test_unknown_sentence() -> None:
    """A variant or language that is not there raises, naming code, variant and language."""
    with pytest.raises(KeyError, match=r"code 'diverged', variant 'x', language 'en'"):
        catalogue().detail("diverged", "x", {})
    with pytest.raises(KeyError, match=r"code 'nope', variant 'x', language 'en'"):
        catalogue().wording("nope", "x")
    with pytest.raises(KeyError, match=r"found language 'kr', expected one of en, ko; did you mean ko\?"):
        catalogue("kr")


def test_a_finding_of_a_package_that_is_not_installed() -> None:
    """Its code and its values are shown, in every form of its sentence; its step and set stand in the line's head."""
    values = {"loss": 2.5, "places": ["a", "b"], "step": 7, "split": "eval"}
    said = catalogue()
    assert said.short("nope", "x", values) == "loss = 2.5, places = ['a', 'b']"
    assert "The rule nope is another package's" in said.detail("nope", "x", values)
    assert said.detail("nope", "x", values).endswith("Its values: loss = 2.5, places = ['a', 'b'].")
    line = said.line("warning", "nope", "x", values)
    assert line.startswith("[warning] nope eval@7: loss = 2.5, places = ['a', 'b'] → install the package")
    assert said.short("nope", "", {"step": 7, "split": None}) == "none"


def test_every_code_has_sentences_and_an_explanation() -> None:
    """The two tables know the same codes, and nothing is empty."""
    english = catalogue(DEFAULT_LANGUAGE)
    assert {code for code, _ in english.wordings} == set(english.explanations)
    assert all(one.short and one.detail and one.action for one in english.wordings.values())
    for code, found in english.explanations.items():
        assert found.meaning and found.decided and found.action
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
