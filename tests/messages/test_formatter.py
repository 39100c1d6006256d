"""How numbers, names and lists are shown, and that a line always fits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.messages.formatter import WIDTH, Shown, fitted, placeholders
from ko_cpt_callbacks.messages.terminal import columns, shortened


def _shown(room: int | None = None, compact: bool = False) -> Shown:
    english = catalogue()
    return Shown(english.words, english.notes, english.reasons, english.labels, room, compact)


@pytest.mark.parametrize(
    ("spec", "value", "shown"),
    [
        ("loss", 3.0784, "3.078"),
        ("loss", 0, "0.000"),
        ("loss", 1e300, "1.00e+300"),
        ("ppl", 21.715, "21.7"),
        ("ppl", 1.5, "1.50"),
        ("ppl", 275.04, "275"),
        ("ppl", 12345.0, "12,300"),
        ("ppl", 0.01234, "0.0123"),
        ("ppl", 1e300, "1.00e+300"),
        ("n", 12000, "12,000"),
        ("n", 10**400, "1.00e+400"),
        ("n row|rows", 1, "1 row"),
        ("n row|rows", 0, "0 rows"),
        ("n row|rows", 1200, "1,200 rows"),
        ("", "eval_ko", "eval_ko"),
        ("percent", -0.3148, "-31.5 %"),
        ("percent", 0.95, "95 %"),
        ("percent", 0.9999, "99.99 %"),
        ("percent", 1.0, "100 %"),
        ("percent", 12.34, "1,234 %"),
        ("percent", 1e9, "1.00e+11 %"),
        ("names", ["eval", "eval_ko"], "eval, eval_ko"),
        ("names", [], "none"),
        ("notes", [], ""),
        ("signed", 0.0109, "+0.011"),
        ("signed", -2.5, "-2.500"),
        ("signed", 0.0, "0.000"),
        ("signed", -0.00042, "-4.2e-04"),
        ("signed", 1e30, "+1.00e+30"),
        (".1f", 3.14, "3.1"),
        ("reasons", [], ""),
        ("loss", math.nan, "NaN"),
        ("loss", "NaN", "NaN"),
        ("ppl", math.inf, "infinite"),
        ("loss", "-Infinity", "-infinite"),
        ("n", None, "unknown"),
    ],
)
def test_how_values_are_shown(spec: str, value: object, shown: str) -> None:
    """Loss three decimals, perplexity three significant digits, counts with separators; never hundreds of digits."""
    assert _shown().render(f"{{v:{spec}}}", {"v": value}) == shown


def test_lists_of_sentences() -> None:
    """Notes and reasons are their sentences, each after a space, with the numbers of the reason."""
    reasons = [{"code": "no-loss", "set": "eval_ko"}, {"code": "not-finite"}]
    assert _shown().render("{v:reasons}", {"v": reasons}) == (
        f" {catalogue().reason(reasons[0])} {catalogue().reason(reasons[1])}"
    )
    assert _shown().render("{v:notes}", {"v": ["no-error-bar"]}) == f" {catalogue().notes['no-error-bar']}"


def test_a_missing_value_is_refused() -> None:
    """A template that shows what a finding does not have raises where it is rendered."""
    with pytest.raises(KeyError, match="loss"):
        _shown().render("{loss:loss}", {"step": 3})


def test_a_unit_chooses_how_its_number_is_shown() -> None:
    """The rule of a number may be a value itself."""
    assert _shown().render("{value:{unit}}", {"value": 21.715, "unit": "ppl"}) == "21.7"
    assert placeholders("{value:{unit}} at {step:n}") == {"value", "unit", "step"}


@pytest.mark.parametrize(
    ("before", "mark", "particle"),
    [
        ("eval_ko", "은/는", "는"), ("train", "은/는", "은"), ("손실", "이/가", "이"), ("배치", "이/가", "가"),
        ("3.10", "을/를", "을"), ("3.12", "을/를", "를"), ("100", "과/와", "과"), ("12,000", "이/가", "이"),
        ("1,000,000,000,000", "이/가", "가"), ("7", "으로/로", "로"), ("3", "으로/로", "으로"), ("길", "으로/로", "로"),
        ("평균 (100)", "은/는", "은"), ("95 %", "을/를", "를"), ("GPU", "이/가", "가"), ("LLM", "이/가", "이"),
        ("model", "으로/로", "로"), ("step", "이/가", "이"), ("baseline", "은/는", "은"), ("redwhale", "과/와", "과"),
        ("", "은/는", "는"),
    ],
)  # fmt: skip
def test_korean_particles(before: str, mark: str, particle: str) -> None:
    """The particle fits the sound before it: a syllable's final consonant, how a number or a Latin word is read."""
    assert _shown().render(f"{{v}}[{mark}] ", {"v": before}) == f"{before}{particle} "


def test_a_value_is_never_read_as_a_template() -> None:
    """Braces and particle marks in a set's name stay what they are."""
    assert _shown().render("{v}[은/는]", {"v": "{x}[이/가]나"}) == "{x}[이/가]나는"


@given(text=st.text(st.characters(exclude_categories=["C", "M", "Z"]), min_size=1), room=st.integers(1, 40))
def test_shortened_text_fits(text: str, room: int) -> None:
    """Whatever the text, it fills at most the room; what fits stays as it is."""
    short = shortened(text, room)
    assert columns(short) <= max(room, 1)
    assert short == text or columns(text) > room


@given(number=st.integers(0, 10**12), room=st.integers(1, 30))
def test_no_number_is_cut(number: int, room: int) -> None:
    """A number is in a shortened text whole or not at all."""
    short = shortened(f"rows {number:,} of the set", room)
    assert f"{number:,}" in short or not any(char.isdigit() for char in short)


@given(
    short=st.text(st.characters(codec="utf-8", exclude_categories=["C", "P"])),
    action=st.text(st.characters(codec="utf-8", exclude_categories=["C", "P"])),
    split=st.text(),
    number=st.floats() | st.integers(),
)
def test_every_line_fits(short: str, action: str, split: str, number: float) -> None:
    """Whatever another package's sentences, a set's name and a number are, the line fits, and is one line."""
    line = fitted(
        _shown(), "[warning] some-code {split}@{n}", f"{short} {{n:n}}", action, {"split": split, "n": number}
    )
    assert columns(line) <= WIDTH
    assert line.isprintable()
    assert line.startswith("[warning] some-code ")


def test_names_become_shorter_before_anything_else() -> None:
    """A long list is cut after a whole name, and all numbers and words of the line stay."""
    names = [f"model.layers.{i}.self_attn.q_proj" for i in range(40)]
    line = fitted(_shown(), "[info] x", "{n:n} weights in {names:names}", "use bf16", {"n": 12345678, "names": names})
    assert line == (
        "[info] x: 12,345,678 weights in model.layers.0.self_attn.q_proj, … → use bf16"
    )
