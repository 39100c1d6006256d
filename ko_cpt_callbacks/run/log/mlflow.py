"""MLflow's file store: ``mlruns/EXPERIMENT/RUN/metrics/NAME``, a line ``timestamp value step`` a point."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.file import clip, read_text
from ko_cpt_callbacks.run.log.row import Log, LogNote, Point, planned_in, rows_of_points, trainer_log
from ko_cpt_callbacks.run.rows import number_in

__all__ = ["Stamped", "mlflow_log", "mlflow_runs", "read_mlflow"]

# (milliseconds, step, name, value): of what was logged at once the first two are the same.
Stamped = tuple[float, int, str, Any]

_METRICS: Final = "metrics"
_META: Final = "meta.yaml"
_LACKS: Final = LogNote("log-no-text")
_EXPECTED: Final = "expected lines of MLflow's `timestamp value step`"


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
        raise UnreadableRunError(f"{run}: found no metric, {_EXPECTED}")
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
    return trainer_log(rows, planned_in(config), _LACKS, *notes)


def _points(file: Path, name: str) -> Iterator[Stamped]:
    lines = read_text(file).split("\n")
    for number, line in enumerate(lines, start=1):
        parts = line.split(" ")
        time, value, step = (number_in(part) for part in parts[:3]) if len(parts) >= 3 else (None, None, None)
        if time is not None and value is not None and step is not None and 0 <= step == step // 1 < float("inf"):
            yield time, int(step), name, value
        elif line.strip() and number < len(lines):  # the last line may have been cut off
            raise UnreadableRunError(f"{file}:{number}: found {clip(line.strip())}, {_EXPECTED}")
