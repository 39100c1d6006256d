"""A run and what is to be watched, judged: what ``ko-cpt check`` shows, as a value."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.heading import Heading, headings
from ko_cpt_callbacks.check.missing import Absence, absences
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.reference import read_baseline
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.forecast.family import FamilyRun, family_row, others
from ko_cpt_callbacks.forecast.outlook import Outlook, outlook_of
from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.registry import known_limits, known_rules, rules_for
from ko_cpt_callbacks.rules.setup.check import RecordBehind
from ko_cpt_callbacks.run.facts import RunFacts, facts_of
from ko_cpt_callbacks.run.file import read_text
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.fold import FAMILY
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.run.progress import EvalProgress, Summary, trace
from ko_cpt_callbacks.run.reading import Run
from ko_cpt_callbacks.run.rows import LogHabits, observations
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.watch.argument import Limits
from ko_cpt_callbacks.watch.plausibility import TargetDoubt, doubts_of
from ko_cpt_callbacks.watch.recorded import FIX
from ko_cpt_callbacks.watch.spec import WatchSpec

if TYPE_CHECKING:  # numpy: only for who has checkpoints
    from ko_cpt_callbacks.checkpoint.account import Account

__all__ = ["Asked", "Counts", "Judgement", "RecordedRun", "asked_of", "judge_run", "read_recorded_run", "reduction"]

@dataclass(frozen=True, slots=True)
class RecordedRun:
    """What a ``run.json`` says.

    Args:
        spec: What was watched; it may have codes and limits that this version does not.
        stop: ``code``, ``step``, ``short`` and ``detail`` of the finding that asked the run to stop; None where none
            did.
    """

    spec: WatchSpec
    stop: Mapping[str, Any] | None = None


def read_recorded_run(path: str | Path) -> RecordedRun:
    """Read a ``run.json``.

    Raises:
        UnreadableRunError: If the file is damaged, of another version, or says something that cannot be watched.
    """
    path = Path(path)
    try:
        run = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UnreadableRunError):
            raise
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UnreadableRunError(f"{path}{line}: JSON cut off or damaged; expected a run.json; {FIX}") from None
    return RecordedRun(WatchSpec.from_run_json(run, str(path), read_baseline), _stop(run.get("stop")))


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


_FORMAT: Final = 1
_OPTION: Final = "option"
_DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is judged by, and where it is from: an option, ``run.json``, or neither (``default``).

    Args:
        spec: What is watched.
        task_from: Where the task is from.
        targets_from: Where the targets are from.
        unknown_rules: Codes in ``run.json`` that this version does not know, and limits (``loss-spike.most``).
        stop: The finding that asked the run to stop, as ``run.json`` has it.
    """

    spec: WatchSpec
    task_from: str = _DEFAULT
    targets_from: str = _DEFAULT
    unknown_rules: tuple[str, ...] = ()
    stop: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows were read and what they held; ``unused``: rows that hold nothing to judge."""

    rows: int
    training: int
    evaluations: int
    unused: int
    first_step: int | None
    last_step: int | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was judged, by what, and what was found.

    Args:
        run: The run.
        asked: What it was judged by.
        rules: Codes of the rules that were asked.
        counts: How many rows there were.
        summary: What it has reached.
        findings: What was found.
        absences: What its rows lack.
        curves: Losses by set, ``train`` among them.
        running: Whether another process writes its rows now.
        outlook: What forecasts are made from.
        account: Its checkpoints; None where none is on disk.
    """

    run: Run
    asked: Asked
    rules: tuple[str, ...]
    counts: Counts
    summary: Summary
    findings: tuple[Finding, ...]
    absences: tuple[Absence, ...]
    curves: Mapping[str, Sequence[float | None]]
    running: bool = False
    outlook: Outlook = field(default_factory=Outlook)
    account: Account | None = None

    @property
    def watch(self) -> WatchSpec:
        """What was watched."""
        return self.asked.spec

    @property
    def facts(self) -> RunFacts:
        """What every verdict carries."""
        stop = self.run.ended_by if self.asked.stop is None else str(self.asked.stop["code"])
        running = self.running and not self.summary.ended
        return facts_of(self.summary, self.findings, running=running, stopped_by=stop)

    def left_out(self) -> tuple[str, ...]:
        """Codes of the rules that this version has and was not to ask."""
        return tuple(rule.code for rule in known_rules() if rule.code not in self.rules)

    @property
    def doubts(self) -> tuple[TargetDoubt, ...]:
        """What is to be asked twice about its targets; nothing of a run whose loss is no language model's."""
        kind = self.facts.kind
        return doubts_of(self.watch.targets, self.watch.task) if kind is None or kind.language else ()

    def headings(self) -> list[Heading]:
        """Where the losses of a run that is not over are heading."""
        return headings(self.facts, self.outlook, self.watch)

    def notes(self) -> list[str]:
        """What is to be known of another tool's log."""
        said = catalogue(self.watch.language)
        return [said.line_of(note.name, **note.values) for note in self.run.notes]

    def as_dict(self, path: str) -> dict[str, Any]:
        """The judgement as strict JSON: ``schemas/check.schema.json``.

        Args:
            path: The run as the user named it.
        """
        counts, asked, watch, facts = self.counts, self.asked, self.watch, self.facts.as_dict()
        summary = {**facts, **self.summary.as_dict()}
        for name, split in self.summary.splits.items():
            summary["splits"][name]["reduction"] = reduction(split)
        return {
            "format": _FORMAT,
            **facts,
            "run": {
                "path": path,
                "file": str(self.run.path),
                "source": self.run.source.value,
                **({"notes": self.notes()} if self.run.notes else {}),
                "rows": counts.rows,
                "training_rows": counts.training,
                "evaluations": counts.evaluations,
                "unused_rows": counts.unused,
                "first_step": counts.first_step,
                "last_step": counts.last_step,
                "task": watch.task,
                "task_from": asked.task_from,
                "targets": [str(target) for target in watch.targets],
                "targets_from": asked.targets_from,
                "doubts": [doubt.as_dict(watch.language) for doubt in self.doubts],
                "baseline": None if watch.baseline is None else watch.baseline["id"],
                "rules": list(self.rules),
                "rules_left_out": list(self.left_out()),
                "unknown_rules": list(asked.unknown_rules),
                "limits": {code: dict(given) for code, given in watch.limits.items()},
                "stop": None if asked.stop is None else dict(asked.stop),
                "missing": [item.as_dict(watch.language) for item in self.absences],
            },
            "summary": summary,
            "findings": [finding.as_dict(watch.language) for finding in self.findings],
            **({} if self.account is None else {"checkpoints": self.account.as_dict()}),
            **({"forecasts": [one.as_dict() for one in found]} if (found := self.headings()) else {}),
        }


