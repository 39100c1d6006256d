"""The parts of what is frozen: each is a text file of runs, a folder of outputs, or both."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from golden.judged import Judged, Said, judged
from golden.log import CASES, Log, own_logs, public_logs
from golden.output import commands, kept, printed
from suite.generator import runs
from suite.real import DATA, real_runs
from suite.run import LabelledRun

__all__ = ["PARTS", "SEEDS", "Part", "absent", "part_now", "suite_now"]

SEEDS: Final = (0, 1, 2, 3)
_REAL, _PUBLIC = "real-0", "public"
PARTS: Final = {
    **{f"suite-{seed}": f"suite of seed {seed}: run, checksum of its rows and label, findings" for seed in SEEDS},
    _REAL: "public logs whole, shorter, coarser, and with faults put in (suite.real, seed 0)",
    "logs": "logs and recorded runs in the tests, by ko-cpt check --json",
    _PUBLIC: "public logs beside the repository, by ko-cpt check --json",
    "output": "what commands print as JSON",
}
"""Every part by name, with what it is."""


@dataclass
class Part:
    """What is said now.

    Args:
        runs: Per run its findings and its label, without rows; None where it has no label.
        outputs: Per output what of it is kept.
    """

    runs: list[tuple[Judged, LabelledRun | None]] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)


def absent(name: str) -> str | None:
    """Why a part cannot be judged here; None where it can."""
    needed = {_REAL: (DATA / "runs", DATA / "curves"), _PUBLIC: (DATA / "runs", CASES)}.get(name, ())
    missing = [folder for folder in needed if not folder.is_dir()]
    return f"{missing[0]} is not beside the repository" if missing else None


def part_now(name: str) -> Part:
    """A part judged again, whole."""
    if name.startswith("suite-"):
        return suite_now(int(name.removeprefix("suite-")))
    if name == _REAL:
        return _judged_runs(real_runs(0))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if name == "output":
            return Part([], {of: kept(printed(what, home), home) for of, what in commands(home)})
        return _checked(own_logs(home) if name == "logs" else public_logs(), home)


def suite_now(seed: int, size: float = 1.0, most_rows: int | None = None) -> Part:
    """The suite of a seed, or its first share of each kind without the longest logs."""
    return _judged_runs(run for run in runs(seed, size=size) if most_rows is None or len(run.rows) <= most_rows)


def _judged_runs(suite: Iterable[LabelledRun]) -> Part:
    return Part([(judged(run), replace(run, rows=[])) for run in suite])


def _checked(logs: Iterable[Log], home: Path) -> Part:
    """Files, judged by the command: their findings as a run's, and all that it prints as an output."""
    part = Part()
    for log in logs:
        task = [] if log.task is None else ["--task", log.task]
        found = printed(["check", str(log.path), *task, "--json"], home)
        said = [Said.from_dict(one) for one in found["printed"]["findings"]] if found["exit"] == 0 else []
        part.runs.append((Judged(log.name, _checksum(log.path), tuple(sorted(said, key=Said.order))), log.label))
        part.outputs[log.name.replace("/", "-").replace("@", "-")] = kept(found, home)
    return part


def _checksum(path: Path) -> str:
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    sum_so_far = 0
    for one in files:
        sum_so_far = zlib.crc32(one.read_bytes(), sum_so_far)
    return f"{sum_so_far:08x}"
