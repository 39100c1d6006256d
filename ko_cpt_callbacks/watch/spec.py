"""Everything that is watched, in one description: of a callback, of a run that is read again, of a recipe's stage.

It comes from what a user writes (`WatchSpec.from_kwargs`), or a recipe (`recipe_kwargs`), from ``run.json``
(`WatchSpec.from_run_json`), and from one of these with a command's options (`WatchSpec.from_options`). What there is to
be named, rules with their limits and baselines, is handed in: this room knows none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ko_cpt_callbacks.errors import ConfigurationError, UnreadableRunError
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, LANGUAGES, language_of, retired
from ko_cpt_callbacks.run.file import clip, name_of
from ko_cpt_callbacks.run.folder import RUN_FORMAT
from ko_cpt_callbacks.run.observation import count_from_one
from ko_cpt_callbacks.run.retention import checked_retention
from ko_cpt_callbacks.watch.argument import (
    AUTO,
    BaselineData,
    Limits,
    asked_rules,
    baseline_of,
    checked_code,
    checked_limit,
    one_of,
    stop_codes,
    texts,
)
from ko_cpt_callbacks.watch.stopping import Grace, Patience, read_grace, read_patience
from ko_cpt_callbacks.watch.target import PRESETS, Target, parse_target, parse_targets

__all__ = ["FIX", "TASKS", "WatchSpec", "recipe_kwargs"]

TASKS: Final = ("cpt", "sft", "other")
"""What a run can be declared to be: continued pretraining, supervised fine-tuning, anything else."""

FIX: Final = "move it away to judge the rows with the default rules"
"""What to do with a ``run.json`` that cannot be used."""

# Rules that only a target makes speak, by the beginnings of their codes.
_TARGET_CODES: Final = ("target-", "eval-too-small")
# Rules that only a baseline makes speak.
_BASELINE_CODES: Final = ("baseline-ahead", "baseline-behind", "not-comparable")


@dataclass(frozen=True, slots=True)
class WatchSpec:
    """What is watched.

    Args:
        targets: What must be reached.
        task: One of `TASKS`.
        rules: Codes of the rules to ask; None: all.
        patience: When a run stands still, or overfits.
        retention: Evaluation sets that stand for what must not be forgotten, with a limit behind the name where it is
            not the rule's own (``en<5%``).
        baseline: What the run is compared with; None: nothing.
        stage: The baseline's stage, or `AUTO`.
        limits: Limits of rules in place of their own, by code and name; a rule that is not asked may have some.
        stop_on: Codes of findings that stop the run where they ask to.
        grace: What must have happened before anything stops.
        language: Language of the sentences.
    """

    targets: tuple[Target, ...] = ()
    task: str = TASKS[0]
    rules: tuple[str, ...] | None = None
    patience: Patience = field(default_factory=Patience)
    retention: tuple[str, ...] = ()
    baseline: BaselineData | None = None
    stage: str = AUTO
    limits: Limits = field(default_factory=dict)
    stop_on: frozenset[str] = frozenset()
    grace: Grace = field(default_factory=Grace)
    language: str = DEFAULT_LANGUAGE

    @classmethod
    def from_kwargs(
        cls,
        known: Limits,
        find_baseline: Callable[[str], BaselineData],
        *,
        targets: Iterable[Target | str] | Target | str = (),
        baseline: str | BaselineData | None = None,
        stage: str = AUTO,
        task: str = TASKS[0],
        retention: Sequence[str] = (),
        stop_on: Iterable[str] = (),
        grace: int | str | None = None,
        patience: int | None = None,
        min_delta: float | str | None = None,
        rules: Iterable[str | Limits] | Limits | None = None,
        language: str | None = None,
    ) -> WatchSpec:
        """Make it of the callback's arguments.

        Args:
            known: The limits of all rules, as they are.
            find_baseline: Gives the baseline of an id.
            grace: Steps, ``step:N`` or ``tokens:N``.
            patience: Evaluations.
            min_delta: Nats per token, or a percentage as text.
            rules: Codes, limits by code, or both in a list.

        Raises:
            ConfigurationError: For a value that cannot be used; names the argument, the value, and what is expected.
        """
        chosen, limits = asked_rules(rules, known)
        wanted = texts("stop_on", stop_on)
        for code in wanted:
            checked_code("KoCPTCallback(stop_on=…)", code, sorted(known))
        one_of("task", task, TASKS)
        wait, goals = read_patience(patience, min_delta), parse_targets(targets)
        kept = checked_retention(texts("retention", retention))
        spoken = language_of("KoCPTCallback(language=…)", language, {}) or DEFAULT_LANGUAGE
        return cls(
            targets=goals,
            task=task,
            rules=tuple(chosen),
            patience=wait,
            retention=kept,
            baseline=baseline_of(baseline, stage, find_baseline),
            stage=stage,
            limits=limits,
            stop_on=stop_codes(wanted, wait),
            grace=read_grace(grace),
            language=spoken,
        )

    @classmethod
    def from_run_json(
        cls, run: object, where: str, check_baseline: Callable[[BaselineData, str], object]
    ) -> WatchSpec:
        """Make it of what ``run.json`` records, so that a later reader watches the same.

        Codes of earlier versions have their present names. Codes and limits that are not known here are kept
        (`unknown`). A file of an earlier version may lack anything but the task.

        Args:
            where: The file, for errors.
            check_baseline: Raises for a baseline and a stage that cannot be used.

        Raises:
            UnreadableRunError: If the file is of another version, or says something that cannot be watched: a verdict
                that silently left out a target would be worse than none.
        """
        watch = _recorded(run, where)
        task = watch.get("task")
        if task not in TASKS:
            expected = f"expected one of {', '.join(TASKS)}; {FIX}"
            raise UnreadableRunError(f'{where}: "watch.task" is {clip(task)}, {expected}')
        language, stage, baseline = watch.get("language"), watch.get("stage", AUTO), watch.get("baseline")
        if baseline is not None:
            try:
                check_baseline(baseline, stage)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                found = f"found no baseline that can be used ({error})"
                raise UnreadableRunError(f'{where}: under "watch": {found}; {FIX}') from None
        targets = _recorded_texts(where, watch, "targets") or ()
        retention = _recorded_texts(where, watch, "retention") or ()
        patience = watch.get("patience")
        try:
            goals = parse_targets(targets)
        except ConfigurationError as error:
            raise UnreadableRunError(f"{where}: {error}") from None
        try:
            return cls(
                targets=goals,
                task=task,
                rules=_present(_recorded_texts(where, watch, "rules")),
                patience=read_patience(patience, None if patience is None else watch.get("min_delta")),
                retention=checked_retention(retention),
                baseline=baseline,
                stage=AUTO if baseline is None or stage is None else stage,
                limits=_recorded_limits(where, watch.get("limits")),
                stop_on=_recorded_codes(watch.get("stop_on")),
                grace=_recorded_grace(watch.get("grace")),
                language=language if language in LANGUAGES else DEFAULT_LANGUAGE,
            )
        except ConfigurationError as error:
            raise UnreadableRunError(f'{where}: under "watch": {error}; {FIX}') from None

    @classmethod
    def from_options(
        cls,
        known: Limits,
        recorded: WatchSpec | None = None,
        *,
        task: str | None = None,
        targets: Sequence[str] = (),
        baseline: BaselineData | None = None,
        retention: Sequence[str] = (),
        limits: Limits | None = None,
        language: str | None = None,
    ) -> WatchSpec:
        """Make it of a command's options: each in place of what ``run.json`` says, or else of the default.

        Without either the task is ``other``: a bare log does not say what it was, and a low loss is no alarm in
        supervised fine-tuning or masked language modelling. With targets as options the rules on targets are asked even
        where the run left them out; so with a baseline. A limit replaces the one of its name.

        Args:
            known: The limits of all rules, as they are: what it does not name is left out.
            recorded: What ``run.json`` says; None: there is none.
            limits: Checked.

        Raises:
            ConfigurationError: If a target, a retention set or a limit cannot be used.
        """
        spec = cls(task="other") if recorded is None else recorded._only(known)
        if task is not None:
            spec = replace(spec, task=task)
        if targets:
            on_targets = (code for code in known if code.startswith(_TARGET_CODES))
            spec = replace(spec, targets=parse_targets(targets), rules=_with(spec.rules, on_targets))
        if retention:
            spec = replace(spec, retention=checked_retention(retention))
        if baseline is not None:
            same = spec.baseline is not None and spec.baseline["id"] == baseline["id"]
            stage, rules = spec.stage if same else AUTO, _with(spec.rules, _BASELINE_CODES)
            spec = replace(spec, baseline=baseline, stage=stage, rules=rules)
        for code, given in (limits or {}).items():
            spec = replace(spec, limits={**spec.limits, code: {**spec.limits.get(code, {}), **given}})
        return spec if language is None else replace(spec, language=language)

    def to_json(self) -> dict[str, Any]:
        """What ``run.json`` records of it; `from_run_json` gives back an equal value."""
        patience = self.patience
        return {
            "task": self.task,
            "retention": list(self.retention),
            "stop_on": sorted(self.stop_on),
            "grace": {"steps": self.grace.steps, "tokens": self.grace.tokens},
            "targets": [str(target) for target in self.targets],
            "patience": patience.evaluations,
            "min_delta": f"{100 * patience.min_delta:g}%" if patience.relative else patience.min_delta,
            "rules": None if self.rules is None else list(self.rules),
            "limits": {code: dict(limits) for code, limits in self.limits.items()},
            "language": self.language,
            "baseline": None if self.baseline is None else dict(self.baseline),
            "stage": self.stage,
        }

    def unknown(self, known: Limits) -> tuple[str, ...]:
        """Its codes and limits (``loss-spike.most``) that are not known here."""
        codes = (code for code in self.rules or () if code not in known)
        names = ((code, name) for code, own in self.limits.items() for name in own if name not in known.get(code, ()))
        return (*codes, *(f"{code}.{name}" for code, name in names))

    def _only(self, known: Limits) -> WatchSpec:
        """What of it is known here, rules in the order in which they are asked, limits checked."""
        limits: dict[str, dict[str, float]] = {}
        for code, own in known.items():
            given = {name: value for name, value in self.limits.get(code, {}).items() if name in own}
            if given:
                limits[code] = {name: checked_limit("limits", code, own, name, value) for name, value in given.items()}
        rules = None if self.rules is None else tuple(code for code in known if code in self.rules)
        return replace(self, rules=rules, limits=limits)


def recipe_kwargs(values: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """The callback's arguments for a stage of a recipe.

    A preset among its targets is asked of the first evaluation set that is no retention set.

    Args:
        values: ``task``; ``eval``: by set, ``retention``; ``stages``: by stage, ``watch`` with the arguments.
    """
    watch = dict(values["stages"][stage]["watch"])
    sets = values["eval"]
    learned = next((f"eval_{name}" for name, part in sets.items() if not part["retention"]), None)
    targets = []
    for text in watch["targets"]:
        target = parse_target(text)
        targets.append(replace(target, split=learned) if text.strip() in PRESETS and learned else target)
    retention = tuple(name for name, part in sets.items() if part["retention"])
    for name in ("alerts", "family"):  # whom to tell is no part of what is watched; a family is rows of the run
        watch.pop(name, None)
    return {**watch, "targets": tuple(targets), "task": values["task"], "retention": retention}


def _with(rules: tuple[str, ...] | None, more: Iterable[str]) -> tuple[str, ...] | None:
    """Codes with others behind them, each once; where all rules are asked, all."""
    return None if rules is None else tuple(dict.fromkeys((*rules, *more)))


def _recorded(run: object, where: str) -> Mapping[str, Any]:
    """What a ``run.json`` has under ``watch``."""
    if not isinstance(run, dict):
        raise UnreadableRunError(f"{where}: found {name_of(run)}, expected a run.json (an object); {FIX}")
    number = run.get("format")
    if number != RUN_FORMAT or isinstance(number, bool):
        expected = f"expected {RUN_FORMAT}; a newer ko-cpt reads it, or {FIX}"
        raise UnreadableRunError(f'{where}: "format" is {clip(number)}, {expected}')
    watch = run.get("watch", run.get("told"))  # "told" before 0.1.0
    if not isinstance(watch, dict):
        raise UnreadableRunError(f'{where}: found {name_of(watch)} under "watch", expected an object; {FIX}')
    return watch


def _present(codes: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The codes by their present names; one that has none is left out."""
    if codes is None:
        return None
    return tuple(now for now in dict.fromkeys(retired().get(one, one) for one in codes) if now)


