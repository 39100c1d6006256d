"""Which logs of other tools a folder holds, and which of them is read: the one with most to judge.

``hf://OWNER/NAME`` names the repository of a model on the Hugging Face hub. Only logs are fetched from it, never
weights; they go to the hub's own cache, and nothing of them is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.file import STATE_FILE, clip
from ko_cpt_callbacks.run.log.binary import EVENTS, read_events, read_wandb
from ko_cpt_callbacks.run.log.database import mlflow_runs, read_database, read_mlflow
from ko_cpt_callbacks.run.log.row import Log, LogNote
from ko_cpt_callbacks.run.log.text import FILE, llamafactory_log, of_llamafactory, read_printed, read_table
from ko_cpt_callbacks.run.rows import observations_of, read_rows

__all__ = ["LOGS", "nearest_log", "read_log", "richest_log", "run_place"]

LOGS: Final = (
    f"a log of another tool ({FILE}, run-*.wandb, {EVENTS}*, metrics.csv, mlruns, mlflow.db, trackio's *.db, *.csv, "
    "*.log)"
)
_TABLES: Final = (".csv", ".tsv")
_DATABASES: Final = (".db", ".sqlite", ".sqlite3")
_PRINTED: Final = (".log", ".out", ".err", ".txt")
# Names that only a training has; what else ends so may be anything.
_CERTAIN: Final = (FILE, "metrics.csv")
# From the folder of a run to where its tools put their logs.
_WANDB: Final = ("*.wandb", "*run-*/*.wandb", "wandb/*run-*/*.wandb")
_EVENTS: Final = tuple(f"{above}*{EVENTS}*" for above in ("", "*/", "*/*/"))
_METRICS: Final = ("metrics.csv", "*/metrics.csv", "*/*/metrics.csv")
# A folder with more logs than this is no run's: chosen, not measured.
_MOST: Final = 200
_NAMED: Final = 4


def read_log(path: Path) -> tuple[str, Log] | None:
    """The log at a path, and the tool it is of (a `Source`); ``None`` for a file that no reader here is for.

    Raises:
        UnreadableRunError: If there is a reader for it, and it holds no run, or is damaged.
    """
    if path.is_dir():
        return ("mlflow", read_mlflow(path)) if (path / "metrics").is_dir() else ("tensorboard", read_events(path))
    if EVENTS in path.name:
        return "tensorboard", read_events(path)
    if path.suffix == ".wandb":
        return "wandb", read_wandb(path)
    if path.suffix in _TABLES:
        return "table", read_table(path)
    if path.suffix in _DATABASES:
        log, trackio = read_database(path)
        return "trackio" if trackio else "mlflow", log
    if path.suffix in _PRINTED or (not path.suffix and path.is_file()):
        log_of_text = read_printed(path)
        return None if log_of_text is None else ("printed", log_of_text)
    if path.suffix == ".jsonl":
        lines = read_rows(path)
        if lines and all(of_llamafactory(line) for line in lines):
            return "llamafactory", llamafactory_log(lines)
    return None


def richest_log(folder: Path) -> tuple[Path, str, Log] | None:
    """The log in a folder with most to judge, earlier kinds first among equals; ``None`` where there is none.

    Raises:
        UnreadableRunError: If there are only such as cannot be read.
    """
    found: list[tuple[int, Path, str, Log]] = []
    failed: UnreadableRunError | None = None
    for path in islice(_logs(folder), _MOST):
        try:
            read = read_log(path)
        except (UnreadableRunError, OSError) as error:
            if _certain(path) and failed is None and isinstance(error, UnreadableRunError):
                failed = error
            continue
        if read is not None:
            found.append((len(observations_of(read[1].rows)), path, *read))
    if not found:
        if failed is not None:
            raise failed
        return None
    best = max(found, key=lambda one: one[0])
    others = [str(path.relative_to(folder)) for _, path, *_ in found if path != best[1]]
    if not others:
        return best[1:]
    note = LogNote("log-richest", {"logs": len(found), "others": others[:_NAMED]})
    return best[1], best[2], replace(best[3], notes=(note, *best[3].notes))


def nearest_log(file: Path) -> Path | None:
    """A log that stands beside a file, or a folder above it (``wandb-summary.json``); ``None`` where none does."""
    patterns = (FILE, "*.wandb", f"*{EVENTS}*", "metrics.csv")
    near = (path for place in (file.parent, file.parent.parent) for one in patterns for path in place.glob(one))
    return next((path for path in near if path != file and path.is_file()), None)


def _certain(path: Path) -> bool:
    return path.is_dir() or path.name in _CERTAIN or path.suffix == ".wandb" or EVENTS in path.name


def _logs(folder: Path) -> Iterator[Path]:
    """Every log of a folder by its name, richest kinds first; event files by their folder, as a resume adds to them."""
    seen: set[Path] = set()
    for pattern in (FILE, *_WANDB):
        yield from (path for path in sorted(folder.glob(pattern)) if path.is_file())
    for pattern in _EVENTS:
        for path in sorted({path.parent for path in folder.glob(pattern)} - seen):
            seen.add(path)
            yield path
    yield from mlflow_runs(folder)
    endings = (*_DATABASES, *_TABLES, *_PRINTED)
    for pattern in (*_METRICS, *(f"{above}*{end}" for end in endings for above in ("", "trackio/"))):
        for path in sorted(folder.glob(pattern)):
            if path not in seen and path.is_file():
                seen.add(path)
                yield path


# A `Path` made of the text has one slash less. Of revisions, those of a pull request alone have a slash, as the hub's
# own file system reads them.
_PLACE: Final = re.compile(
    r"hf://?(?P<id>[^/@\s]+/[^/@\s]+)(?:@(?P<revision>refs/(?:pr|convert)/[^/\s]+|[^/\s]+))?(?P<folder>(?:/[^/\s]+)*)/?"
)
_NAMES: Final = (
    STATE_FILE, FILE, keys.ROWS_FILE, keys.RUN_FILE, keys.FINDINGS_FILE, "plan.json", "all_results.json",
    f"*{EVENTS}*", "*.wandb", "metrics.csv", "train*.log", "mlflow.db",
)  # fmt: skip
_SHOWN: Final = 240  # characters of what the client says
_EXPECTED: Final = "expected hf://OWNER/NAME, hf://OWNER/NAME@REVISION or a folder in it, as hf://OWNER/NAME/FOLDER"


def run_place(path: str | Path) -> Path:
    """The local folder of what ``hf://…`` names, fetched where it is not there yet; any other path itself.

    Raises:
        UnreadableRunError: If it is no such name, cannot be fetched, or keeps no log.
    """
    if not str(path).startswith("hf:/"):
        return Path(path)
    named = _PLACE.fullmatch(str(path))
    if named is None or ".." in named["folder"].split("/"):
        raise UnreadableRunError(f"{path}: {_EXPECTED}")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UnreadableRunError(f"{path}: huggingface_hub is not installed; pip install huggingface_hub") from None
    folder = named["folder"].strip("/")
    within = f"{folder}/" if folder else ""
    patterns = [pattern for name in _NAMES for pattern in (f"{within}{name}", f"{within}*/{name}")]
    try:
        place = snapshot_download(named["id"], revision=named["revision"], allow_patterns=patterns)
    except Exception as error:  # other classes in every version
        said = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableRunError(f"{path}: cannot be fetched: {clip(said, _SHOWN)}") from None
    found = Path(place) / folder
    if not any(file.is_file() for file in found.rglob("*")):
        raise UnreadableRunError(f"{path}: found no log, expected {STATE_FILE} or another; its card may name the log")
    return found
