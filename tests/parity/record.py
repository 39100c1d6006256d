"""Records the runs that the parity tests fold: real trainings, each with what its callback said while it ran.

``python tests/parity/record.py [NAME …]`` writes ``tests/parity/runs/<name>/``: the run folder's three files and the
Trainer's own ``trainer_state.json``, without this machine's paths and clock.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

import forked
from e2e import job, job_quantized, run_files

RUNS: Final = Path(__file__).parent / "runs"
FILES: Final = ("rows.jsonl", "findings.jsonl", "run.json", "trainer_state.json")


def _eight_bit_lora(folder: Path, notes: Path) -> Any:
    """8-bit LoRA, four steps: too little to judge."""
    changes = {"max_steps": 4, "logging_steps": 2, "eval_steps": 4}
    return _done(forked.run(job_quantized.train, str(folder), folder=notes, **changes))


def _two_eval_sets(folder: Path, notes: Path) -> Any:
    """A healthy run that evaluates Korean and English."""
    return _done(forked.run(job.train, str(folder), folder=notes, two_sets=True))


def _nan_in_window(folder: Path, notes: Path) -> Any:
    """The weights become NaN in step 10, the second of a logging window: a drop, then 0.0 and 0.0 again."""
    changes = {"max_steps": 16, "logging_steps": 2, "eval_steps": 8, "save_steps": 8}
    return _done(forked.run(job.train, str(folder), folder=notes, poison_step=10, changes=changes))


def _resumed(folder: Path, notes: Path) -> Any:
    """NaN losses at 3, 7 and 11; killed after the log of step 9, resumed from checkpoint 8."""
    plan: dict[str, Any] = {"nan_steps": [3, 7, 11], "changes": {"logging_steps": 1}}
    killed = forked.run(job.train, str(folder), folder=notes, kill=("after a log", 9), **plan)
    assert killed.code == -9, killed.text
    checkpoint = run_files.checkpoint(folder)
    return _done(forked.run(job.train, str(folder), folder=notes, resume=str(checkpoint), **plan))


def _trackers_not_reached(folder: Path, notes: Path) -> Any:
    """The callback cannot reach the front of the Trainer's list."""
    return _done(forked.run(job.train_behind, str(folder), folder=notes))


def _label_smoothing(folder: Path, notes: Path) -> Any:
    """Label smoothing takes the labels out of the model's call: no exact loss, and the rows say why."""
    return _done(forked.run(job.train, str(folder), folder=notes, changes={"label_smoothing_factor": 0.1}))


RECIPES: Final[dict[str, Callable[[Path, Path], Any]]] = {
    "eight-bit-lora": _eight_bit_lora,
    "two-eval-sets": _two_eval_sets,
    "nan-in-window": _nan_in_window,
    "resumed": _resumed,
    "trackers-not-reached": _trackers_not_reached,
    "label-smoothing": _label_smoothing,
}


def record(name: str, target: Path) -> list[dict[str, Any]]:
    """Trains the run ``name`` and keeps its files in ``target``; the findings that its callback held at the end."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        result = RECIPES[name](folder, Path(scratch) / "notes")
        target.mkdir(parents=True, exist_ok=True)
        for file in FILES:
            source = folder / file if file == "trainer_state.json" else folder / "ko_cpt" / file
            (target / file).write_text(_scrubbed(source.read_text("utf-8"), scratch), "utf-8")
    return list(result["findings"])


def _done(outcome: forked.Outcome) -> Any:
    return forked.value(outcome)


def _scrubbed(text: str, scratch: str) -> str:
    """The text without this machine's folders and without the time of day."""
    text = text.replace(scratch, ".")
    text = re.sub(r'("started": )"[^"]*"', r'\1"2000-01-01T00:00:00+00:00"', text)
    paths = re.findall(r'"(?:/|[A-Za-z]:\\)[^"]*"', text)
    if paths:
        raise ValueError(f"absolute paths in a recorded run: {paths[:3]}")
    return text


if __name__ == "__main__":
    for wanted in sys.argv[1:] or RECIPES:
        shutil.rmtree(RUNS / wanted, ignore_errors=True)
        found = record(wanted, RUNS / wanted)
        print(wanted, json.dumps([(item["code"], item["variant"], item["step"], item["split"]) for item in found]))
