"""Public logs that a reader found healthy: as they are, shorter, coarser, and with a fault put in.

Made noise is only as odd as whoever made it. The logs are not part of the project (``../shared/data`` beside it).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from suite.run import LabelledRun, Row

__all__ = ["DATA", "bases", "real_runs"]

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
HEALTHY_LOGS = {"00": None, "01": 3500, "03": None, "23": None, "26": None, "54": None, "55": None}
"""Per log the step up to which it is healthy; 02 falls at its epoch ends, which a reader may call memorizing."""
FAULTS = ("loss-spike", "level-shift-up", "level-shift-down", "diverged", "non-finite")


def bases() -> Iterator[LabelledRun]:
    """Every healthy log and learning curve, whole."""
    for number, until in HEALTHY_LOGS.items():
        (path,) = (DATA / "runs").glob(f"{number}_*.json")
        state = json.loads(path.read_text("utf-8"))
        rows = [row for row in state["log_history"] if until is None or row["step"] <= until]
        yield _run(number, rows, state["max_steps"], "cpt" if number in ("00", "01") else "other")
    for path in sorted((DATA / "curves").glob("*.csv")):
        with path.open(encoding="utf-8") as stream:
            rows = [
                {"loss": float(row["loss"]), "learning_rate": float(row["lr"]), "step": int(row["step"])}
                for row in csv.DictReader(stream)
            ]
        yield _run(path.stem, rows, rows[-1]["step"], "cpt")
    for path in sorted((DATA / "curves").glob("*.json")):
        state = json.loads(path.read_text("utf-8"))
        yield _run(path.stem, state["log_history"], state["max_steps"], "other")


def _run(name: str, rows: list[Row], max_steps: int, task: str) -> LabelledRun:
    return LabelledRun(f"healthy/real-{name}", "healthy/real", rows, task=task, max_steps=max_steps)


def _coarser(rows: list[Row], times: int) -> list[Row]:
    """As logged ``times`` as seldom: each loss the mean of so many rows; evaluations stay."""
    found: list[Row] = []
    waiting: list[float] = []
    for row in rows:
        if "loss" not in row:
            found.append(row)
            continue
        waiting.append(row["loss"])
        if len(waiting) == times:
            found.append({**row, "loss": round(float(np.mean(waiting)), 4)})
            waiting = []
    return found


def _broken(run: LabelledRun, fault: str, rng: np.random.Generator) -> LabelledRun | None:
    """The run with a fault from somewhere in its later half; None where it is too short for one."""
    rows = [dict(row) for row in run.rows]
    points = [i for i, row in enumerate(rows) if "loss" in row]
    if len(points) < 60:
        return None
    losses = np.array([rows[i]["loss"] for i in points])
    at = int(rng.uniform(0.35, 0.7) * len(points))
    around = losses[at - 20 : at + 20]
    sd = float(1.4826 * np.median(np.abs(np.diff(around) - np.median(np.diff(around)))) / np.sqrt(2.0))
    sd = max(sd, 0.003)
    after = np.clip(np.arange(len(points)) - at, 0, None).astype(float)
    change = np.zeros(len(points))
    code, end = fault, at + 30
    if fault == "loss-spike":
        width = int(rng.integers(1, 12))
        form = np.exp(-after[at : at + width] / max(1, width / 3))
        change[at : at + width] = max(rng.uniform(0.3, 3.0), 12 * sd) * form
        end = at + width + 8
    elif fault.startswith("level-shift"):
        code = "level-shift"
        size = max(rng.uniform(7, 30) * sd, 0.02)
        size = min(size, 0.5 * float(losses[at:].min()))
        change[at:] = size if fault.endswith("up") else -size
    elif fault == "diverged":
        span = rng.uniform(5, 0.25 * len(points))
        change = rng.uniform(1.0, 5.0) * np.clip(after / span, 0, 1)
        end = int(at + span + 20)
    else:
        change[at:] = np.nan
        end = at + 1
    for order, i in enumerate(points):
        rows[i]["loss"] = round(float(losses[order] + change[order]), 4)
    window = (rows[points[at]]["step"], rows[points[min(end, len(points) - 1)]]["step"])
    allowed = {"loss-spike", "level-shift", "overfitting", "gap-widening", "below-floor", "memorizing"}
    allowed |= {"diverged"} if fault in ("level-shift-up", "non-finite") else set()
    return replace(
        run, name=f"{fault}/{run.name.split('/')[1]}", kind=f"{code}/real", rows=rows, expected={code: window},
        allowed=frozenset(allowed - {code}), healthy=False, onset=window[0],
    )  # fmt: skip


def real_runs(seed: int = 0, times: int = 4) -> Iterator[LabelledRun]:
    """The logs whole; and of each ``times`` shorter, coarser ones, healthy and with each fault."""
    for number, base in enumerate(bases()):
        yield base
        rng = np.random.default_rng([seed, number])
        for turn in range(times):
            coarse = int(rng.choice([1, 1, 2, 5, 10]))
            rows = _coarser(base.rows, coarse)
            rows = rows[: max(12, int(len(rows) * rng.uniform(0.4, 1.0)))]
            if sum("loss" in row for row in rows) < 12:
                continue
            run = replace(base, name=f"{base.name}-{turn}-by-{coarse}", rows=rows)
            yield run
            for fault in FAULTS:
                broken = _broken(run, fault, rng)
                if broken is not None:
                    yield broken

