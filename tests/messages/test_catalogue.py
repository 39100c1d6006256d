"""The sentences of each language: complete, the same numbers in all, the words that were agreed on, and short lines."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages.samples import every_value, values_of
from messages.snapshot import FOLDER, shown

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.catalogue import LANGUAGES, catalogue, codes, language_of, read_catalogue, retired
from ko_cpt_callbacks.messages.formatter import WIDTH, placeholders
from ko_cpt_callbacks.messages.terminal import CUT, columns
from ko_cpt_callbacks.run.finding import Finding, Severity

EACH = pytest.mark.parametrize("language", LANGUAGES)
PLURALS = re.compile(r"^n [^|]+(\|.+)?$")
NOT_ENGLISH = re.compile(
    r"\b(told|said|nobody|whoever|by way of indication|is to be|was to be|noises|labelled|learnt|recognis\w+|quantis\w+"
    r"|memoris\w*)\b"
)
OF_CODE = {"{values}"}
"""Korean texts that are the same in every language, being code or values."""
NOT_KOREAN = re.compile("견주|본체|까닭|말해 |되어지")


def _tables(language: str) -> dict[str, Any]:
    text = files("ko_cpt_callbacks.messages").joinpath(f"{language}.toml").read_text("utf-8")
    return tomllib.loads(text)


def _texts(tables: Mapping[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, value in tables.items():
        if isinstance(value, Mapping):
            yield from _texts(value, (*at, name))
        else:
            yield (*at, name), value


def _specs(template: str) -> set[str]:
    """Names of a template with how each is shown; a count's words are those of its language."""
    found = set()
    for _, name, spec, _ in Formatter().parse(template):
        if name is not None:
            found.add(f"{name}:{'n' if PLURALS.match(spec or '') else spec}")
    return found


def _is_template(key: tuple[str, ...]) -> bool:
    """Whether values are filled in: what explains a code has none, and may show a format with braces."""
    return key[-1] not in ("meaning", "decided", "more")


@EACH
def test_every_language_has_every_key(language: str) -> None:
    """Each text of English is there, each shows the same values in the same way, and none is empty or left over."""
    english, other = dict(_texts(_tables("en"))), dict(_texts(_tables(language)))
    assert other.keys() == english.keys()
    for key, text in english.items():
        if _is_template(key):
            assert _specs(other[key]) == _specs(text), key
        assert bool(other[key].strip()) == bool(text.strip()), key
        assert "\n\n" not in other[key].strip(), key


def test_retired_codes_are_the_same_in_every_language() -> None:
    """A code's successor is no sentence."""
    assert all(catalogue(language).retired == retired() for language in LANGUAGES)


@EACH
def test_every_code_has_sentences_and_an_explanation(language: str) -> None:
    """Both tables know the same codes, and a code is of small letters and hyphens."""
    sentences = catalogue(language)
    assert tuple(sorted(sentences.explanations)) == codes()
    assert {code for code, _ in sentences.wordings} == set(codes())
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes())
    assert all(one.meaning and one.decided and one.action for one in sentences.explanations.values())


@EACH
def test_snapshot(language: str) -> None:
    """Every sentence reads as it is kept; where a change is meant: python tests/messages/snapshot.py."""
    kept = (FOLDER / f"{language}.txt").read_text("utf-8")
    assert shown(language) == kept


def test_the_words_of_english() -> None:
    """Plain words and American spelling, as CONTRIBUTING asks."""
    for key, text in _texts(_tables("en")):
        assert not NOT_ENGLISH.search(re.sub(r"\{[^{}]*\}", "", text)), key


def test_the_words_of_korean() -> None:
    """The field's words; every sentence is Korean, and none has an English plural."""
    for key, text in _texts(_tables("ko")):
        assert not NOT_KOREAN.search(text), key
        assert not re.search(r":n [^}]", text), key
        if _is_template(key) and key[0] not in ("retired", "words") and text not in OF_CODE:
            assert re.search("[가-힣]", re.sub(r"\{[^{}]*\}", "", text)), key


# -- lines -------------------------------------------------------------------------------------------------------------


@EACH
def test_lines_of_usual_values_keep_every_word(language: str) -> None:
    """With the values of a long run no wording is so long that anything is left out, and each fits the width."""
    for (code, variant), wording in catalogue(language).wordings.items():
        line = catalogue(language).line("warning", code, variant, values_of(code, wording))
        assert columns(line) <= WIDTH
        assert CUT not in line.replace("(…)", ""), line
        assert re.match(rf"\[warning\] {code} (\w+)?@12400: \S.* → \S", line), line


