"""The sentence table: number rules, and that every code is complete."""

from __future__ import annotations

import math
import re

import pytest

from ko_cpt_callbacks.core import message
from ko_cpt_callbacks.core.message import CODES, MESSAGES, explanation, sentence


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Shows one value under one number rule."""

    def shown(spec: str, value: object) -> str:
        monkeypatch.setattr(message, "MESSAGES", {("x", ""): {"en": f"{{v:{spec}}}"}})
        return message.sentence("x", "", {"v": value})

    return shown


@pytest.mark.parametrize(
    ("spec", "value", "shown"),
    [
        ("loss", 3.0784, "3.078"),
        ("loss", 0, "0.000"),
        ("ppl", 21.715, "21.7"),
        ("ppl", 1.5, "1.50"),
        ("ppl", 275.04, "275"),
        ("ppl", 12345.0, "12,300"),
        ("ppl", 0.01234, "0.0123"),
        ("n", 12000, "12,000"),
        ("n row|rows", 1, "1 row"),
        ("n row|rows", 0, "0 rows"),
        ("n row|rows", 1200, "1,200 rows"),
        ("", "eval_ko", "eval_ko"),
        ("percent", -0.3148, "-31.5 %"),
        ("percent", 0.95, "95 %"),
        ("percent", 0.9999, "99.99 %"),
        ("percent", 1.0, "100 %"),
        ("percent", 12.34, "1,234 %"),
        ("names", ["eval", "eval_ko"], "eval, eval_ko"),
        ("names", [], "none"),
        ("notes", [], ""),
        ("signed", 0.0109, "+0.011"),
        ("signed", -2.5, "-2.500"),
        ("signed", 0.0, "0.000"),
        ("signed", -0.00042, "-4.2e-04"),
        ("reasons", [], ""),
        ("reasons", [{"code": "not-finite"}], " The per-row sums hold a loss that is not finite."),
        ("notes", ["no-error-bar"], " (There is no error bar, so the value itself decides.)"),
        ("loss", math.nan, "NaN"),
        ("loss", "NaN", "NaN"),
        ("ppl", math.inf, "infinite"),
        ("loss", "-Infinity", "-infinite"),
        ("n", None, "unknown"),
    ],
)
def test_how_numbers_are_shown(say, spec: str, value: object, shown: str) -> None:  # type: ignore[no-untyped-def]
    """Loss three decimals, perplexity three significant digits, counts with separators, and words."""
    assert say(spec, value) == shown


def test_unknown_sentence() -> None:
    """A code, variant or language that is not there raises, naming all three."""
    with pytest.raises(KeyError, match=r"code 'nope', variant 'x', language 'en'"):
        sentence("nope", "x", {})
    with pytest.raises(KeyError, match="language 'xx'"):
        sentence("not-enough-data", "", {}, "xx")


def test_every_code_has_sentences_and_an_explanation() -> None:
    """The two tables know the same codes, in the same languages, and nothing is empty."""
    assert {code for code, _ in MESSAGES} == set(CODES)
    assert MESSAGES
    for (code, _), columns in MESSAGES.items():
        assert set(columns) == set(CODES[code])
        assert "en" in columns
        assert all(columns.values())
    for code in CODES:
        found = explanation(code)
        assert found.meaning
        assert found.decided
        assert found.action
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)


def test_the_callbacks_own_sentences() -> None:
    """The two findings of the callback, in full."""
    assert sentence("note", "trackers-not-reached", {}) == (
        "The trackers do not get this callback's numbers because it could not move to the front of the "
        "callback list; log_history and metrics have them. Use KoCPTCallback(...).attach(trainer)."
    )
    found = sentence("note", "exact-loss-absent", {"split": "eval_ko", "reason": "the model returned no logits"})
    assert found == "eval_ko: no exact loss: the model returned no logits"
