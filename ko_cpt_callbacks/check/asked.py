"""What a run is judged by: the options of a command, else what its ``run.json`` says, else the default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.reference import read_baseline
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.forecast.family import FamilyRun
from ko_cpt_callbacks.rules.registry import known_limits
from ko_cpt_callbacks.run.file import read_json
from ko_cpt_callbacks.run.reading import Run
from ko_cpt_callbacks.watch.argument import Limits
from ko_cpt_callbacks.watch.spec import FIX, WatchSpec

__all__ = ["Asked", "CheckOptions", "asked_by", "asked_of", "read_recorded_run"]

_OPTION: Final = "option"
_DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What the options of a command ask of every run, each in place of what its ``run.json`` says.

    Args:
        targets: Texts of what must be reached; of a staged run they are asked of its last planned stage alone.
        task: What it was; None where that was not given.
        baseline: What to compare with. Of a staged run the changes of its stages are shown beside.
        retention: Names of sets that must not be forgotten.
        limits: Limits of rules by code and name, checked.
        language: Of the sentences.
        family: Finished runs to forecast by, in place of those that the run was given.
    """

    targets: Sequence[str] = ()
    task: str | None = None
    baseline: Baseline | None = None
    retention: Sequence[str] = ()
    limits: Limits | None = None
    language: str | None = None
    family: Sequence[FamilyRun] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is judged by, and where it is from: an option, ``run.json``, or neither (``default``).

    Args:
        spec: What is watched.
        task_from: Where the task is from.
        targets_from: Where the targets are from.
        unknown_rules: Codes in ``run.json`` that this version does not know, and limits (``loss-spike.most``).
        stop: ``code``, ``step``, ``short`` and ``detail`` of the finding that asked the run to stop; None where none
            did.
        record: All that ``run.json`` says; empty where there is none.
    """

    spec: WatchSpec
    task_from: str = _DEFAULT
    targets_from: str = _DEFAULT
    unknown_rules: tuple[str, ...] = ()
    stop: Mapping[str, Any] | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    def recorded(self, part: str) -> Mapping[str, Any]:
        """A part of ``run.json``, such as ``model``; empty where it has none."""
        found = self.record.get(part)
        return found if isinstance(found, dict) else {}

    @property
    def tokenizer(self) -> str | None:
        """The hash of the run's vocabulary; None where it is not known."""
        found = self.recorded("tokenizer").get("hash")
        return found if isinstance(found, str) and found else None


def read_recorded_run(path: str | Path) -> Asked:
    """What a ``run.json`` says was watched; it may name codes and limits that this version does not have.

    Raises:
        UnreadableRunError: If the file is damaged, of another version, or says something that cannot be watched.
    """
    path = Path(path)
    run = read_json(path, f"a {keys.RUN_FILE}", FIX)
    spec = WatchSpec.from_run_json(run, str(path), read_baseline)
    return Asked(spec, keys.RUN_FILE, keys.RUN_FILE, stop=_stop(run.get("stop")), record=run)


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


def asked_of(recorded: Asked | None, options: CheckOptions | None = None) -> Asked:
    """What to watch: an option where one was given, else what ``run.json`` says, else the default.

    Args:
        recorded: What ``run.json`` says; None: there is none.
        options: The options; None: none was given.

    Raises:
        ConfigurationError: If a target or a retention set cannot be used.
    """
    known, options, before = known_limits(), options or CheckOptions(), recorded or Asked(WatchSpec())
    spec = WatchSpec.from_options(
        known,
        None if recorded is None else recorded.spec,
        task=options.task,
        targets=options.targets,
        baseline=None if options.baseline is None else options.baseline.as_dict(),
        retention=options.retention,
        limits=options.limits,
        language=options.language,
    )
    return replace(
        before,
        spec=spec,
        task_from=before.task_from if options.task is None else _OPTION,
        targets_from=_OPTION if options.targets else before.targets_from,
        unknown_rules=before.spec.unknown(known),
    )


def asked_by(run: Run, options: CheckOptions | None = None) -> Asked:
    """The same of a run that was found, with its own ``run.json``.

    Raises:
        UnreadableRunError: If that file cannot be believed.
        ConfigurationError: If an option cannot be used on it; names the file.
    """
    file = run.run_file()
    try:
        return asked_of(None if file is None else read_recorded_run(file), options)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None
