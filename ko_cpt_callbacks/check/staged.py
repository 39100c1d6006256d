"""A staged training judged stage by stage: what ``ko-cpt check`` shows of a plan folder, as a value.

Every stage is a fold of its own, so that a planned hand-over is no seam. What joins them is the difference between the
end of a stage and the end of the one before, on the same text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.asked import Asked, CheckOptions, asked_by
from ko_cpt_callbacks.check.judgement import Judgement, judge_run
from ko_cpt_callbacks.compare.baseline import Baseline, matching_stage
from ko_cpt_callbacks.compare.reference import watched_baseline
from ko_cpt_callbacks.compare.stage import STAGE, Trains
from ko_cpt_callbacks.compare.stage_delta import (
    STAGE_DIFFERENCE,
    BaselineDelta,
    EvalEnd,
    StageDelta,
    baseline_delta,
    stage_delta,
)
from ko_cpt_callbacks.errors import KoCPTError, UnreadableRunError
from ko_cpt_callbacks.run.facts import RunFacts, joined_facts
from ko_cpt_callbacks.run.file import opening_failure
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.folder import eval_rows_path, read_eval_rows
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation
from ko_cpt_callbacks.run.progress import RunProgress
from ko_cpt_callbacks.run.reading import LogSource, Plan, PlannedStage, Run, read_run
from ko_cpt_callbacks.run.retention import is_retention

__all__ = [
    "BASE",
    "PlanJudgement",
    "StageChange",
    "StageJudgement",
    "judge_plan",
    "stage_row",
    "start_delta",
]

_FORMAT: Final = 1
State: TypeAlias = Literal["judged", "not begun", "unreadable"]
BASE: Final = "base"
_SAME: Final = "same run"  # one tokenizer from beginning to end


@dataclass(frozen=True, slots=True)
class StageChange:
    """What a stage changed on one evaluation set, and the baseline's change beside it.

    Args:
        delta: The change.
        retention: Whether the set stands for what must not be forgotten; it is never judged.
        ended: Whether the stage came to its end; while it runs its last evaluation is not its end.
        baseline: The change of the baseline's matching stage; None where there is none.
    """

    delta: StageDelta
    retention: bool
    ended: bool
    baseline: BaselineDelta | None = None

    @property
    def judged(self) -> bool:
        """Whether `stage-regression` was asked of it."""
        return self.delta.judged and self.ended and not self.retention

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **self.delta.as_dict(),
            "retention": self.retention,
            "ended": self.ended,
            "judged": self.judged,
            "baseline": None if self.baseline is None else self.baseline.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class StageJudgement:
    """One stage of a plan: judged, not begun, or why it cannot be read (``message``)."""

    planned: PlannedStage
    state: State
    judgement: Judgement | None = None
    message: str | None = None
    trains: str | None = None


@dataclass(frozen=True, slots=True)
class PlanJudgement:
    """A staged training, judged."""

    plan: Plan
    stages: tuple[StageJudgement, ...]
    changes: tuple[StageChange, ...]
    baseline: Baseline | None = None
    unasked: tuple[str, ...] = ()

    @property
    def judged(self) -> tuple[tuple[str, Judgement], ...]:
        """The stages that could be judged, by name."""
        return tuple((stage.planned.name, stage.judgement) for stage in self.stages if stage.judgement is not None)

    @property
    def language(self) -> str:
        """That of the first of them."""
        return self.judged[0][1].watch.language

    @property
    def facts(self) -> RunFacts:
        """What every verdict carries, of all stages together."""
        return joined_facts([None if stage.judgement is None else stage.judgement.facts for stage in self.stages])

    @property
    def findings(self) -> tuple[tuple[str, Finding], ...]:
        """Every finding with the name of its stage, in the stages' order."""
        return tuple((name, found) for name, one in self.judged for found in one.findings)

    def as_dict(self, path: str) -> dict[str, Any]:
        """The judgement as strict JSON: ``schemas/check_plan.schema.json``.

        Args:
            path: The folder as the user named it.
        """
        return {
            "format": _FORMAT,
            **self.facts.as_dict(),
            "plan": {
                "path": path,
                "file": str(self.plan.file),
                "baseline": None if self.baseline is None else self.baseline.id,
                "targets_not_asked": list(self.unasked),
                "stages": [
                    {
                        "name": stage.planned.name,
                        "folder": stage.planned.folder,
                        "state": stage.state,
                        "message": stage.message,
                        "trains": stage.trains,
                    }
                    for stage in self.stages
                ],
            },
            "stages": [
                stage.judgement.as_dict(str(stage.planned.path))
                for stage in self.stages
                if stage.judgement is not None
            ],
            "deltas": [change.as_dict() for change in self.changes],
            "findings": [
                {"stage": name, **found.as_dict(one.watch.language)}
                for name, one in self.judged
                for found in one.findings
            ],
        }


