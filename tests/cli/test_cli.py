"""The command line as a user runs it: `explain`, `--version`, the help."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from commands import ROOT, Ended, offline
from typer.testing import CliRunner

import ko_cpt_callbacks
from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.messages.catalogue import catalogue, codes
from ko_cpt_callbacks.rules.registry import ALL_RULES
from ko_cpt_callbacks.rules.rule import limits_of


@pytest.mark.parametrize("start", [("-c", "from ko_cpt_callbacks.cli import main; main()"), ("-m", "ko_cpt_callbacks")])
def test_version(start: tuple[str, ...]) -> None:
    """``--version`` prints name and version, as console script and as module."""
    command = [sys.executable, *start, "--version"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert (found.returncode, found.stdout) == (0, f"ko-cpt {ko_cpt_callbacks.__version__}\n")


@pytest.fixture(scope="module")
def alone() -> dict[str, Ended]:
    """How commands end in a process without the heavy libraries: whoever only asks need not have them."""
    commands = ["", "explain", "explain diverged", "explain nonfinite", "explain zzz", "explain nan-filter-on"]
    commands += ["explain memorising", "--version"]
    return dict(zip(commands, offline(*(command.split() for command in commands)), strict=True))


def test_version_without_the_heavy_libraries(alone: dict[str, Ended]) -> None:
    """Name and version need none of them."""
    assert alone["--version"] == (0, f"ko-cpt {ko_cpt_callbacks.__version__}\n", "")


@pytest.mark.parametrize("code", codes())
def test_explain(code: str) -> None:
    """What a code means, how it is decided, what to do and where more is, each under its heading and no word lost."""
    found = CliRunner().invoke(app, ["explain", code])
    said = catalogue().explanation(code)

    rule = next(rule for rule in ALL_RULES if rule.code == code)
    stop = "may stop a run (stop_on)" if rule.info.may_stop else "never stops a run"
    words = [f"{code} ({', '.join(rule.info.severities)}; {stop}; since {rule.info.since})"]
    for title, one in [("", said), *((f"{code}: {reason}", one) for reason, one in said.reasons.items())]:
        words.append(f"{title} What it means {one.meaning} How it is decided {one.decided} What to do {one.advice}")
    if limits_of(rule):
        words.append("Limits (rules= of the callback, --rule of check)")
        words.extend(f"{name}={value:.4g}" for name, value in limits_of(rule).items())
    words.append(f"More, with an example and what looks like it docs/findings/{code}.md in the repository")

    assert found.exit_code == 0
    assert found.stdout.split() == " ".join(words).split()
    assert max(map(len, found.stdout.splitlines())) <= 96


def test_explain_without_the_heavy_libraries(alone: dict[str, Ended]) -> None:
    """What is said is the same where torch and the like cannot be imported."""
    assert alone["explain diverged"] == (0, CliRunner().invoke(app, ["explain", "diverged"]).stdout, "")


def test_explain_without_a_code_lists_them(alone: dict[str, Ended]) -> None:
    """Every code, one a line."""
    assert alone["explain"].stdout.split() == list(codes())


def test_unknown_code(alone: dict[str, Ended]) -> None:
    """An unknown code names itself, what is known and the nearest, on stderr with status 2."""
    expected = f"ko-cpt explain: found 'nonfinite', expected one of {', '.join(codes())}. Did you mean 'non-finite'?\n"

    assert alone["explain nonfinite"] == (2, "", expected)


def test_code_like_no_other(alone: dict[str, Ended]) -> None:
    """Where nothing is near nothing is suggested."""
    assert "found 'zzz'" in alone["explain zzz"].stderr and "Did you mean" not in alone["explain zzz"].stderr


@pytest.mark.parametrize(("code", "now"), [("nan-filter-on", "note"), ("memorising", "memorizing")])
def test_a_code_of_an_earlier_version(code: str, now: str, alone: dict[str, Ended]) -> None:
    """It is refused with the code by which it goes now."""
    expected = f"ko-cpt explain: found {code!r}, which is called {now!r} now; write {now!r}\n"

    assert alone[f"explain {code}"] == (2, "", expected)


def test_no_command_shows_help(alone: dict[str, Ended]) -> None:
    """Without a command the commands are listed."""
    assert "explain" in alone[""].stdout + alone[""].stderr


@pytest.mark.parametrize("command", [(), ("check",), ("compare",), ("train",), ("baselines",), ("recipes", "show")])
def test_help(command: tuple[str, ...]) -> None:
    """``-h`` and ``--help`` are the same; no description is cut off at 80 columns."""
    short, long = (CliRunner().invoke(app, [*command, name], terminal_width=80) for name in ("-h", "--help"))
    assert (short.exit_code, short.stdout) == (0, long.stdout)
    assert not re.search(r"[a-z]\.\.\.", short.stdout)
    assert max(map(len, short.stdout.splitlines())) <= 80


def test_completion_is_offered() -> None:
    """typer's own."""
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).stdout