def _recorded_limits(where: str, value: object) -> dict[str, dict[str, float]]:
    """Limits by code and name; none where the file is of a version that has none."""
    if value is None:
        return {}
    found: dict[str, dict[str, float]] = {}
    for code, limits in value.items() if isinstance(value, dict) else [(None, None)]:
        if not isinstance(code, str) or not isinstance(limits, dict):
            expected = "expected limits by code and name"
            raise UnreadableRunError(f'{where}: "watch.limits" is {clip(value)}, {expected}; {FIX}')
        for name, number in limits.items():
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise UnreadableRunError(
                    f'{where}: "watch.limits.{code}.{name}" is {clip(number)}, expected a number; {FIX}'
                )
        found[retired().get(code, code)] = limits
    return found


def _recorded_texts(where: str, watch: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """A list of texts under ``watch``; None where there is none."""
    value = watch.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UnreadableRunError(f'{where}: "watch.{name}" is {clip(value)}, expected a list of texts; {FIX}')
    return tuple(value)


def _recorded_codes(value: object) -> frozenset[str]:
    """What stopped the run where it asked to; what is none stops nothing, and no verdict depends on it."""
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()


def _recorded_grace(value: object) -> Grace:
    """The same of what must have happened before."""
    counts = [value.get(name) if isinstance(value, dict) else None for name in ("steps", "tokens")]
    return Grace(*(count_from_one(count) or 0 for count in counts))
