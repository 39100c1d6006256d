"""`ko-cpt check` for tests, in this process, which is fast; `offline` has one without the heavy libraries."""

from __future__ import annotations

import json
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
