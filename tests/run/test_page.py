"""The page of a run: the verdict line, the table, the findings, what to do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.messages.terminal import columns, encodable, sparkline, wrapped
from ko_cpt_callbacks.run.facts import RunFacts, RunState, RunVerdict, facts_of
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, TrainObservation
from ko_cpt_callbacks.run.page import RunPage, aligned, finding_lines, to_do, verdict_line
from ko_cpt_callbacks.run.progress import RunProgress, trace

SAID = catalogue("en")
LANGUAGES = pytest.mark.parametrize("language", ["en", "ko"])


def _facts(state: str, done: int = 300, planned: int | None = 10_000, by: str | None = None) -> RunFacts:
    return RunFacts(RunState(state), state == "finished", done, planned, RunVerdict.LOOK, None, by)


@pytest.mark.parametrize(
    ("facts", "grave", "line"),
    [
        (_facts("finished"), "", "OK"),
        (_facts("finished"), "ww", "LOOK: 2 warnings"),
        (_facts("finished"), "e", "STOP: 1 error"),
        (_facts("finished"), "ewi", "STOP: 1 error, 1 warning"),
        (_facts("stopped", 20, 100, "target-met"), "", "STOPPED by target-met at 20 of 100 steps · OK"),
        (_facts("unfinished"), "", "UNFINISHED 300 of 10,000 steps · nothing wrong so far"),
        (_facts("unfinished", planned=None), "w", "UNFINISHED after step 300 · LOOK: 1 warning"),
        (_facts("running"), "", "RUNNING 300 of 10,000 steps · nothing wrong so far"),
        (_facts("failed"), "e", "FAILED at 300: the last loss is not a number · STOP: 1 error"),
    ],
)
def test_the_verdict(facts: RunFacts, grave: str, line: str) -> None:
    """Whether the run is whole, then what its findings come to; notes alone are no verdict."""
    of = {"e": Severity.ERROR, "w": Severity.WARNING, "i": Severity.INFO}
    found = [Finding("diverged", of[one], 1, "train") for one in grave]
    assert verdict_line(facts, found, SAID).text == line


def test_a_hostile_name_is_shown_and_not_obeyed() -> None:
    """A callback's class, a set and a path with escapes, line ends or a turned reading show their codes."""
    evil = "\x1b[31m\u202e[red]<script>\n"
    progress = RunProgress()
    for step in (1, 2):
        progress = progress.add(EvalObservation(step, f"eval_{evil}", loss=3.0))
    page = RunPage(_facts("stopped", by=evil), progress.summary(), [], {evil: [1.0, 2.0]}, "en", head=[evil])
    text = "\n".join(line.text for line in page.lines(80))
    assert not set("\x1b\u202e") & set(text)
    assert "\\x1b[31m\\u202e[red]<script>\\n" in text


@LANGUAGES
@settings(max_examples=60)
@given(
    names=st.lists(st.text("abc한글_ -", min_size=1, max_size=70), max_size=9, unique=True),
    step=st.integers(1, 10**9),
    loss=st.one_of(st.none(), st.floats(0.001, 1e5), st.just(float("nan"))),
    done=st.integers(0, 10**9),
)
def test_a_page_fits_80_columns(language: str, names: list[str], step: int, loss: float | None, done: int) -> None:
    """Whatever sets there are and whatever they came to: no line is wider, but for a word that is; the page without
    wrapped findings is at most 25 lines and one for each wrapped line."""
    progress, curves = RunProgress(), dict[str, list[float | None]]()
    for at, value in ((step, 4.0), (step + 1, loss)):
        for name in names:
            seen = EvalObservation(at, name, exact_loss=value, exact_loss_se=0.02, bits_per_byte=1.2)
            progress = progress.add(seen)
            trace(curves, seen)
        train = TrainObservation(at, loss=value)
        progress = progress.add(train)
        trace(curves, train)
    summary = progress.summary()
    page = RunPage(facts_of(summary, ()), summary, (), curves, language, head=["runs/one"], unchecked=["a"] * 90)
    lines = [line.text for line in page.lines(80)]
    for line in lines:
        assert columns(line) <= 80 or " " not in line.strip() or any(name in line for name in names)
    assert len([line.text for line in page.lines(10_000)]) <= 25


