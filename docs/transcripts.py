"""Writes the outputs of commands in README and docs: ``python docs/transcripts.py``.

A block of code that begins with ```` ```console ```` and ``$ ko-cpt …`` shows what that command prints, at 100 columns.
The line ``<!-- first 20 lines -->`` above the block keeps that many of them and ends in ``…``. A command on
``runs/quickstart`` needs that run (``ko-cpt train quickstart``); without it the block stays, and the script says so.

With ``--check`` nothing is written, and the status is 1 where a page differs. Numbers of the quickstart may then differ
by 1 %: another processor adds in another order.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from made_page import keep

ROOT: Final = Path(__file__).resolve().parents[1]
COMMAND: Final = "python docs/transcripts.py"
COLUMNS: Final = 100
QUICKSTART: Final = "runs/quickstart"

_NUMBER_TOLERANCE: Final = 0.01
_BLOCK: Final = re.compile(
    r"(?P<limit><!-- first (?P<lines>\d+) lines -->\n)?```console\n\$ (?P<command>ko-cpt [^\n]+)\n(?P<output>.*?)```\n",
    re.DOTALL,
)
_NUMBER: Final = re.compile(r"\d[\d,]*(?:\.\d+)?")


def pages() -> list[Path]:
    """README and docs, in both languages."""
    return [ROOT / "README.md", ROOT / "README.ko.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str) -> Iterator[re.Match[str]]:
    """The transcripts of a page."""
    return _BLOCK.finditer(text)


def output(command: str, lines: int | None = None) -> str:
    """Run a command and return what it prints, cut after some lines.

    Args:
        command: The words after the prompt, ``ko-cpt`` first.
        lines: The number of lines to keep; None keeps all of them.

    Raises:
        RuntimeError: If the command cannot do what it is asked to: an exit status above 1, or no output.
    """
    with tempfile.TemporaryDirectory() as empty:
        found = ran(command, {"COLUMNS": str(COLUMNS), "NO_COLOR": "1", "KO_CPT_BASELINES": empty})
    if found.returncode > 1 or not found.stdout:
        raise RuntimeError(f"{command}: exit status {found.returncode}: {found.stderr.strip()}")
    said = found.stdout.replace(empty, "~/.ko_cpt/baselines").strip("\n")
    printed = [line.rstrip() for line in said.splitlines()]
    shown = printed if lines is None or lines >= len(printed) else [*printed[:lines], "…"]
    return "\n".join(shown) + "\n"


def ran(command: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own.

    Args:
        command: See `output`.
        variables: Of its environment, beside those of this one that are none of ``ko-cpt``'s.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KO_CPT_")}
    path = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    words = [sys.executable, "-m", "ko_cpt_callbacks", *shlex.split(command)[1:]]
    return subprocess.run(
        words, cwd=ROOT, env={**environment, **variables, "PYTHONPATH": path}, capture_output=True, encoding="utf-8",
        check=False,
    )  # fmt: skip


def available(command: str) -> bool:
    """Whether what the command reads is there."""
    return QUICKSTART not in command or (ROOT / QUICKSTART / "ko_cpt" / "plan.json").is_file()


def same(shown: str, printed: str, *, rounded: bool) -> bool:
    """Whether two outputs are equal; with ``rounded`` each number may differ by 1 %, and columns may move."""
    if not rounded:
        return shown == printed
    if _NUMBER.sub("#", shown).split() != _NUMBER.sub("#", printed).split():
        return False
    pairs = zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=True)
    numbers = ((float(a.replace(",", "")), float(b.replace(",", ""))) for a, b in pairs)
    return all(math.isclose(a, b, rel_tol=_NUMBER_TOLERANCE, abs_tol=_NUMBER_TOLERANCE) for a, b in numbers)


def renewed(text: str) -> tuple[str, list[str]]:
    """A page with each transcript as it is printed now, and the commands whose run is absent."""
    absent = []

    def block(match: re.Match[str]) -> str:
        command = match["command"]
        if not available(command):
            absent.append(command)
            return match[0]
        printed = output(command, int(match["lines"]) if match["lines"] else None)
        if same(match["output"], printed, rounded=QUICKSTART in command):
            return match[0]
        return f"{match['limit'] or ''}```console\n$ {command}\n{printed}```\n"

    return _BLOCK.sub(block, text), absent


def main(*, check: bool) -> int:
    """Write the pages anew, or with ``check`` say which differ; the exit status."""
    made = {}
    for page in pages():
        made[page], absent = renewed(page.read_text("utf-8"))
        for command in absent:
            print(f"{page.relative_to(ROOT)}: not renewed, because {QUICKSTART} is absent: {command}")
    return keep(made, "transcripts", check=check)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