def reduction(split: EvalProgress) -> float | None:
    """By what share the loss fell from the first evaluation to the last, 1 being all of it; negative where it rose.

    None where there is one evaluation, where one of the two was not finite, and where an exact loss would be
    compared with the Trainer's.
    """
    first, last = split.first, split.last
    if first.step == last.step or first.metric != last.metric or first.value is None or last.value is None:
        return None
    if not (first.finite and last.finite) or first.value <= 0:
        return None
    share = 1.0 - last.value / first.value
    return share if abs(share) != float("inf") else None


def asked_of(
    recorded: RecordedRun | None,
    *,
    task: str | None = None,
    targets: Sequence[str] = (),
    baseline: Baseline | None = None,
    retention: Sequence[str] = (),
    limits: Limits | None = None,
    language: str | None = None,
) -> Asked:
    """What to watch: an option where one was given, else what ``run.json`` says, else the default.

    Args:
        recorded: What ``run.json`` says; None: there is none.
        task: As `WatchSpec.from_options` has it; so are the others.
        targets: Texts of targets.
        baseline: What to compare with.
        retention: Names of sets.
        limits: Limits by code and name, checked.
        language: A language.

    Raises:
        ConfigurationError: If a target or a retention set cannot be used.
    """
    known = known_limits()
    spec = WatchSpec.from_options(
        known,
        None if recorded is None else recorded.spec,
        task=task,
        targets=targets,
        baseline=None if baseline is None else baseline.as_dict(),
        retention=retention,
        limits=limits,
        language=language,
    )
    otherwise = _DEFAULT if recorded is None else keys.RUN_FILE
    return Asked(
        spec,
        task_from=otherwise if task is None else _OPTION,
        targets_from=_OPTION if targets else otherwise,
        unknown_rules=() if recorded is None else recorded.spec.unknown(known),
        stop=None if recorded is None else recorded.stop,
    )


def judge_run(
    run: Run,
    asked: Asked,
    more: Sequence[Observation] = (),
    *,
    running: bool = False,
    family: Sequence[FamilyRun] = (),
) -> Judgement:
    """The judgement of a run.

    Args:
        run: The run.
        asked: What it is judged by.
        more: What is known of it beside its rows, such as how its end stands to that of the stage before.
        running: Whether another process writes its rows now.
        family: Finished runs that it is compared with, in place of those that it was given.
    """
    seen: list[Observation] = []
    training: set[int] = set()
    evaluations: set[tuple[str, int]] = set()
    unused = 0
    habits = LogHabits.of(run.rows)
    for row in run.rows:
        found = observations(row) if habits.own(row) else ()
        seen.extend(found)
        unused += not found and row.get(keys.KIND) != keys.KIND_CHECKPOINT
    curves: dict[str, list[float | None]] = {}
    for item in seen:
        trace(curves, item)
        if isinstance(item, TrainObservation):
            training.add(item.step)
        elif isinstance(item, EvalObservation):
            evaluations.add((item.split, item.step))
    seen.extend(more)
    told = list(run.plan_rows())
    if family:
        seen = [one for one in seen if not isinstance(one, SetupObservation) or one.kind != FAMILY]
        told.append(SetupObservation(0, FAMILY, family_row(others(family, outlook_of([*told, *seen])))))
    spec = asked.spec
    # That the record is a stump is reported of every run, whatever it watches.
    behind = run.behind and spec.rules is not None
    rules = rules_for(replace(spec, rules=(*(spec.rules or ()), RecordBehind().code)) if behind else spec)
    state, findings = Monitor(rules, task=spec.task).judge([*told, *seen])
    codes = tuple(rule.code for rule in rules)
    steps = [item.step for item in seen]
    return Judgement(
        run=run,
        asked=asked,
        rules=codes,
        counts=Counts(
            rows=len(run.rows),
            training=len(training),
            evaluations=len(evaluations),
            unused=unused,
            first_step=min(steps, default=None),
            last_step=max(steps, default=None),
        ),
        summary=state.summary(),
        findings=findings,
        absences=absences(seen, codes, spec.targets, language=state.progress.seen.language),
        curves=curves,
        running=running,
        outlook=state.signals.outlook if isinstance(state.signals, Signals) else Outlook(),
    )