def test_the_table_shows_every_number_at_any_width() -> None:
    """Where it is too wide the name of a set stands above its numbers; a column that is empty is left out."""
    rows = [["set", "loss", "PPL", "x"], ["eval_legal", "3.000", "20.1", ""], ["b", "1.000", "", ""]]
    assert aligned(rows, 80) == ["set          loss   PPL", "eval_legal  3.000  20.1", "b           1.000"]
    assert aligned(rows, 15) == ["set", "   loss   PPL", "eval_legal", "  3.000  20.1", "b", "  1.000"]


def test_the_same_is_said_once() -> None:
    """Of findings that say the same of a set the first is shown, five at most, gravest first; the rest are counted."""
    found = [Finding("of-mine", Severity.WARNING, step, f"eval_{name}") for step in (1, 2) for name in "abcdef"]
    found.append(Finding("gravely-mine", Severity.ERROR, 9, "train"))
    lines = [line.text for line in finding_lines(found, "en", 5)]
    assert [line.split(":")[0] for line in lines[:5]] == [
        "[error] gravely-mine train@9", *(f"[warning] of-mine eval_{name}@1" for name in "abcd"),
    ]  # fmt: skip
    assert lines[5:] == ["8 more findings (8 of-mine): --all lists them"]


def test_what_to_do() -> None:
    """What the gravest finding asks; else what its state does; else what the callback would have added."""
    warning = Finding("of-mine", Severity.WARNING, 9, "eval")
    error = Finding("gravely-mine", Severity.ERROR, 9, "train")
    assert "ko-cpt explain gravely-mine" in to_do(_facts("finished"), [warning, error], SAID, callback=True)
    assert "resume" in to_do(_facts("unfinished"), [], SAID, callback=True)
    assert "--watch" in to_do(_facts("running"), [], SAID, callback=False)
    assert "KoCPTCallback()" in to_do(_facts("finished"), [], SAID, callback=True)
    assert to_do(_facts("finished"), [], SAID, callback=False) == "To do: nothing"


def test_a_spike_and_a_nan_stay_visible() -> None:
    """However many rows one character stands for; a flat curve is flat."""
    curve: list[float | None] = [3.0] * 1000
    curve[500] = 9.0
    assert sparkline(curve, 40).count("█") == 1
    curve[600] = None
    assert "×" in sparkline(curve, 40)
    assert (sparkline([2.0, 2.0], 40), sparkline([], 40), sparkline([1e308, -1e308], 2)) == ("▁▁", "", "█▁")


@given(st.text(), st.sampled_from(["ascii", "latin-1", "cp949", "utf-8"]))
def test_any_stream_can_show_it(text: str, encoding: str) -> None:
    """Whatever the text, the stream's encoding has every character of what is left."""
    assert encodable(text, encoding).encode(encoding).decode(encoding) == encodable(text, encoding)


@given(st.lists(st.text("ab한글→", min_size=1, max_size=12), max_size=30), st.integers(20, 140))
def test_wrapping_loses_no_word(words: list[str], width: int) -> None:
    """Lines are no wider than asked for, and the words are those of the text."""
    lines = wrapped(" ".join(words), width)
    assert " ".join(lines).split() == words
    assert all(columns(line) <= max(width, 26) for line in lines)


def test_wrapping_keeps_the_first_blanks() -> None:
    """A row of a table begins with blanks where its first cells are empty: its numbers stay under their titles."""
    assert wrapped("      2.9 ± 0.1  18", 30) == ["      2.9 ± 0.1  18"]
    assert wrapped("    2.9 18", 8) == ["    2.9", "  18"]
    assert wrapped("", 8) == [""]