@dataclass(frozen=True, slots=True)
class _Read:
    """A stage that was read, before it is judged."""

    planned: PlannedStage
    run: Run
    asked: Asked
    seen: tuple[Observation, ...]

    @property
    def record(self) -> Path:
        """The stage's ``ko_cpt`` folder."""
        folder = self.run.path.parent
        return folder if self.run.source is LogSource.ROWS else self.planned.path / keys.FOLDER

    def ends(self) -> dict[str, EvalObservation]:
        """The last evaluation of each set."""
        return {item.split: item for item in self.seen if isinstance(item, EvalObservation)}

    def ended(self) -> bool:
        """Whether the Trainer's last row is there."""
        progress = RunProgress()
        for item in self.seen:
            progress = progress.add(item)
        return progress.ended


def judge_plan(plan: Plan, options: CheckOptions | None = None) -> PlanJudgement:
    """Every stage that has begun, and the change from each to the next.

    Args:
        plan: The staged training.
        options: The options; None: none was given. Without a baseline among them it is the one that a stage was
            compared with while it ran, if any.

    Raises:
        UnreadableRunError: If there is no stage that can be judged.
    """
    options = options or CheckOptions()
    baseline, of_last = options.baseline, replace(options, baseline=None)
    of_others = replace(of_last, targets=())
    read = [_read(stage, of_last if stage is plan.stages[-1] else of_others) for stage in plan.stages]
    if not any(isinstance(item, _Read) for item in read):
        raise UnreadableRunError(_nothing(plan, read))
    if baseline is None:
        asked = (watched_baseline(item.asked.spec) for item in read if isinstance(item, _Read))
        baseline = next((item for item in asked if item is not None), None)
    names = [_baseline_stage(item, baseline) if isinstance(item, _Read) else None for item in read]
    stages: list[StageJudgement] = []
    changes: list[StageChange] = []
    for index, item in enumerate(read):
        if not isinstance(item, _Read):
            stages.append(item)
            continue
        before = read[index - 1] if index else None
        made = _changes(before, item) if isinstance(before, _Read) else []
        if baseline is not None and index:
            beside = baseline_delta(baseline, names[index - 1], names[index])
            made = [replace(change, baseline=None if change.retention else beside) for change in made]
        judgement = judge_run(item.run, item.asked, _rows(item, made))
        name = stage_row(item.seen).get("name")
        stages.append(StageJudgement(item.planned, "judged", judgement, trains=name if isinstance(name, str) else None))
        changes.extend(made)
    unasked = tuple(options.targets) if not isinstance(read[-1], _Read) else ()
    return PlanJudgement(plan, tuple(stages), tuple(changes), baseline, unasked)


def _read(stage: PlannedStage, options: CheckOptions) -> _Read | StageJudgement:
    try:
        if not stage.path.exists() or (stage.path.is_dir() and not any(stage.path.iterdir())):
            return StageJudgement(stage, "not begun")
        run = read_run(stage.path)
        return _Read(stage, run, asked_by(run, options), run.observations())
    except KoCPTError as error:
        return StageJudgement(stage, "unreadable", message=str(error))
    except OSError as error:
        return StageJudgement(stage, "unreadable", message=f"{stage.path}: {opening_failure(error)}")


