"""SQLite stores: trackio's project file and MLflow's ``mlflow.db``. They are opened to read; nothing is written."""

from __future__ import annotations

import json
import math
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.file import clip
from ko_cpt_callbacks.run.log.mlflow import mlflow_log
from ko_cpt_callbacks.run.log.row import Log, LogNote, planned_in, trainer_log, trainer_rows
from ko_cpt_callbacks.run.rows import NONFINITE

__all__ = ["read_database"]

MAGIC: Final = b"SQLite format 3\x00"
_EXPECTED: Final = "expected trackio's project file or MLflow's mlflow.db"
_LACKS: Final = LogNote("log-no-closing")
# A query that takes more steps of SQLite's machine than this is none of a log: chosen, not measured.
_MOST_STEPS: Final = 200_000_000
# SQL has no infinity: MLflow's SqlAlchemyStore keeps the largest number in its place.
_INFINITE: Final = {sys.float_info.max: math.inf, -sys.float_info.max: -math.inf}


def read_database(path: Path) -> tuple[Log, bool]:
    """The log of the run with the most rows, and whether it is trackio's (else MLflow's).

    Raises:
        UnreadableRunError: If the file is neither store, or damaged.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(len(MAGIC))
        if head != MAGIC:
            raise UnreadableRunError(f"{path}: found {head!a} at its start, {_EXPECTED}")
        connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
        try:
            budget = iter([None] * (_MOST_STEPS // 100_000))
            connection.set_progress_handler(lambda: int(next(budget, 1) is not None), 100_000)
            connection.execute("PRAGMA trusted_schema = OFF")
            columns = _columns(connection, "metrics")
            if {"run_uuid", "key", "value", "step", "timestamp", "is_nan"} <= columns:
                return _mlflow(path, connection), False
            if {"run_name", "step", "metrics"} <= columns:
                return _trackio(path, connection), True
        finally:
            connection.close()
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
        raise UnreadableRunError(f"{path}: damaged ({error}); {_EXPECTED}") from None
    shown = ", ".join(sorted(columns)) or "no table metrics"
    raise UnreadableRunError(f"{path}: found {clip(shown)}, {_EXPECTED}")


def _trackio(path: Path, connection: sqlite3.Connection) -> Log:
    run, note = _richest(path, connection.execute("SELECT run_name, count(*) FROM metrics GROUP BY run_name"))
    logged = []
    for number, step, text in connection.execute(
        "SELECT id, step, metrics FROM metrics WHERE run_name = ? ORDER BY id", (run,)
    ):
        values = _object(text)
        if values is None:
            raise UnreadableRunError(f"{path}: row {number} of metrics: found {clip(text)}, expected a JSON object")
        logged.append({**values, "_step": step})
    configs = connection.execute("SELECT config FROM configs WHERE run_name = ?", (run,)).fetchone()
    return trainer_log(trainer_rows(logged), planned_in((configs and _object(configs[0])) or {}), _LACKS, note)


def _object(text: object) -> dict[str, Any] | None:
    try:
        value = json.loads(text) if isinstance(text, (str, bytes)) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    return {name: NONFINITE.get(held, held) if isinstance(held, str) else held for name, held in value.items()}


def _mlflow(path: Path, connection: sqlite3.Connection) -> Log:
    run, note = _richest(path, connection.execute("SELECT run_uuid, count(*) FROM metrics GROUP BY run_uuid"))
    points = [
        (time, step, name, math.nan if is_nan else _INFINITE.get(value, value))
        for time, step, name, value, is_nan in connection.execute(
            "SELECT timestamp, step, key, value, is_nan FROM metrics WHERE run_uuid = ?", (run,)
        )
        if isinstance(time, (int, float)) and isinstance(step, int) and step >= 0 and isinstance(name, str)
    ]
    config: Mapping[str, Any] = {}
    if _columns(connection, "params"):
        config = dict(connection.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run,)))
    return mlflow_log(points, config, note)


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    """The columns of a table; none where there is no such table."""
    return {name for _, name, *_ in connection.execute(f"PRAGMA table_info('{table}')")}


def _richest(path: Path, counted: Iterable[tuple[Any, int]]) -> tuple[Any, LogNote | None]:
    runs = Counter(dict(counted))
    if not runs:
        raise UnreadableRunError(f"{path}: found no row in metrics, expected a run")
    (run, _), *others = runs.most_common()
    return run, LogNote("log-one-of-runs", {"run": str(run), "runs": len(runs)}) if others else None
