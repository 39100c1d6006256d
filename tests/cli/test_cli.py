"""The command line, run as a user runs it: in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ko_cpt_callbacks
from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.messages.catalogue import catalogue, codes
from ko_cpt_callbacks.rules.registry import ALL_RULES
from ko_cpt_callbacks.rules.rule import limits_of

ROOT = Path(__file__).resolve().parents[2]

# The heavy libraries refuse to be imported: whoever only asks need not have them.
OFFLINE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "accelerate", "datasets", "bitsandbytes"):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Refuse())
from ko_cpt_callbacks.cli import main
main()
"""


def ko_cpt(*arguments: str, start: tuple[str, ...] = ("-c", OFFLINE)) -> subprocess.CompletedProcess[str]:
    """Run the command line without the heavy libraries."""
    return subprocess.run(
        [sys.executable, *start, *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
    )


@pytest.mark.parametrize("start", [("-c", OFFLINE), ("-m", "ko_cpt_callbacks")], ids=["script", "module"])
def test_version(start: tuple[str, ...]) -> None:
    """``--version`` prints name and version, as console script and as module."""
    found = ko_cpt("--version", start=start)

    assert (found.returncode, found.stdout) == (0, f"ko-cpt {ko_cpt_callbacks.__version__}\n")


@pytest.mark.parametrize("code", codes())
def test_explain(code: str) -> None:
    """What a code means, how it is decided, what to do and where more is, each under its heading and no word lost."""
    found = ko_cpt("explain", code)
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

    assert found.returncode == 0
    assert found.stdout.split() == " ".join(words).split()
    assert max(map(len, found.stdout.splitlines())) <= 96


def test_explain_without_a_code_lists_them() -> None:
    """Every code, one a line."""
    assert ko_cpt("explain").stdout.split() == list(codes())


def test_unknown_code() -> None:
    """An unknown code names itself, what is known and the nearest, on stderr with status 2."""
    found = ko_cpt("explain", "nonfinite")

    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == (
        f"ko-cpt explain: found 'nonfinite', expected one of {', '.join(codes())}. Did you mean 'non-finite'?\n"
    )


def test_code_like_no_other() -> None:
    """Where nothing is near nothing is suggested."""
    assert "Did you mean" not in ko_cpt("explain", "zzz").stderr


@pytest.mark.parametrize(("code", "now"), [("nan-filter-on", "note"), ("memorising", "memorizing")])
def test_a_code_of_an_earlier_version(code: str, now: str) -> None:
    """It is refused with the code by which it goes now."""
    found = ko_cpt("explain", code)

    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == f"ko-cpt explain: found {code!r}, which is called {now!r} now; write {now!r}\n"


def test_no_command_shows_help() -> None:
    """Without a command the commands are listed."""
    found = ko_cpt()

    assert "explain" in found.stdout + found.stderr


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
