"""``RUN/ko_cpt/plan.json``: a staged training, each stage an ordinary run folder inside ``RUN``.

Format 1: ``{"format": 1, "stages": [{"name": "embedding", "folder": "stages/01-embedding"}, …]}``; whatever else is
in it (the recipe) is its writer's. A plan whose only stage is ``.`` describes an ordinary run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.readers.text_file import clip, name_of, read_text

__all__ = ["FORMAT", "PLAN_FILE", "Plan", "PlannedStage", "read_plan"]

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
            also by way of a symbolic link.
    """
    path = Path(path)
    file = path / keys.FOLDER / PLAN_FILE
    try:
        if not file.is_file():
            return None
    except OSError:  # a path that cannot be looked at: whoever reads the run says why
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
    try:
        plan = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnreadableRunError):
            raise
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UnreadableRunError(
            f"{file}{line}: JSON cut off or damaged; expected the plan of a staged training; {_FIX}"
        ) from None
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
