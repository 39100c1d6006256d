"""A path that a user has (a run folder, a checkpoint, a file) to the rows of the run.

A staged training is ``RUN/ko_cpt/plan.json`` and an ordinary run folder a stage inside ``RUN``. Format 1:
``{"format": 1, "stages": [{"name": "embedding", "folder": "stages/01-embedding"}, …]}``; whatever else is in it (the
recipe) is its writer's. A plan whose only stage is ``.`` describes an ordinary run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError, near_miss
from ko_cpt_callbacks.run.file import STATE_FILE, clip, name_of, opening_failure, read_json, read_text
from ko_cpt_callbacks.run.fold import GLOBAL_STEP, PLAN, PLANNED_STEPS
from ko_cpt_callbacks.run.log.found import LOGS, nearest_log, read_log, richest_log, run_place
from ko_cpt_callbacks.run.log.row import Log, LogNote
from ko_cpt_callbacks.run.observation import Observation, SetupObservation
from ko_cpt_callbacks.run.resume import checkpoint_states, later_state
from ko_cpt_callbacks.run.rows import live_rows, observations_of, read_rows
from ko_cpt_callbacks.run.trainer_state import read_state_rows

__all__ = ["FORMAT", "PLAN_FILE", "LogSource", "Plan", "PlannedStage", "Run", "holds_run", "read_plan", "read_run"]

_CHECKPOINT: Final = "checkpoint-"
_KINDS: Final = (keys.KIND_TRAIN, keys.KIND_EVAL, keys.KIND_END, keys.KIND_CHECKPOINT, keys.KIND_SETUP)
_METRICS_FILES: Final = ("all_results.json", "eval_results.json", "train_results.json")
_LISTED: Final = 20
_NAMED: Final = 4


class LogSource(StrEnum):
    """What the rows of a run were read from."""

    ROWS = "rows"
    """Our own ``rows.jsonl``: everything that was observed."""
    TRAINER_STATE = "trainer_state"
    """The Trainer's state or metrics file: what the Trainer logged."""
    LLAMAFACTORY = "llamafactory"
    """LLaMA-Factory's ``trainer_log.jsonl``."""
    WANDB = "wandb"
    """The local file of a W&B run."""
    TENSORBOARD = "tensorboard"
    """TensorBoard's event files."""
    MLFLOW = "mlflow"
    """MLflow's file store, or its SQLite store."""
    TRACKIO = "trackio"
    """trackio's local store."""
    TABLE = "table"
    """A CSV: Lightning's, an export of W&B, a saved log."""
    PRINTED = "printed"
    """What a training printed."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it was found.

    Args:
        path: The file it was read from.
        source: Of which kind.
        rows: The rows that count.
        planned_steps: The last step that the run was to have, where the file says so beside its rows. Our own rows
            say it among them.
        global_step: The step that the file stands at, where it says so: it may lie behind the last row.
        ended_by: What asked the run to end before its planned last step, where the file shows it beside its rows.
        behind: Whether our own rows end before the Trainer's state beside them, whose later rows are then among
            ``rows``.
        notes: What is to be known of another tool's log: what it does not hold, what else was there.
    """

    path: Path
    source: LogSource
    rows: tuple[Mapping[str, Any], ...]
    planned_steps: int | None = None
    global_step: int | None = None
    ended_by: str | None = None
    behind: bool = False
    notes: tuple[LogNote, ...] = ()

    def plan_rows(self) -> tuple[Observation, ...]:
        """The plan that the file holds beside its rows, as the callback notes it when training begins."""
        if self.planned_steps is None or not (self.rows or self.global_step):  # neither: nothing ran
            return ()
        values = {PLANNED_STEPS: self.planned_steps, GLOBAL_STEP: self.global_step}
        return (SetupObservation(0, PLAN, {name: value for name, value in values.items() if value is not None}),)

    def observations(self) -> tuple[Observation, ...]:
        """What is known of the run as observations, ready for the monitor."""
        return self.plan_rows() + observations_of(self.rows)

    def run_file(self) -> Path | None:
        """The ``run.json`` of the run that these rows belong to; None where there is none."""
        folder = self.path.absolute().parent
        if self.source is LogSource.ROWS:
            places = [folder]
        elif folder.name.startswith(_CHECKPOINT):
            places = [folder.parent / keys.FOLDER]
        else:
            places = [folder / keys.FOLDER]
        return next((place / keys.RUN_FILE for place in places if (place / keys.RUN_FILE).is_file()), None)


def read_run(path: str | Path) -> Run:
    """The run at a path.

    Args:
        path: A ``rows.jsonl``, a ``trainer_state.json`` or another tool's log; or a folder (``hf://OWNER/NAME``: a
            repository), where our own rows are taken first, then the folder's state file, then that of its latest
            checkpoint, then the other log with most to judge.

    Raises:
        UnreadableRunError: If nothing there can be read; the text says where, what was found, what to name.
    """
    path = run_place(path)
    try:
        if path.is_dir():
            return _in_folder(path)
        if not path.exists():
            raise UnreadableRunError(f"{path}: no such file or folder{_near(path)}")
        return _file(path)
    except OSError as error:
        raise UnreadableRunError(f"{path}: {opening_failure(error)}") from None


