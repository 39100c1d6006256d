"""Every line that real logs, the labelled suite and recorded runs give: it fits, in both languages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from suite.generator import GROUPS, make
from suite.judge import offline

from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.messages.catalogue import LANGUAGES
from ko_cpt_callbacks.messages.formatter import WIDTH
from ko_cpt_callbacks.messages.terminal import columns
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.reading import read_run

TESTS = Path(__file__).resolve().parents[1]
SHARED = TESTS.parents[1] / "shared" / "data" / "runs"
RECORDED = sorted(path for path in (TESTS / "parity" / "runs").iterdir() if (path / "rows.jsonl").is_file())
KINDS = sorted({name for group in GROUPS.values() for of in group for name in of()})
MOST_ROWS = 400


def _fit(found: Iterator[Finding] | tuple[Finding, ...]) -> int:
    """How many findings there are; each line fits."""
    findings = list(found)
    for finding in findings:
        for language in LANGUAGES:
            line = finding.line(language)
            assert columns(line) <= WIDTH, line
            assert line.isprintable() and " → " in line, line
    return len(findings)


def test_the_suite() -> None:
    """The first run of every kind that is not among the longest."""
    made = [make(name, 0) for name in KINDS]
    found = [finding for run in made if len(run.rows) <= MOST_ROWS for finding in offline(run)]
    assert _fit(iter(found)) > 50


@pytest.mark.parametrize("task", ["cpt", "other"])
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_recorded_runs(path: Path, task: str) -> None:
    """Rows that the callback wrote while real runs ran."""
    _fit(Monitor(task=task).judge(read_run(path / "rows.jsonl").observations())[1])


@pytest.mark.skipif(not SHARED.is_dir(), reason="real logs are not in this checkout")
def test_real_logs() -> None:
    """Public logs, with both tasks."""
    count = 0
    for path in sorted(SHARED.glob("*.json")):
        try:
            seen = read_run(path).observations()
        except UnreadableRunError:
            continue
        count += sum(_fit(Monitor(task=task).judge(seen)[1]) for task in ("cpt", "other"))
    assert count > 20
