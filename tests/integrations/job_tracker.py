"""One training with a tracker in a process of its own: ``job_tracker.py NAME FOLDER`` prints what the tracker kept.

Everything is read back from the tracker's own files, by its own API where it has one that reads them.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# (metrics: steps by name; notes: texts by name; findings that are lines of a log)
Kept = tuple[dict[str, list[int]], dict[str, str], list[str]]

TARGET = "eval_exact_loss<9@end"


def _settings(folder: Path) -> dict[str, str]:
    """Nothing is sent anywhere: every tracker writes below ``folder``."""
    return {
        "HF_HUB_OFFLINE": "1",
        "HOME": str(folder),
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder),
        "WANDB_SILENT": "true",
        "MLFLOW_TRACKING_URI": f"file://{folder}/mlruns",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "COMET_START_ONLINE": "0",
        "COMET_OFFLINE_DIRECTORY": str(folder),
        "SWANLAB_MODE": "offline",
        "SWANLAB_LOG_DIR": f"{folder}/swanlog",
        "CLEARML_OFFLINE_MODE": "1",
        "CLEARML_CACHE_DIR": f"{folder}/clearml",
        "CLEARML_LOG_MODEL": "false",
    }


def _wandb(folder: Path) -> Kept:
    import wandb

    from ko_cpt_callbacks.run.log import binary as reader
    from ko_cpt_callbacks.run.log.binary import fields

    wandb.teardown()  # the file is whole when its writer has ended
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    metrics: dict[str, list[int]] = {}
    notes: dict[str, str] = {}
    for _, record in reader._records(file, file.read_bytes()):
        for kind, held in fields(record):
            if kind == reader._HISTORY:
                row = reader._items(held)
                for name, value in row.items():
                    assert isinstance(value, (int, float)) or name.startswith("_"), (name, value)
                    metrics.setdefault(name, []).append(row["train/global_step"])
            elif kind in (reader._SUMMARY, reader._CONFIG):
                notes |= {name: value for name, value in reader._items(held).items() if name.startswith("ko_cpt/")}
    return metrics, notes, []


def _mlflow(folder: Path) -> Kept:
    import mlflow

    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    names = run.data.metrics
    metrics = {name: [point.step for point in client.get_metric_history(run.info.run_id, name)] for name in names}
    own = {name: text for name, text in run.data.tags.items() if name.startswith("ko_cpt/")}
    return {name.replace("eval_", "eval/", 1): steps for name, steps in metrics.items()}, own, []


def _comet_ml(folder: Path) -> Kept:
    import comet_ml

    comet_ml.get_running_experiment().end()
    (file,) = folder.glob("*.zip")
    metrics: dict[str, list[int]] = {}
    notes: dict[str, str] = {}
    for line in zipfile.ZipFile(file).read("messages.json").decode().splitlines():
        message = json.loads(line)
        if message["type"] == "metric_msg" and message["payload"]["metric"]["step"] is not None:
            metric = message["payload"]["metric"]
            metrics.setdefault(metric["metricName"].rpartition("|")[2], []).append(metric["step"])
        elif message["type"] == "log_other":
            notes[message["payload"]["key"]] = message["payload"]["value"]
    return metrics, {name: text for name, text in notes.items() if name.startswith("ko_cpt/")}, []


def _swanlab(folder: Path) -> Kept:
    import swanlab
    from ruamel.yaml import YAML

    swanlab.finish()
    (place,) = folder.glob("swanlog/run-*")
    metrics: dict[str, list[int]] = {}
    for line in (place / "backup.swanlab").read_bytes().decode("utf-8", "ignore").splitlines():
        begin = line.find('{"model_type": "Scalar"')
        if begin >= 0:
            data = json.JSONDecoder().raw_decode(line[begin:])[0]["data"]
            metrics.setdefault(data["key"], []).append(data["step"])
    config = YAML(typ="safe").load(place / "files" / "config.yaml")
    notes = {name: held["value"] for name, held in config.items() if name.startswith("ko_cpt/")}
    return metrics, notes, []


def _clearml(folder: Path) -> Kept:
    (place,) = (one for one in folder.glob("clearml/offline/*") if one.is_dir())
    metrics: dict[str, list[int]] = {}
    for line in (place / "metrics.jsonl").read_text("utf-8").splitlines():
        for point in json.loads(line):
            metrics.setdefault(f"{point['metric']}/{point['variant']}", []).append(point["iter"])
    section = json.loads((place / "task.json").read_text("utf-8"))["hyperparams"]["ko_cpt"]
    notes = {f"ko_cpt/{name}": held["value"] for name, held in section.items()}
    log = [entry for line in (place / "log.jsonl").read_text("utf-8").splitlines() for entry in json.loads(line)]
    said = [line for entry in log for line in entry["msg"].splitlines() if line.startswith("ko_cpt/")]
    return metrics, notes, said


def _aim(folder: Path) -> Kept:
    from aim import Repo, Run

    repo = Repo(str(folder))
    (name,) = repo.list_all_runs()
    run = Run(name, repo=repo, system_tracking_interval=None)
    metrics = {}
    for metric in run.metrics():
        prefix = metric.context.to_dict().get("subset")
        metrics[f"{prefix}/{metric.name}" if prefix else metric.name] = sorted(metric.dataframe()["step"].tolist())
    return metrics, {key: text for key, text in run[...].items() if key.startswith("ko_cpt/")}, []


KEPT: dict[str, Callable[[Path], Kept]] = {
    "aim": _aim, "clearml": _clearml, "comet_ml": _comet_ml, "mlflow": _mlflow, "swanlab": _swanlab, "wandb": _wandb,
}  # fmt: skip


def main(name: str, folder: Path) -> None:
    """Train twelve steps with the tracker, and print what it kept."""
    os.environ.update(_settings(folder))
    os.chdir(folder)
    from e2e import job

    from ko_cpt_callbacks import KoCPTCallback

    callbacks: list[Any] = [KoCPTCallback(targets=[TARGET])]
    if name == "aim":
        from aim.hugging_face import AimCallback

        quiet = {"system_tracking_interval": None, "capture_terminal_logs": False, "log_system_params": False}
        callbacks.insert(0, AimCallback(repo=str(folder), **quiet))
    reports = [] if name == "aim" else [name]
    job.build(folder / "out", callbacks, report_to=reports, save_strategy="no").train()
    metrics, notes, said = KEPT[name](folder)
    print("RESULT", json.dumps({"metrics": metrics, "notes": notes, "said": said}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
