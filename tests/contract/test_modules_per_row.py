"""A training row goes through few modules: what does not concern it is not asked."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "modules_per_row.py"


def test_a_quiet_training_row_enters_few_modules() -> None:
    """Of a callback with files and a console, of a run where nothing is found: half of the rows ask no rule at all, and
    none asks more than a few."""
    spec = importlib.util.spec_from_file_location("modules_per_row", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    rows = [{path for path, _ in calls} for calls in script.entered().values()]
    assert len(rows) > 20
    assert sorted(map(len, rows))[len(rows) // 2] <= script.BAR
    rules = [sum(path.startswith("rules/") and path.count("/") == 2 for path in paths) for paths in rows]
    assert sorted(rules)[len(rules) // 2] == 0
    assert max(rules) <= 3
