"""The callback's arguments, checked when it is built: a mistake shows before the first step, not at the last."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.reference import AUTO
from ko_cpt_callbacks.compare.registry import find_baseline
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, language_of
from ko_cpt_callbacks.rules.generalization.no_improvement import NoImprovement
from ko_cpt_callbacks.rules.generalization.overfitting import Overfitting
from ko_cpt_callbacks.rules.registry import TASKS, known_codes, known_rules, rules_for
from ko_cpt_callbacks.rules.rule import Limits, Rule, checked_code, checked_limits
from ko_cpt_callbacks.run.output import BUILT_IN, Output, output_names
from ko_cpt_callbacks.run.retention import checked_retention
from ko_cpt_callbacks.watch.plausibility import doubts_of
from ko_cpt_callbacks.watch.stopping import Grace, Patience, read_patience
from ko_cpt_callbacks.watch.target import Target, parse_targets

_log = logging.getLogger("ko_cpt_callbacks")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the callback was told, checked.

    Attributes:
        task: ``cpt``, ``sft`` or ``other``.
        retention: Names of the evaluation sets that stand for what must not be forgotten.
        stop_on: Finding codes that stop the run when a finding of that code asks to.
        grace: What must have happened before anything stops.
        targets: What must be reached.
        patience: When a run stands still, or overfits.
        rules: The rules to ask, told all that.
        outputs: Names of built-in outputs, and outputs.
        language: Language of sentences.
        baseline: What the run is compared with; None: nothing.
        stage: The baseline's stage, or ``auto``.
        limits: Limits of rules in place of their own, by code and name.
    """

    task: str
    retention: tuple[str, ...]
    stop_on: frozenset[str]
    grace: Grace
    targets: tuple[Target, ...]
    patience: Patience
    rules: tuple[Rule, ...]
    outputs: tuple[str | Output, ...]
    language: str
    baseline: Baseline | None = None
    stage: str = AUTO
    limits: Limits = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """The settings as ``run.json`` records them."""
        return {
            "task": self.task,
            "retention": list(self.retention),
            "stop_on": sorted(self.stop_on),
            "grace": {"steps": self.grace.steps, "tokens": self.grace.tokens},
            "targets": [str(target) for target in self.targets],
            "patience": self.patience.evaluations,
            "min_delta": f"{100 * self.patience.min_delta:g}%" if self.patience.relative else self.patience.min_delta,
            "rules": [rule.code for rule in self.rules],
            "limits": {code: dict(limits) for code, limits in self.limits.items()},
            "outputs": [item if isinstance(item, str) else item.name for item in self.outputs],
            "language": self.language,
            "baseline": None if self.baseline is None else self.baseline.as_dict(),
            "stage": self.stage,
        }


def check_settings(
    *,
    task: str,
    retention: Sequence[str],
    stop_on: Iterable[str],
    grace: int | str | None,
    targets: Iterable[Target | str] | Target | str,
    patience: int | None,
    min_delta: float | str | None,
    rules: Iterable[str | Limits] | Limits | None,
    outputs: Iterable[str | Output] | None,
    language: str | None,
    baseline: str | Baseline | None = None,
    stage: str = AUTO,
) -> Settings:
    """Settings from the callback's arguments; what is to be asked twice about a target is logged as a warning.

    Raises:
        ConfigurationError: For a value that cannot be used; names the argument, the value, and what is expected.
    """
    chosen, limits = _asked(rules)
    wanted = tuple(_texts("stop_on", stop_on))
    for code in wanted:
        checked_code("KoCPTCallback(stop_on=…)", code, known_codes())
    _one_of("task", task, TASKS)
    wait, goals = read_patience(patience, min_delta), parse_targets(targets)
    kept = checked_retention(_texts("retention", retention))
    speech = _language(language)
    for doubt in doubts_of(goals, task):
        _log.warning("%s", doubt.message(speech))
    reference, wanted_stage = _reference(baseline, stage)
    places: list[str | Output] = list(BUILT_IN if outputs is None else _several("outputs", outputs))
    for place in places:
        if not isinstance(place, Output):
            _one_of("outputs", place, output_names())
    return Settings(
        task=task,
        retention=kept,
        stop_on=_stopping(wanted, wait),
        grace=_grace(grace),
        targets=goals,
        patience=wait,
        rules=rules_for(
            goals, task, chosen, patience=wait, retention=kept, baseline=reference, stage=wanted_stage, limits=limits
        ),
        outputs=tuple(places),
        language=speech,
        baseline=reference,
        stage=wanted_stage,
        limits=limits,
    )


