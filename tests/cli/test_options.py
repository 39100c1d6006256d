"""Options of every command: numbers outside of their range, and options that contradict each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from check.command import write_state
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app

if TYPE_CHECKING:
    from click.testing import Result

MANY = "9" * 4000
LOSS = ("compare", "--baseline", "redwhale", "--loss")
NEW = ("recipes", "new", "new.yaml", "--base", "base", "--corpus", "ko.txt", "--yes")

# A command, values of its last option, and what each error has.
NUMBERS: list[tuple[tuple[str, ...], tuple[str, ...], str]] = [
    (("report", "RUN", "--gpu-price"), ("inf", "nan", "-1", "1e400", "1e10"), "expected a price from 0 to 1,000,"),
    (LOSS, ("inf", "nan", "0", "-3", "1e300", MANY), "--loss: found"),
    (LOSS, ("16.4", "143"), "did you mean"),
    ((*LOSS, "2.8", "--se"), ("inf", "nan", "0", "3"), "expected a number above 0 and at most 2.8"),
    ((*LOSS, "2.8", "--bytes-per-token"), ("inf", "nan", "0", "1e300", "1e-300"), "expected a number from 0.5 to 100"),
    ((*LOSS, "2.8", "--bits-per-byte"), ("inf", "nan", "0", "41"), "expected a number above 0 and at most 40"),
    ((*LOSS, "2.8", "--bits-per-byte"), ("1e-300", "0.01"), "bytes per token, expected 0.5 to 100; check both"),
    (("forecast", "RUN", "--at"), ("0", "nan", "1.1", "inf"), "expected a part of the run above 0 and at most 1"),
    (("forecast", "RUN", "--steps"), ("0", "-1", MANY), "expected a step from 1 to 9,007,199,254,740,992"),
    (("forecast", "RUN", "--target"), ("0", "nan", "inf", "1e300", "-2"), "expected a loss above 0, at most the 12.55"),
    (("forecast", "RUN", "--target"), ("16",), "did you mean 'eval_ppl<16'?"),
    (("data", "quickstart", "--workers"), ("0", "-1", "100000000", MANY), "expected a whole number from 1 to 1,024"),
    (("recipes", "show", "quickstart", "--gpu-memory", "--gpus"), ("0", "-1", MANY), "from 1 to 1,000,000"),
    ((*NEW, "--card"), ("0", "nan", "inf", "1e300", "-1"), "--card: found"),
    ((*NEW, "--hours"), ("0", "nan", "inf", "1e300", "-1"), "--hours: found"),
    (("measure", "x", "--window"), ("3", MANY), "expected a whole number from 4 to 100,000,000"),
    (("measure", "x", "--context"), ("0", MANY), "expected a whole number from 1 to 100,000,000"),
    (("measure", "x", "--batch-size"), ("0", MANY), "expected a whole number from 1 to 1,000,000"),
    (("measure", "x", "--by", "vocabulary", "--base"), ("0", MANY), "expected a whole number from 1 to 100,000,000"),
    (("check", "RUN", "--rule"), (f"loss-spike.most={MANY}",), "for most of loss-spike, expected a whole number"),
    (
        ("check", "RUN", "--target"),
        ("loss<2@step:1e300", f"loss<2@tokens:{MANY}", "loss<2@step:0"),
        "with a whole number N from 1 to 9,007,199,254,740,992",
    ),
    (("check", "RUN", "--target"), ("loss<2,confirm=1001", f"loss<2,confirm={MANY}"), "a whole number from 1 to 1,000"),
]
PAIRS: dict[tuple[str, ...], str] = {
    ("check", "RUN", "--json", "--format", "csv"): "--json: found with --format csv, expected json; leave one",
    ("check", "RUN", "--json", "--format", "text"): "--json: found with --format text, expected json; leave one",
    ("check", "RUN", "--all", "--format", "md"): "--all: found with --format md, expected text or json; leave one",
    ("check", "RUN", "--watch", "--json"): "--watch: found with --json, expected text; leave one",
    ("check", "RUN", "--watch", "--format", "github"): "--watch: found with --format github, expected text; leave one",
    ("measure", "x", "--by", "document", "--json"): "--by document: found with --json, expected text; leave one",
    ("baselines", "--json", "show", "redwhale"): "--json: found before a command, expected after it",
    ("recipes", "--json", "show", "quickstart"): "--json: found before a command, expected after it",
    ("checkpoints", "RUN", "--yes"): "--yes: found without --prune, expected both",
    ("recipes", "show", "quickstart", "--gpus", "2"): "found without --gpu-memory, expected with it",
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's log, in the folder where the commands run."""
    monkeypatch.chdir(tmp_path)
    return write_state(tmp_path / "run" / "trainer_state.json", [{"step": 10, "loss": 2.5}, {"step": 20, "loss": 2.4}])