def _in_folder(folder: Path) -> Run:
    folder = _snapshot(folder)
    own = _own_file(folder)
    if own is not None:
        return _file(own)
    alone = read_plan(folder) is None and not _runs_in(folder)
    if alone and (log := richest_log(folder)) is not None:
        path, tool, held = log
        return _run(path, tool, held)
    raise _nothing(folder)


def _snapshot(folder: Path) -> Path:
    """The revision ``main`` of a repository in the Hub's cache (``models--OWNER--NAME``); any other folder itself."""
    ref = folder / "refs" / "main"
    if not ref.is_file() or not (folder / "snapshots").is_dir():
        return folder
    place = folder / "snapshots" / read_text(ref).strip()
    return place if place.is_dir() and place.parent == folder / "snapshots" else folder


def _run(path: Path, source: str, log: Log) -> Run:
    rows = tuple(log.rows)
    return Run(path, LogSource(source), rows, log.planned_steps, log.global_step, log.ended_by, notes=log.notes)


def _file(path: Path) -> Run:
    other = None if path.name == keys.ROWS_FILE else read_log(path)
    if other is not None:
        tool, log = other
        return _run(path, tool, log)
    if path.suffix != ".jsonl":
        try:
            state = read_state_rows(path)
        except UnreadableRunError as error:
            near = None if "did you mean" in str(error) else nearest_log(path)
            raise error if near is None else UnreadableRunError(f"{error}; did you mean {near}?") from None
        return _run(path, LogSource.TRAINER_STATE, state)
    rows = read_rows(path)
    if rows and not any(row.get(keys.KIND) in _KINDS for row in rows):
        shown = ", ".join(ascii(name).strip("'") for name in list(rows[0])[:_NAMED]) or "nothing"
        if path.name == keys.FINDINGS_FILE:
            fix = f"findings are made from the rows: name {path.with_name(keys.ROWS_FILE)}"
        else:
            fix = "name the output_dir of a Trainer"
        raise UnreadableRunError(
            f"{path}:1: not a row of {keys.ROWS_FILE} (found: {shown}); expected lines with a "
            f'"{keys.KIND}" ({", ".join(_KINDS)}); {fix}'
        )
    live = tuple(live_rows(rows))
    more = later_state(path, rows)
    if more is None:
        return Run(path, LogSource.ROWS, live)
    planned = None if any(row.get(keys.KIND_SETUP) == PLAN for row in live) else more.planned_steps
    return Run(path, LogSource.ROWS, (*live, *more.rows), planned, behind=True)


def _own_file(folder: Path) -> Path | None:
    """The file of a folder that holds its rows, ours or the Trainer's."""
    candidates = [folder / keys.FOLDER / keys.ROWS_FILE, folder / keys.ROWS_FILE, folder / STATE_FILE]
    for candidate in [*candidates, *reversed(checkpoint_states(folder))]:
        if candidate.is_file():
            return candidate
    return None


def _runs_in(folder: Path) -> list[str]:
    return [child.name for child in sorted(folder.iterdir()) if _is_run(child)]


def _nothing(folder: Path) -> UnreadableRunError:
    """What was looked for in a folder without a run, and what to name instead."""
    plan = read_plan(folder)
    if plan is not None:
        stages = [str(stage.path) for stage in plan.stages]
        return UnreadableRunError(
            f"{folder}: found the plan of a staged training, expected one run; name a stage: {_list(stages, _NAMED)}"
        )
    names = sorted(child.name for child in folder.iterdir())
    runs = _runs_in(folder)
    if len(runs) == 1:
        return UnreadableRunError(f"{folder}: no run, but a folder with one; did you mean {folder / runs[0]}?")
    if runs:
        return UnreadableRunError(
            f"{folder}: found {len(runs)} runs ({_list(runs, _LISTED)}) and no plan that joins them, expected one "
            "run; name one of them"
        )
    metrics = [name for name in _METRICS_FILES if name in names]
    found = f"found {_list(names, _NAMED)}" if names else "found an empty folder"
    fix = f"did you mean {folder / metrics[0]}?" if metrics else "name the output_dir of a Trainer"
    return UnreadableRunError(
        f"{folder}: {found}, expected {keys.FOLDER}/{keys.ROWS_FILE}, {STATE_FILE}, a {_CHECKPOINT}N with one, or "
        f"{LOGS}; {fix}"
    )


