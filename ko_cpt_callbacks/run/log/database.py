"""SQLite stores: trackio's project file and MLflow's ``mlflow.db``. They are opened to read; nothing is written.

And MLflow's file store: ``mlruns/EXPERIMENT/RUN/metrics/NAME``, a line ``timestamp value step`` a point.
"""

from __future__ import annotations

import json
import math
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.file import clip, read_text
from ko_cpt_callbacks.run.log.row import Log, LogNote, Point, planned_in, rows_of_points, trainer_log, trainer_rows
from ko_cpt_callbacks.run.rows import NONFINITE, number_in

__all__ = ["Stamped", "mlflow_log", "mlflow_runs", "read_database", "read_mlflow"]

# (milliseconds, step, name, value): of what was logged at once the first two are the same.
Stamped = tuple[float, int, str, Any]

_METRICS: Final = "metrics"
_META: Final = "meta.yaml"
_NO_TEXT: Final = LogNote("log-no-text")
_EXPECTED_LINES: Final = "expected lines of MLflow's `timestamp value step`"


def mlflow_runs(folder: Path) -> list[Path]:
    """The runs of a store: the folder itself, those in it, in its experiments, or in its ``mlruns``."""
    places = (place for pattern in ("", "*/", "*/*/", "mlruns/*/*/") for place in folder.glob(f"{pattern}{_METRICS}"))
    return [place.parent for place in sorted(places) if (place.parent / _META).is_file() and place.is_dir()]


def read_mlflow(run: Path) -> Log:
    """The rows of one run.

    Raises:
        UnreadableRunError: If a line before the last of a metric is none.
    """
    metrics = run / _METRICS
    files = sorted(file for file in metrics.rglob("*") if file.is_file())
    stamped = [point for file in files for point in _points(file, file.relative_to(metrics).as_posix())]
    if not stamped:
        raise UnreadableRunError(f"{run}: found no metric, {_EXPECTED_LINES}")
    steps = run / "params" / "max_steps"
    return mlflow_log(stamped, {"max_steps": read_text(steps).strip()} if steps.is_file() else {})


def mlflow_log(points: Iterable[Stamped], config: Mapping[str, Any], *notes: LogNote | None) -> Log:
    """The log of points that were stamped with the time: what was logged at once is a row."""
    rows: list[dict[str, Any]] = []
    batch: list[Point] = []
    stamp: tuple[float, int] | None = None
    for time, step, name, value in sorted(points, key=lambda point: point[:2]):
        if stamp != (time, step):
            rows.extend(rows_of_points(batch))
            batch, stamp = [], (time, step)
        batch.append((name, value, step))
    rows.extend(rows_of_points(batch))
    return trainer_log(rows, planned_in(config), _NO_TEXT, *notes)


def _points(file: Path, name: str) -> Iterator[Stamped]:
    lines = read_text(file).split("\n")
    for number, line in enumerate(lines, start=1):
        parts = line.split(" ")
        time, value, step = (number_in(part) for part in parts[:3]) if len(parts) >= 3 else (None, None, None)
        if time is not None and value is not None and step is not None and 0 <= step == step // 1 < float("inf"):
            yield time, int(step), name, value
        elif line.strip() and number < len(lines):  # the last line may have been cut off
            raise UnreadableRunError(f"{file}:{number}: found {clip(line.strip())}, {_EXPECTED_LINES}")


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
