"""A run and what is to be watched, judged: what ``ko-cpt check`` shows, as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.asked import Asked
from ko_cpt_callbacks.check.missing import Absence, absences
from ko_cpt_callbacks.forecast.chance import Chance, chance_of
from ko_cpt_callbacks.forecast.family import FamilyRun, family_row, others
from ko_cpt_callbacks.forecast.outlook import Outlook, outlook_of
from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.registry import known_rules, rules_for
from ko_cpt_callbacks.rules.setup.check import RecordBehind
from ko_cpt_callbacks.run.facts import RunFacts, RunState, facts_of
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.fold import FAMILY
from ko_cpt_callbacks.run.lock import is_written
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.run.progress import EvalProgress, Summary, trace
from ko_cpt_callbacks.run.reading import LogSource, Run
from ko_cpt_callbacks.run.retention import is_retention
from ko_cpt_callbacks.run.rows import observations, own_rows
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.watch.plausibility import TargetDoubt, doubts_of
from ko_cpt_callbacks.watch.spec import WatchSpec

if TYPE_CHECKING:  # numpy: only for who has checkpoints
    from ko_cpt_callbacks.checkpoint.account import Account
    from ko_cpt_callbacks.forecast.forecast import Forecast

__all__ = ["Counts", "Heading", "Judgement", "judge_run", "reduction"]

_FORMAT: Final = 1
_GOING_ON: Final = (RunState.RUNNING, RunState.UNFINISHED)


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
class Heading:
    """Where the loss of one set is heading.

    Args:
        name: The set; ``train`` where none is evaluated.
        metric: Which loss.
        ends: Its forecast.
        chances: Those of the set's targets.
        outlook: The run, for how long the rest takes.
    """

    name: str
    metric: str
    ends: Forecast
    chances: tuple[Chance, ...]
    outlook: Outlook

    def effort(self, step: int) -> dict[str, float | None]:
        """Target tokens and hours from now to a step; hours of one accelerator, or else of all processes."""
        tokens = self.outlook.tokens_until(step)
        hours = None if tokens is None else self.outlook.hours_for(tokens)
        found: dict[str, float | None] = {"tokens_to_reach": tokens, "gpu_hours_to_reach": None, "hours_to_reach": None}
        return found if hours is None else {**found, ("gpu_" if hours[1] else "") + "hours_to_reach": hours[0]}

    def as_dict(self) -> dict[str, Any]:
        """The heading as JSON values."""
        nothing = dict.fromkeys(("tokens_to_reach", "gpu_hours_to_reach", "hours_to_reach"))
        targets = [
            {**one.as_dict(), **(nothing if one.step is None else self.effort(one.step))} for one in self.chances
        ]
        return {"set": self.name, "metric": self.metric, **self.ends.as_dict(), "targets": targets}


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
        facts: What every verdict carries.
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
    facts: RunFacts
    outlook: Outlook = field(default_factory=Outlook)
    account: Account | None = None

    @property
    def watch(self) -> WatchSpec:
        """What was watched."""
        return self.asked.spec

    def left_out(self) -> tuple[str, ...]:
        """Codes of the rules that this version has and was not to ask."""
        return tuple(rule.code for rule in known_rules() if rule.code not in self.rules)

    @property
    def doubts(self) -> tuple[TargetDoubt, ...]:
        """What is to be asked twice about its targets; nothing of a run whose loss is no language model's."""
        kind = self.facts.kind
        return doubts_of(self.watch.targets, self.watch.task) if kind is None or kind.language else ()

    def headings(self) -> list[Heading]:
        """Where each set is heading, those with targets first; none of a run that is over, or is no language model's.

        Where no set is evaluated, training is what there is.
        """
        facts, outlook, targets = self.facts, self.outlook, self.watch.targets
        if facts.state not in _GOING_ON or (facts.kind is not None and not facts.kind.language):
            return []
        asked = [target.split for target in targets]

        def place(name: str) -> tuple[int, bool]:
            first = asked.index(name) if name in asked else len(asked)
            return first, is_retention(name, self.watch.retention)

        found = []
        for name in sorted(outlook.sets, key=place) or [keys.TRAIN_PREFIX]:
            curve, ends = outlook.curve(name), outlook.forecast(name)
            if curve is not None and ends is not None:
                chances = (chance_of(target, outlook) for target in targets if target.split == name)
                known = tuple(one for one in chances if one is not None)
                found.append(Heading(name, curve.metric, ends, known, outlook))
        return found

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


def judge_run(
    run: Run,
    asked: Asked,
    more: Sequence[Observation] = (),
    family: Sequence[FamilyRun] = (),
) -> Judgement:
    """The judgement of a run.

    Args:
        run: The run.
        asked: What it is judged by.
        more: What is known of it beside its rows, such as how its end stands to that of the stage before.
        family: Finished runs that it is compared with, in place of those that it was given.
    """
    seen: list[Observation] = []
    training: set[int] = set()
    evaluations: set[tuple[str, int]] = set()
    own = own_rows(run.rows)
    unused = len(run.rows) - len(own)
    for row in own:
        found = observations(row)
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
    summary = state.summary()
    running = run.source is LogSource.ROWS and not summary.ended and is_written(run.path.parent)
    stop = run.ended_by if asked.stop is None else str(asked.stop["code"])
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
        summary=summary,
        findings=findings,
        absences=tuple(absences(seen, codes, spec.targets, language=state.progress.seen.language)),
        curves=curves,
        facts=facts_of(summary, findings, running=running, stopped_by=stop),
        outlook=state.signals.outlook if isinstance(state.signals, Signals) else Outlook(),
    )