@EACH
@settings(max_examples=40)
@given(data=st.data())
def test_every_line_fits_whatever_the_values(language: str, data: st.DataObject) -> None:
    """At most 140 columns on one line, for every code and variant, with values no run ever had."""
    (code, variant), wording = data.draw(st.sampled_from(sorted(catalogue(language).wordings.items())))
    usual = values_of(code, wording)
    names = sorted(usual.keys() - {"notes", "signs", "reasons", "would_help", "step", "split", "unit"})
    values = {name: data.draw(_like(usual[name])) for name in names}
    values = {**usual, **values, "split": data.draw(st.none() | st.text(max_size=300)), "step": data.draw(STEP)}
    finding = Finding(code, Severity.ERROR, values.pop("step"), values.pop("split"), values, variant=variant)
    for line in (finding.line(language), finding.line()):
        assert columns(line) <= WIDTH
        assert line.isprintable()
        assert line.startswith(f"[error] {code}")
    assert finding.message(language) and finding.short(language)


STEP = st.none() | st.integers(0, 10**15)


def _like(value: Any) -> st.SearchStrategy[Any]:
    """Values of the same kind, however odd."""
    if isinstance(value, (int, float)):
        return st.none() | st.floats() | st.integers(-(10**40), 10**40)
    if isinstance(value, list):
        return st.lists(st.text(max_size=60), max_size=12)
    return st.none() | st.text(max_size=300)


def test_a_number_of_a_line_is_whole() -> None:
    """A set's name of 300 letters goes before a digit of a loss does."""
    values = {"before": 2.9134, "after": 3.3061, "points": 22, "noises": 15.8, "first_step": 402, "noise": 0.02}
    finding = Finding("level-shift", Severity.WARNING, 410, "eval_" + "x" * 300, values, variant="up")
    assert finding.line().endswith(
        ": loss 2.913 → 3.306 at step 402, stayed 22 points (15.8 σ) → compare batches before and after"
    )


def test_a_line_as_it_stands_in_the_console() -> None:
    """Severity, code, set and step, what happened, what to do."""
    values = {"before": 2.9134, "after": 3.3061, "points": 22, "noises": 15.8, "first_step": 402, "noise": 0.02}
    finding = Finding("level-shift", Severity.WARNING, 410, "train", values, variant="up")
    assert finding.line() == (
        "[warning] level-shift train@410: loss 2.913 → 3.306 at step 402, stayed 22 points (15.8 σ) → compare batches "
        "before and after"
    )
    assert finding.line("ko") == (
        "[warning] level-shift train@410: 스텝 402에서 손실 2.913 → 3.306, 22점 유지(15.8 σ) → 전후 배치 비교"
    )


@EACH
def test_every_text_fits_a_terminal_of_few_letters(language: str) -> None:
    """In a C locale each line is escaped, never an exception; strict JSON holds it as it is."""
    for (code, variant), wording in catalogue(language).wordings.items():
        values = values_of(code, wording)
        finding = Finding(code, Severity.INFO, values.pop("step"), values.pop("split"), values, variant=variant)
        finding.line(language).encode("ascii", "backslashreplace").decode("ascii")
        assert json.loads(json.dumps(finding.as_dict(language), allow_nan=False))["short"] == finding.short(language)


# -- which language ----------------------------------------------------------------------------------------------------


def test_the_argument_beats_the_environment() -> None:
    """Neither names one: none. An empty variable is none."""
    assert language_of("--lang", "en", {"KO_CPT_LANG": "ko"}) == "en"
    assert language_of("--lang", None, {"KO_CPT_LANG": "ko"}) == "ko"
    assert language_of("--lang", None, {"KO_CPT_LANG": ""}) is None
    assert language_of("--lang", None, {}) is None


@pytest.mark.parametrize(
    ("named", "environment", "message"),
    [
        ("kr", {}, "--lang: found 'kr', expected one of en, ko; did you mean ko?"),
        ("EN", {}, "--lang: found 'EN', expected one of en, ko; did you mean en?"),
        ("xx", {"KO_CPT_LANG": "ko"}, "--lang: found 'xx', expected one of en, ko"),
        (None, {"KO_CPT_LANG": "korean"}, "KO_CPT_LANG: found 'korean', expected one of en, ko; did you mean ko?"),
    ],
)
def test_an_unknown_language_is_refused(named: str | None, environment: dict[str, str], message: str) -> None:
    """Where it stands, what was found, what is expected and which is near."""
    with pytest.raises(ConfigurationError) as caught:
        language_of("--lang", named, environment)
    assert str(caught.value) == message


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


def test_a_file_with_a_text_that_nothing_reads_is_refused() -> None:
    """A misspelled key is no silent loss of a sentence."""
    tables = _tables("en")
    tables["codes"]["plateau"]["shrot"] = "x"
    with pytest.raises(TypeError, match="shrot"):
        read_catalogue("en", tables)


def test_every_placeholder_of_the_samples_is_used() -> None:
    """The snapshot's values are those that sentences show."""
    every = {name for language in LANGUAGES for _, text in _texts(_tables(language)) for name in _names(text)}
    assert set(every_value()) <= every | {"split", "step"}
    assert math.isfinite(every_value()["loss"])


def _names(text: str) -> set[str]:
    try:
        return placeholders(text)
    except ValueError:
        return set()


def test_snapshots_are_of_the_languages() -> None:
    """One file a language."""
    assert {path.stem for path in Path(FOLDER).glob("*.txt")} == set(LANGUAGES)
