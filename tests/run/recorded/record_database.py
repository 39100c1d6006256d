"""Copy the recorded run of MLflow's file store into its SQLite store, by MLflow's own client.

``python tests/run/recorded/record_database.py FOLDER``, with mlflow and sqlalchemy, writes ``FOLDER/mlflow.db``.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

STORE = Path(__file__).parent / "trainer" / "mlruns"
# What the reader looks at; of the tables for traces, models and the like nothing is kept.
KEPT = {"metrics", "params", "runs", "experiments", "alembic_version"}


def main(folder: Path) -> None:
    """Log every point again, at its time and step."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    file = folder / "mlflow.db"
    new = MlflowClient(f"sqlite:///{file}")
    run = new.create_run("0", run_name="tiny").info.run_id
    (place,) = STORE.glob("0/*/metrics")
    points = []
    for path in (path for path in place.rglob("*") if path.is_file()):
        for line in path.read_text("utf-8").splitlines():
            time, value, step = line.split(" ")[:3]
            points.append(Metric(path.relative_to(place).as_posix(), float(value), int(time), int(step)))
    points.sort(key=lambda point: (point.timestamp, point.step))
    for start in range(0, len(points), 500):
        new.log_batch(run, metrics=points[start : start + 500])
    new.log_batch(run, params=[Param("max_steps", (place.parent / "params" / "max_steps").read_text("utf-8"))])
    new.set_terminated(run)
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA foreign_keys = OFF")
    for (name,) in list(connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")):
        if name not in KEPT and not name.startswith("sqlite_"):
            connection.execute(f'DROP TABLE "{name}"')
    connection.execute("UPDATE runs SET artifact_uri = '', user_id = 'user', source_name = ''")
    connection.execute("UPDATE experiments SET artifact_location = ''")
    connection.commit()
    connection.execute("VACUUM")
    connection.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