def _nothing(plan: Plan, read: Sequence[_Read | StageJudgement]) -> str:
    failed = [item.message for item in read if isinstance(item, StageJudgement) and item.message is not None]
    if failed:
        return f"{plan.file}: no stage can be judged; the first that was begun: {failed[0]}"
    folders = ", ".join(stage.folder for stage in plan.stages[:3])
    return f"{plan.file}: no stage has begun (nothing in {folders}), expected at least one; train first"


def _changes(before: _Read, item: _Read) -> list[StageChange]:
    earlier = before.ends()
    retention, ended = (*before.asked.spec.retention, *item.asked.spec.retention), item.ended()
    return [
        StageChange(_delta(before, earlier[split], item, seen), is_retention(split, retention), ended)
        for split, seen in item.ends().items()
        if split in earlier
    ]


def _delta(before: _Read, first: EvalObservation, item: _Read, second: EvalObservation) -> StageDelta:
    start = EvalEnd.of(before.planned.name, first, before.asked.tokenizer)
    end = EvalEnd.of(item.planned.name, second, item.asked.tokenizer)
    return _paired(start, before.record, end, item.record)


def _paired(start: EvalEnd, before: Path, end: EvalEnd, after: Path) -> StageDelta:
    """The change, row by row where both records have the sums per row."""
    plain = stage_delta(start, end)
    paths = [eval_rows_path(record, one.split, one.step) for record, one in ((before, start), (after, end))]
    if plain.outcome != "unpaired" or not all(path.is_file() for path in paths):
        return plain
    try:
        rows = [read_eval_rows(path) for path in paths]
    except UnreadableRunError:
        return replace(plain, reasons=("unreadable-rows",))
    return stage_delta(replace(start, rows=rows[0]), replace(end, rows=rows[1]))


def _rows(item: _Read, changes: Sequence[StageChange]) -> tuple[SetupObservation, ...]:
    """The differences as the rule reads them; one that the stage's own rows hold is not reported again."""
    noted = {
        (row.values.get("before"), row.values.get("split"))
        for row in item.seen
        if isinstance(row, SetupObservation) and row.kind == STAGE_DIFFERENCE
    }
    return tuple(
        SetupObservation(change.delta.step, STAGE_DIFFERENCE, change.delta.as_dict())
        for change in changes
        if change.judged and (change.delta.before, change.delta.split) not in noted
    )


def stage_row(seen: Iterable[Observation]) -> Mapping[str, Any]:
    """What the last ``stage`` row says; empty where there is none."""
    rows = [item.values for item in seen if isinstance(item, SetupObservation) and item.kind == STAGE]
    return rows[-1] if rows else {}


def _baseline_stage(item: _Read, baseline: Baseline | None) -> str | None:
    """The baseline's stage that a stage stands beside: by what its model trained, else by its name."""
    if baseline is None:
        return None
    trains = Trains.in_row(stage_row(item.seen))
    if trains is not None:
        return matching_stage(trains, baseline).stage
    return item.planned.name if baseline.stage(item.planned.name) is not None else None


def start_delta(stage: PlannedStage, run: Run, split: str) -> StageDelta | None:
    """The change on one evaluation set from before the first step to the end of a stage.

    None where nothing was evaluated before the first step.
    """
    seen = [item for item in run.observations() if isinstance(item, EvalObservation) and item.split == split]
    if len(seen) < 2 or seen[0].step != 0:
        return None
    start = EvalEnd.of(BASE, seen[0], _SAME)
    end = EvalEnd.of(stage.name, seen[-1], _SAME)
    record = stage.path / keys.FOLDER
    return _paired(start, record, end, record)