def _language(named: str | None) -> str:
    """The language of sentences. A wrong argument is refused; a wrong variable of the environment ends no run."""
    where = "KoCPTCallback(language=…)"
    if named is not None:
        return language_of(where, named, {}) or DEFAULT_LANGUAGE
    try:
        return language_of(where, None, os.environ) or DEFAULT_LANGUAGE
    except ConfigurationError as error:
        _log.warning("%s; sentences are in English", error)
        return DEFAULT_LANGUAGE


def _asked(rules: Iterable[str | Limits] | Limits | None) -> tuple[list[str], dict[str, dict[str, float]]]:
    """Codes of the rules to ask, and limits: a mapping gives limits and leaves no rule out, a list selects."""
    where, known = "KoCPTCallback(rules=…)", known_rules()
    every = [rule.code for rule in known]
    if rules is None or isinstance(rules, Mapping):
        return every, checked_limits(where, rules or {}, known)
    chosen: list[str] = []
    limits: dict[str, dict[str, float]] = {}
    for entry in _several("rules", rules):
        if isinstance(entry, Mapping):
            given = checked_limits(where, entry, known)
            limits |= given
            chosen.extend(given)
        elif isinstance(entry, str):
            chosen.append(checked_code(where, entry, every))
        else:
            raise ConfigurationError(f"{where}: found {entry!r}, expected codes, or limits by code")
    return chosen, limits


def _stopping(wanted: Sequence[str], wait: Patience) -> frozenset[str]:
    """Codes that stop: whoever sets a patience asks for a stop, and may have named the rule that is to wait."""
    if wait.evaluations is None or Overfitting().code in wanted:
        return frozenset(wanted)
    return frozenset([*wanted, NoImprovement().code])


def _reference(baseline: str | Baseline | None, stage: str) -> tuple[Baseline | None, str]:
    """The baseline of an id, and the name of its stage as it was asked for."""
    if not isinstance(stage, str):
        raise ConfigurationError(f"KoCPTCallback(stage={stage!r}): expected the name of a stage, or {AUTO!r}")
    if baseline is None:
        if stage != AUTO:
            raise ConfigurationError(
                f"KoCPTCallback(stage={stage!r}): found no baseline that this is a stage of, expected one; "
                f"write baseline='redwhale', stage={stage!r}, or leave it out"
            )
        return None, AUTO
    if isinstance(baseline, Baseline):
        return baseline, stage
    if not isinstance(baseline, str):
        raise ConfigurationError(f"KoCPTCallback(baseline={baseline!r}): expected an id of ko-cpt baselines")
    return find_baseline(baseline), stage


def _grace(value: int | str | None) -> Grace:
    """Steps as a number, or ``step:N`` or ``tokens:N`` as a target's deadline is written."""
    unit, _, number = value.partition(":") if isinstance(value, str) else ("step", "", value)
    try:
        amount = float(0 if number is None else number)
    except (TypeError, ValueError):
        amount = -1.0
    whole = not isinstance(value, bool) and amount >= 0 and amount.is_integer()
    if not whole or unit not in ("step", "tokens"):
        raise ConfigurationError(
            f"KoCPTCallback(grace={value!r}): expected a number of steps, 0 or more, or 'step:N' or 'tokens:N'; "
            "write grace=500 or grace='tokens:1e6'"
        )
    return Grace(steps=int(amount)) if unit == "step" else Grace(tokens=int(amount))


def refuse_unready(**arguments: Any) -> None:
    """Arguments that this version knows and cannot serve yet are refused, never silently ignored.

    Raises:
        ConfigurationError: If one of them is given.
    """
    for name, value in arguments.items():
        if value is not None and value != ():
            raise ConfigurationError(
                f"KoCPTCallback({name}={value!r}): this version does not act on {name} yet; leave it out"
            )


def _several(name: str, values: Iterable[Any]) -> list[Any]:
    if isinstance(values, Mapping):
        shown = ", ".join(repr(str(key)) for key in values)
        raise ConfigurationError(
            f"KoCPTCallback({name}=…): found a mapping, whose values nothing acts on, expected a list; "
            f"write {name}=[{shown}]"
        )
    if isinstance(values, str) or not isinstance(values, Iterable):
        shown = repr(values) if isinstance(values, (str, int, float)) else type(values).__name__
        raise ConfigurationError(
            f"KoCPTCallback({name}={shown}): expected several values, found one; write {name}=[{shown}]"
        )
    return list(values)


def _texts(name: str, values: Iterable[str]) -> list[str]:
    found = _several(name, values)
    for value in found:
        if not isinstance(value, str):
            raise ConfigurationError(f"KoCPTCallback({name}=…): expected texts, found {value!r}")
    return found


def _one_of(name: str, value: object, known: Sequence[str]) -> None:
    if value in known:
        return
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigurationError(f"KoCPTCallback({name}=…): found {value!r}, expected one of {', '.join(known)}.{hint}")
