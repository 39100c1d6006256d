"""A run and what is to be watched, judged: what ``ko-cpt check`` shows, as a value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.missing import Absence, absences
from ko_cpt_callbacks.check.told import Told
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.reference import AUTO
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, LANGUAGES
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.note.record_behind import RecordBehind
from ko_cpt_callbacks.rules.registry import known_rules, rules_for
from ko_cpt_callbacks.rules.rule import Limits, checked_limit, limits_of
from ko_cpt_callbacks.run.facts import RunFacts, facts_of
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.run.progress import EvalProgress, Summary
from ko_cpt_callbacks.run.reading import Run
from ko_cpt_callbacks.run.retention import checked_retention
from ko_cpt_callbacks.run.rows import LogHabits, observations
from ko_cpt_callbacks.watch.plausibility import TargetDoubt, doubts_of
from ko_cpt_callbacks.watch.stopping import Patience
from ko_cpt_callbacks.watch.target import Target, parse_targets

__all__ = ["Counts", "Judgement", "Watch", "judge_run", "reduction", "watch_of"]

_FORMAT: Final = 1
_OPTION: Final = "option"
_DEFAULT: Final = "default"
_DEFAULT_TASK: Final = "other"
# Rules that only a target makes speak.
TARGET_CODES: Final = ("target-", "eval-too-small")
# Rules that only a baseline makes speak.
BASELINE_CODES: Final = ("baseline-ahead", "baseline-behind", "not-comparable")


@dataclass(frozen=True, slots=True)
class Watch:
    """What a run is judged by, and who said so: an option, ``run.json``, or nobody (``default``).

    Args:
        task: ``cpt``, ``sft`` or ``other``.
        task_from: Who named the task.
        targets: What must be reached.
        targets_from: Who named them.
        rules: Codes of the rules to ask; None: all.
        unknown_rules: Codes in ``run.json`` that this version does not know, and limits (``loss-spike.most``).
        language: Language of the sentences.
        patience: When a run stands still, as ``run.json`` has it.
        retention: Evaluation sets that do not count for that.
        stop: The finding that asked the run to stop, as ``run.json`` has it.
        baseline: What the run was compared with, as ``run.json`` has it.
        stage: The baseline's stage, or ``auto``.
        limits: Limits of rules in place of their own, by code and name: those of ``run.json``, and before them options.
    """

    task: str = _DEFAULT_TASK
    task_from: str = _DEFAULT
    targets: tuple[Target, ...] = ()
    targets_from: str = _DEFAULT
    rules: tuple[str, ...] | None = None
    unknown_rules: tuple[str, ...] = ()
    language: str = DEFAULT_LANGUAGE
    patience: Patience = field(default_factory=Patience)
    retention: tuple[str, ...] = ()
    stop: Mapping[str, Any] | None = None
    baseline: Baseline | None = None
    stage: str = AUTO
    limits: Limits = field(default_factory=dict)


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
    """What was judged, by what, and what was found."""

    run: Run
    watch: Watch
    rules: tuple[str, ...]
    counts: Counts
    summary: Summary
    findings: tuple[Finding, ...]
    absences: tuple[Absence, ...]

    @property
    def facts(self) -> RunFacts:
        """What every verdict carries."""
        stop = None if self.watch.stop is None else str(self.watch.stop["code"])
        return facts_of(self.summary, self.findings, stopped_by=stop)

    def left_out(self) -> tuple[str, ...]:
        """Codes of the rules that this version has and was not to ask."""
        return tuple(rule.code for rule in known_rules() if rule.code not in self.rules)

    @property
    def doubts(self) -> tuple[TargetDoubt, ...]:
        """What is to be asked twice about its targets; nothing of a run whose loss is no language model's."""
        kind = self.facts.kind
        return doubts_of(self.watch.targets, self.watch.task) if kind is None or kind.language else ()

    def as_dict(self, path: str) -> dict[str, Any]:
        """The judgement as strict JSON: ``schemas/check.schema.json``.

        Args:
            path: The run as the user named it.
        """
        counts, watch, facts = self.counts, self.watch, self.facts.as_dict()
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
                "rows": counts.rows,
                "training_rows": counts.training,
                "evaluations": counts.evaluations,
                "unused_rows": counts.unused,
                "first_step": counts.first_step,
                "last_step": counts.last_step,
                "task": watch.task,
                "task_from": watch.task_from,
                "targets": [str(target) for target in watch.targets],
                "targets_from": watch.targets_from,
                "doubts": [doubt.as_dict(watch.language) for doubt in self.doubts],
                "baseline": None if watch.baseline is None else watch.baseline.id,
                "rules": list(self.rules),
                "rules_left_out": list(self.left_out()),
                "unknown_rules": list(watch.unknown_rules),
                "limits": {code: dict(given) for code, given in watch.limits.items()},
                "stop": None if watch.stop is None else dict(watch.stop),
                "missing": [item.as_dict() for item in self.absences],
            },
            "summary": summary,
            "findings": [finding.as_dict(watch.language) for finding in self.findings],
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


