"""Findings in the language that an option, the environment or the run itself names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from check import made_run, sample, staged
from check.command import check, judged, write_state
from commands import offline
from typer.testing import CliRunner

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.staged_page import print_closing_page
from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.rules.registry import known_codes

KOREAN = re.compile("[가-힣]")
KEPT = {
    "all", "json", "eval", "train", "en", "ko", "nats", "redwhale", "Red", "Whale", "continued", "on", "Korean", "lora",
}  # fmt: skip
"""Words of a Korean page that are names: of sets, files, options, classes, units, and titles of baselines."""


@pytest.fixture
def joined(tmp_path: Path) -> Path:
    """A log of two runs, which has findings."""
    return write_state(tmp_path / "trainer_state.json", sample.joined())


def _sentences(found: dict[str, Any]) -> list[bool]:
    """Whether each finding's short and detail are Korean."""
    return [bool(KOREAN.search(one[name])) for one in found["findings"] for name in ("short", "detail")]


def test_check_in_korean(joined: Path) -> None:
    """The option changes sentences, in text and JSON, and nothing that was found."""
    english, korean = judged(joined), judged(joined, "--lang", "ko")
    assert any(english["findings"]) and not any(_sentences(english)) and all(_sentences(korean))
    for one, other in zip(english["findings"], korean["findings"], strict=True):
        assert {**one, "short": "", "detail": ""} == {**other, "short": "", "detail": ""}
    page = " ".join(check(joined, "--lang", "ko").stdout.split())
    assert all(one["short"] in page for one in korean["findings"])


def test_the_environment_names_it(joined: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option beats it."""
    monkeypatch.setenv("KO_CPT_LANG", "ko")
    assert all(_sentences(judged(joined)))
    assert not any(_sentences(judged(joined, "--lang", "en")))


def test_the_run_names_it(tmp_path: Path) -> None:
    """A folder is judged in its run's language, unless an option or the environment names one."""
    folder = tmp_path / "run" / keys.FOLDER
    folder.mkdir(parents=True)
    rows = [{"kind": "train", "attempt": 1, **row} for row in sample.joined() if "loss" in row]
    (folder / keys.ROWS_FILE).write_text("\n".join(map(json.dumps, rows)), "utf-8")
    told = {"task": "cpt", "targets": [], "language": "ko"}
    (folder / keys.RUN_FILE).write_text(json.dumps({"format": 1, "watch": told}), "utf-8")
    assert all(_sentences(judged(folder.parent))) and judged(folder.parent)["findings"]
    assert not any(_sentences(judged(folder.parent, "--lang", "en")))


@pytest.mark.parametrize("arguments", [["check"], ["compare", "--baseline", "redwhale"], ["explain", "plateau"]])
def test_a_wrong_one_is_refused(arguments: list[str], joined: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the option and by the environment: one line with what is near, status 2."""
    run = [] if arguments[0] == "explain" else [str(joined)]
    command = [arguments[0], *run, *arguments[1:]]
    done = CliRunner().invoke(app, [*command, "--lang", "kr"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--lang: found 'kr', expected one of en, ko; did you mean ko?" in done.stderr
    monkeypatch.setenv("KO_CPT_LANG", "eng")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert "KO_CPT_LANG: found 'eng', expected one of en, ko; did you mean en?" in done.stderr


def test_explain_in_korean() -> None:
    """Headings and facts are Korean; every fact begins a line of its own."""
    text = CliRunner().invoke(app, ["explain", "level-shift", "--lang", "ko"]).stdout
    found = catalogue("ko").explanation("level-shift")
    assert "\n뜻\n" in text and "\n할 일\n" in text
    assert all(fact[:20] in text for fact in (*found.meaning.split("\n"), *found.advice.split("\n")))


def test_compare_in_korean(tmp_path: Path) -> None:
    """The reasons of a comparison are sentences of the catalogue too."""
    first = made_run.write_run(tmp_path / "first", {"eval_ko": made_run.sums(3.0)})
    done = CliRunner().invoke(app, ["compare", first, "--baseline", "redwhale", "--json", "--lang", "ko"])
    (compared,) = json.loads(done.stdout)["comparisons"]
    reasons = [one["message"] for kind in ("reasons", "notes", "would_help") for one in compared["comparison"][kind]]
    assert reasons and all(KOREAN.search(reason) for reason in reasons)


def test_the_closing_page_of_a_staged_run_is_korean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its table, notes, and the list of what was written; names, files and what a stage trains stay as they are."""
    folders = staged.plan(tmp_path / "run", ["embedding", "odd-layers"])
    told = {"language": "ko"}
    staged.stage(folders[0], "embedding", (6.0, 4.0), told=told)
    staged.stage(folders[1], "odd-layers", (4.0, 3.5), text=5, ended=False, keep_rows=False, told=told)
    print_closing_page(tmp_path / "run", "redwhale")
    shown = capsys.readouterr().out.replace(str(tmp_path), "")
    assert "남긴 파일" in shown and "측정값과 진단" in shown
    named = {"embedding", "odd", "layers", "stages", "plan", "data", "run", "cpt", "check", "explain", "info"}
    codes = {word for code in known_codes() for word in code.split("-")}
    left = set(re.findall("[A-Za-z][a-z]+", shown)) - KEPT - named - codes
    assert not left, shown


def test_the_page_of_a_comparison_is_korean(tmp_path: Path) -> None:
    """No English word is left but names, units and titles of baselines, in the table and in a single comparison."""
    first = made_run.write_run(tmp_path / "1", {"eval_ko": made_run.sums(3.0), "eval_en": made_run.sums(text=3)})
    second = made_run.write_run(tmp_path / "2", {"eval_ko": made_run.sums(2.9)})
    several = [first, second, second]
    for words in ([first, second], several, [*several, "--all"], [second, "--baseline", "redwhale"]):
        page = CliRunner().invoke(app, ["compare", *words, "--lang", "ko"]).stdout.replace(str(tmp_path), "")
        left = set(re.findall("[A-Za-z][a-z]+", page)) - KEPT
        assert not left, page


def test_a_terminal_of_few_letters(joined: Path) -> None:
    """Hangul, arrows and σ are escaped where the terminal has no letters for them; the status is the same."""
    (done,) = offline(["check", str(joined), "--lang", "ko"], encoding="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u" in done.stdout
