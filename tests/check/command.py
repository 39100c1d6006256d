"""`ko-cpt check` for tests: in this process, which is fast, or in one of its own without the heavy libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app

if TYPE_CHECKING:
    from click.testing import Result

ROOT: Final = Path(__file__).resolve().parents[2]
SCHEMA: Final = json.loads((ROOT / "ko_cpt_callbacks" / "schemas" / "check.schema.json").read_text("utf-8"))
REAL_RUNS: Final = ROOT.parent / "shared" / "data" / "runs"

_OFFLINE: Final = """
import sys
HEAVY = ("torch", "transformers", "peft", "accelerate", "datasets", "bitsandbytes", "pandas", "plotly")

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Refuse())
from ko_cpt_callbacks.cli import main
main()
"""


def check(path: object, *options: str) -> Result:
    """`ko-cpt check PATH OPTIONS` in this process; an exception that is not an exit is raised."""
    result = CliRunner().invoke(app, ["check", str(path), *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def judged(path: object, *options: str) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    result = check(path, "--json", *options)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    found: dict[str, Any] = json.loads(result.stdout, parse_constant=_not_strict)
    return found


def codes(found: Mapping[str, Any]) -> list[tuple[str, str, int | None]]:
    """Code, severity and step of each finding."""
    return [(item["code"], item["severity"], item["step"]) for item in found["findings"]]


def check_alone(*arguments: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    """`ko-cpt check` in a process of its own that cannot import the heavy libraries."""
    return subprocess.run(
        [sys.executable, "-c", _OFFLINE, "check", *arguments],
        capture_output=True,
        encoding=encoding,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
    )


def real_run(number: str) -> Path:
    """A real Trainer's log by its number."""
    (path,) = REAL_RUNS.glob(f"{number}_*.json")
    return path


def write_state(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A trainer_state.json with these rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"epoch": 1.0, "global_step": 0, "log_history": list(rows)}, indent=2), "utf-8")
    return path


def _not_strict(name: str) -> None:
    raise AssertionError(f"{name} is not strict JSON")