def watch_of(
    told: Told | None,
    *,
    task: str | None = None,
    targets: Sequence[str] = (),
    baseline: Baseline | None = None,
    retention: Sequence[str] = (),
    limits: Limits | None = None,
    language: str | None = None,
) -> Watch:
    """What to watch: an option where one was given, else what ``run.json`` says, else the default.

    Without either the task is ``other``: a bare log does not say what it was, and a low loss is no alarm in
    supervised fine-tuning or masked language modelling. Targets given as options replace those of ``run.json``,
    and the rules on targets are then asked even where the run was told to leave them out; so with a baseline. A limit
    replaces the one of its name.

    Raises:
        ConfigurationError: If a target or a retention set cannot be used.
    """
    base = Watch()
    if told is not None:
        known = [rule.code for rule in known_rules()]
        base = Watch(
            task=told.task,
            task_from=keys.RUN_FILE,
            targets=parse_targets(told.targets),
            targets_from=keys.RUN_FILE,
            rules=None if told.rules is None else tuple(code for code in known if code in told.rules),
            unknown_rules=(*(code for code in told.rules or () if code not in known), *_unknown_limits(told.limits)),
            language=told.language if told.language in LANGUAGES else DEFAULT_LANGUAGE,
            patience=told.patience,
            retention=told.retention,
            stop=told.stop,
            baseline=told.baseline,
            stage=told.stage,
            limits=_known_limits(told.limits),
        )
    if task is not None:
        base = replace(base, task=task, task_from=_OPTION)
    if targets:
        on_targets = (rule.code for rule in known_rules() if rule.code.startswith(TARGET_CODES))
        rules = base.rules and (*base.rules, *on_targets)
        base = replace(base, targets=parse_targets(targets), targets_from=_OPTION, rules=rules)
    if retention:
        base = replace(base, retention=checked_retention(retention))
    if baseline is not None:
        same = base.baseline is not None and base.baseline.id == baseline.id
        asked = base.rules and tuple(dict.fromkeys((*base.rules, *BASELINE_CODES)))
        base = replace(base, baseline=baseline, stage=base.stage if same else AUTO, rules=asked)
    if language is not None:
        base = replace(base, language=language)
    for code, given in (limits or {}).items():
        base = replace(base, limits={**base.limits, code: {**base.limits.get(code, {}), **given}})
    return base


def _unknown_limits(told: Limits) -> Iterator[str]:
    """Limits in ``run.json`` that no rule of this version has."""
    for code, given in told.items():
        known = next((limits_of(rule) for rule in known_rules() if rule.code == code), {})
        yield from (f"{code}.{name}" for name in given if name not in known)


def _known_limits(told: Limits) -> dict[str, dict[str, float]]:
    """The other ones, each checked: what a limit cannot be would be no limit."""
    found: dict[str, dict[str, float]] = {}
    for rule in known_rules():
        given, known = told.get(rule.code, {}), limits_of(rule)
        checked = {name: checked_limit("limits", rule, name, given[name]) for name in given if name in known}
        if checked:
            found[rule.code] = checked
    return found


def judge_run(run: Run, watch: Watch, more: Sequence[Observation] = ()) -> Judgement:
    """The judgement of a run.

    Args:
        run: The run.
        watch: What it is judged by.
        more: What is known of it beside its rows, such as how its end stands to that of the stage before.
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
    for item in seen:
        if isinstance(item, TrainObservation):
            training.add(item.step)
        elif isinstance(item, EvalObservation):
            evaluations.add((item.split, item.step))
    seen.extend(more)
    # That the record is a stump is said of every run, whatever it was told to watch.
    codes_asked = (*watch.rules, RecordBehind().code) if run.behind and watch.rules is not None else watch.rules
    rules = rules_for(
        watch.targets,
        watch.task,
        codes_asked,
        patience=watch.patience,
        retention=watch.retention,
        baseline=watch.baseline,
        stage=watch.stage,
        limits=watch.limits,
    )
    state, findings = Monitor(rules, task=watch.task).judge([*run.told(), *seen])
    codes = tuple(rule.code for rule in rules)
    steps = [item.step for item in seen]
    return Judgement(
        run=run,
        watch=watch,
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
        absences=absences(seen, codes, watch.targets, language=state.progress.seen.language),
    )
