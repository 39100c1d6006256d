"""``run.json`` to what a run was told to watch, so that a later reader watches the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.reference import AUTO, checked_stage
from ko_cpt_callbacks.errors import ConfigurationError, UnreadableRunError
from ko_cpt_callbacks.messages.catalogue import retired
from ko_cpt_callbacks.rules.registry import TASKS
from ko_cpt_callbacks.run.file import clip, name_of, read_text
from ko_cpt_callbacks.run.folder import RUN_FORMAT
from ko_cpt_callbacks.run.retention import checked_retention
from ko_cpt_callbacks.watch.stopping import Patience, read_patience

__all__ = ["Told", "read_told"]

_FIX: Final = "move it away to judge the rows with the default rules"


@dataclass(frozen=True, slots=True)
class Told:
    """What the callback was told.

    Args:
        task: ``cpt``, ``sft`` or ``other``.
        targets: Targets in their text form.
        rules: Codes of the rules that were asked, those of earlier versions by their present names; None where the file
            does not say.
        language: Language of the sentences; None where the file does not say.
        patience: When the run was to be judged to stand still.
        retention: Names of the evaluation sets that do not count for that.
        stop: ``code``, ``step`` and ``message`` of the finding that asked the run to stop; None where none did.
        baseline: What it was compared with, as it was then; None where with nothing.
        stage: The baseline's stage, or ``auto``.
        limits: Limits of rules in place of their own, by code and name; this version may not have them.
    """

    task: str
    targets: tuple[str, ...] = ()
    rules: tuple[str, ...] | None = None
    language: str | None = None
    patience: Patience = field(default_factory=Patience)
    retention: tuple[str, ...] = ()
    stop: Mapping[str, Any] | None = None
    baseline: Baseline | None = None
    stage: str = AUTO
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def read_told(path: str | Path) -> Told:
    """What the run of this ``run.json`` was told.

    Raises:
        UnreadableRunError: If the file is damaged, of another version, or says something no run can be told: a
            verdict that silently left out a target would be worse than none.
    """
    path = Path(path)
    try:
        run = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnreadableRunError):
            raise
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UnreadableRunError(f"{path}{line}: JSON cut off or damaged; expected a run.json; {_FIX}") from None
    if not isinstance(run, dict):
        raise UnreadableRunError(f"{path}: found {name_of(run)}, expected a run.json (an object); {_FIX}")
    if run.get("format") != RUN_FORMAT or isinstance(run.get("format"), bool):
        found = clip(run.get("format"))
        expected = f"expected {RUN_FORMAT}; a newer ko-cpt reads it, or {_FIX}"
        raise UnreadableRunError(f'{path}: "format" is {found}, {expected}')
    told = run.get("told")
    if not isinstance(told, dict):
        raise UnreadableRunError(f'{path}: found {name_of(told)} under "told", expected an object; {_FIX}')
    task = told.get("task")
    if task not in TASKS:
        raise UnreadableRunError(f'{path}: "told.task" is {clip(task)}, expected one of {", ".join(TASKS)}; {_FIX}')
    language = told.get("language")
    baseline, stage = _baseline(path, told)
    return Told(
        task=task,
        targets=_texts(path, told, "targets") or (),
        rules=_present(_texts(path, told, "rules")),
        language=language if isinstance(language, str) else None,
        patience=_patience(path, told),
        retention=_retention(path, told),
        stop=_stop(run.get("stop")),
        baseline=baseline,
        stage=stage,
        limits=_limits(path, told.get("limits")),
    )


def _present(codes: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The codes by their present names; one that has none is left out."""
    if codes is None:
        return None
    return tuple(now for now in dict.fromkeys(retired().get(one, one) for one in codes) if now)


def _limits(path: Path, value: object) -> dict[str, dict[str, float]]:
    """Limits by code and name; none where the file is of a version that has none."""
    if value is None:
        return {}
    found: dict[str, dict[str, float]] = {}
    for code, limits in value.items() if isinstance(value, dict) else [(None, None)]:
        if not isinstance(code, str) or not isinstance(limits, dict):
            expected = "expected limits by code and name"
            raise UnreadableRunError(f'{path}: "told.limits" is {clip(value)}, {expected}; {_FIX}')
        for name, number in limits.items():
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise UnreadableRunError(
                    f'{path}: "told.limits.{code}.{name}" is {clip(number)}, expected a number; {_FIX}'
                )
        found[code] = limits
    return found


def _baseline(path: Path, told: Mapping[str, Any]) -> tuple[Baseline | None, str]:
    values, stage = told.get("baseline"), told.get("stage", AUTO)
    if values is None:
        return None, AUTO
    try:
        baseline = Baseline.from_dict(values)
        checked_stage(baseline, stage)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        found = f"found no baseline that can be used ({error})"
        raise UnreadableRunError(f'{path}: under "told": {found}; {_FIX}') from None
    return baseline, stage


def _patience(path: Path, told: Mapping[str, Any]) -> Patience:
    patience, delta = told.get("patience"), told.get("min_delta")
    try:
        return read_patience(patience, None if patience is None else delta)
    except ConfigurationError as error:
        raise UnreadableRunError(f'{path}: under "told": {error}; {_FIX}') from None


def _stop(value: object) -> Mapping[str, Any] | None:
    if not isinstance(value, dict) or not isinstance(value.get("code"), str):
        return None
    step, message = value.get("step"), value.get("message")  # message: earlier versions have one sentence
    short, detail = value.get("short", message), value.get("detail", message)
    return {
        "code": value["code"],
        "step": step if isinstance(step, int) and not isinstance(step, bool) else None,
        "short": short if isinstance(short, str) else "",
        "detail": detail if isinstance(detail, str) else "",
    }


def _retention(path: Path, told: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        return checked_retention(_texts(path, told, "retention") or ())
    except ConfigurationError as error:
        raise UnreadableRunError(f'{path}: under "told": {error}; {_FIX}') from None


def _texts(path: Path, told: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """A list of texts under ``told``; None where there is none."""
    value = told.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UnreadableRunError(f'{path}: "told.{name}" is {clip(value)}, expected a list of texts; {_FIX}')
    return tuple(value)