def _given(words: tuple[str, ...], run: Path) -> Result:
    return CliRunner().invoke(app, [str(run) if word == "RUN" else word for word in words])


@pytest.mark.parametrize(
    ("words", "value", "said"),
    [
        pytest.param(words, value, said, id=f"{words[0]} {words[-1]} {value[:20]}")
        for words, values, said in NUMBERS
        for value in values
    ],
)
def test_a_number_outside_of_its_range(run: Path, words: tuple[str, ...], value: str, said: str) -> None:
    """NaN, the infinite, what is too small and too large: one short line that names the option and the range."""
    before = sorted(run.parent.parent.rglob("*"))
    found = _given((*words, value), run)
    assert (found.exit_code, found.stdout) == (2, ""), found.output
    (line,) = found.stderr.splitlines()
    assert said in line and f"{words[-1]}: found" in line.replace("target eval_loss: found", "--target: found")
    assert len(line) < 300
    assert sorted(run.parent.parent.rglob("*")) == before


@pytest.mark.parametrize("words", PAIRS, ids=" ".join)
def test_options_that_contradict_each_other(run: Path, words: tuple[str, ...]) -> None:
    """Neither wins without a word."""
    found = _given(words, run)
    assert (found.exit_code, found.stdout) == (2, ""), found.output
    assert PAIRS[words] in found.stderr


def test_a_word_of_an_option(run: Path) -> None:
    """The words that there are, and the one that was probably meant."""
    found = _given(("recipes", "show", "quickstart", "--gpu-memory", "--sharding", "zero3"), run)
    said = "--sharding: found 'zero3', expected one of none, zero2, full; did you mean zero2?"
    assert (found.exit_code, found.stderr) == (2, f"ko-cpt recipes show: {said}\n")


def test_options_that_agree(run: Path) -> None:
    """The same form asked for twice is one, and JSON holds all there is."""
    once = _given(("check", "RUN", "--json"), run)
    assert json.loads(once.stdout)["format"] == 1
    assert _given(("check", "RUN", "--json", "--format", "json", "--all"), run).stdout == once.stdout


@pytest.mark.parametrize("command", [("compare", "--all", "--baseline", "redwhale"), ("check",), ("compare", "--all")])
@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_loss_of_hundreds_of_digits(run: Path, command: tuple[str, ...], language: str) -> None:
    """What a log holds is shown in a few digits, whatever it is."""
    rows = [
        {"step": step, "eval_loss": loss, "eval_exact_loss": loss, "eval_tokens": 1000, "eval_bytes": size}
        for step, loss, size in ((10, 1e300, 1), (20, 1e290, 10**300))
    ]
    write_state(run, [{**row, "eval_runtime": 1.0} for row in rows])
    other = write_state(
        run.parent / "other" / "trainer_state.json", [{"step": 10, "eval_loss": 3.0, "eval_runtime": 1}]
    )
    beside = (str(other),) if "--baseline" not in command and command != ("check",) else ()
    found = _given((command[0], "RUN", *beside, *command[1:], "--lang", language), run)
    assert found.exit_code == 0, found.output
    assert max(len(part) for part in found.stdout.split()) < 30 + len(str(run))