def _is_run(folder: Path) -> bool:
    own = folder / keys.FOLDER / keys.ROWS_FILE, folder / STATE_FILE
    try:
        return folder.is_dir() and (any(file.is_file() for file in own) or bool(checkpoint_states(folder)))
    except OSError:  # a folder that may not be looked into does not make its neighbours unreadable
        return False


def holds_run(folder: Path) -> bool:
    """Whether a folder is a run of any form, or a staged one.

    Raises:
        OSError: If it may not be looked into.
    """
    return _own_file(folder) is not None or (folder / keys.FOLDER / PLAN_FILE).is_file()


def _list(names: Sequence[str], limit: int) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _near(path: Path) -> str:
    """The name in the same folder that was probably meant."""
    try:
        names = sorted(child.name for child in path.parent.iterdir())
    except OSError:
        return f"; {path.parent} is no folder that can be read" if not path.parent.is_dir() else ""
    if path.name in names:
        return "; it is a link to nothing, or around in a circle; check what it points to"
    near = near_miss(path.name, names)
    return "; expected a run; check the path" if near is None else f"; did you mean {path.parent / near}?"


FORMAT: Final = 1
PLAN_FILE: Final = "plan.json"
_HERE: Final = "."
_FIX: Final = "name a stage's own folder to judge it alone"


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage: its name, its folder as the plan has it, and where that is."""

    name: str
    folder: str
    path: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """A staged training: its folder, the file that describes it, and its stages in order."""

    path: Path
    file: Path
    stages: tuple[PlannedStage, ...]


def read_plan(path: str | Path) -> Plan | None:
    """The plan of the staged training in a folder.

    Args:
        path: The folder ``RUN``.

    Returns:
        None where there is no plan, or the folder itself is the only stage: then it is an ordinary run.

    Raises:
        UnreadableRunError: If the plan is damaged, of another version, or names a folder that is not inside ``RUN``,
            also through a symbolic link.
    """
    path = Path(path)
    file = path / keys.FOLDER / PLAN_FILE
    try:
        if not file.is_file():
            return None
    except OSError:  # a path that cannot be looked at: the reader of the run says why
        return None
    listed = _stages(file)
    if [folder for _, folder in listed] == [_HERE]:
        return None
    stages: list[PlannedStage] = []
    for index, (name, folder) in enumerate(listed):
        key = f"stages[{index}]"
        if name in {stage.name for stage in stages}:
            raise _wrong(file, f"{key}.name", f"{clip(name)} a second time", "a name of its own")
        place = path / _inside(file, f"{key}.folder", folder)
        if place in {stage.path for stage in stages}:
            raise _wrong(file, f"{key}.folder", f"{clip(folder)} a second time", "a folder of its own")
        _stays(file, f"{key}.folder", folder, path, place)
        stages.append(PlannedStage(name, folder, place))
    return Plan(path, file, tuple(stages))


def _stages(file: Path) -> list[tuple[str, str]]:
    """Names and folders, as texts."""
    plan = read_json(file, "the plan of a staged training", _FIX)
    if not isinstance(plan, dict):
        raise _wrong(file, "the whole file", name_of(plan), "an object")
    if plan.get("format") != FORMAT or isinstance(plan.get("format"), bool):
        raise UnreadableRunError(
            f'{file}: "format" is {clip(plan.get("format"))}, expected {FORMAT}; a newer ko-cpt reads it, or {_FIX}'
        )
    stages = plan.get("stages")
    if not isinstance(stages, list) or not stages:
        found = "an empty list" if stages == [] else name_of(stages)
        raise _wrong(file, "stages", found, "a list of stages")
    pairs = enumerate(stages)
    return [(_text(file, index, stage, "name"), _text(file, index, stage, "folder")) for index, stage in pairs]


def _text(file: Path, index: int, stage: object, name: str) -> str:
    if not isinstance(stage, Mapping):
        raise _wrong(file, f"stages[{index}]", name_of(stage), 'an object with "name" and "folder"')
    value: Any = stage.get(name)
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise _wrong(file, f"stages[{index}].{name}", clip(value), "a text")
    return value


def _inside(file: Path, key: str, folder: str) -> PurePosixPath:
    """The folder as a path that does not leave ``RUN`` by its words."""
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts or "\\" in folder or ":" in folder or not path.parts:
        raise _wrong(file, key, clip(folder), "a folder inside the run, such as stages/01-embedding")
    return path


def _stays(file: Path, key: str, folder: str, run: Path, place: Path) -> None:
    """Refuse a folder that a symbolic link leads out of ``RUN``."""
    try:
        stays = place.resolve().is_relative_to(run.resolve())
    except (OSError, RuntimeError):  # a circle of links
        stays = False
    if not stays:
        raise _wrong(file, key, f"{clip(folder)}, a link that leads out of the run", "a folder inside it")


def _wrong(file: Path, key: str, found: str, expected: str) -> UnreadableRunError:
    return UnreadableRunError(f"{file}: {key}: found {found}, expected {expected}; {_FIX}")
