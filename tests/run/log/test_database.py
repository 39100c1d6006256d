"""MLflow's SQLite store where it says a number in its own way, or lacks a table."""

from __future__ import annotations

import math
import sqlite3
import sys
from pathlib import Path

import pytest

from ko_cpt_callbacks.run.reading import read_run

Metric = tuple[float, int, int]
"""Value, step, whether it was no number."""


def store(path: Path, losses: list[Metric]) -> Path:
    """A store with the metrics of one run and no other table."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE metrics (run_uuid, key, value, step, timestamp, is_nan)")
    rows = [("run", "loss", value, step, step, is_nan) for value, step, is_nan in losses]
    connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    return path


def test_the_largest_number_is_infinity(tmp_path: Path) -> None:
    """SQL has no infinity: MLflow writes the largest number for it, and a mark for NaN; neither is a loss."""
    most = sys.float_info.max
    run = read_run(store(tmp_path / "mlflow.db", [(2.5, 10, 0), (most, 20, 0), (-most, 30, 0), (0.0, 40, 1)]))
    losses = [row["loss"] for row in run.rows]
    assert losses[:3] == [2.5, math.inf, -math.inf]
    assert math.isnan(losses[3])


@pytest.mark.parametrize("told", [None, "50"])
def test_parameters_may_be_missing(tmp_path: Path, told: str | None) -> None:
    """Without a table of parameters the rows are read, and nothing is known of the planned steps."""
    path = store(tmp_path / "mlflow.db", [(2.5, 10, 0), (2.4, 20, 0)])
    if told is not None:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE params (run_uuid, key, value)")
        connection.execute("INSERT INTO params VALUES ('run', 'max_steps', ?)", (told,))
        connection.commit()
        connection.close()
    run = read_run(path)
    assert [row["step"] for row in run.rows] == [10, 20]
    assert run.planned_steps == (None if told is None else int(told))
