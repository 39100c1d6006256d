"""All rules, in the order in which they are asked, each told what the run must reach and what it was declared to be.

A rule is a value (its limits) with three pure methods. Every rule that a module of the families' folders defines is
one of the list, and behind them those of other packages (`ko_cpt_callbacks.plugin`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from importlib import import_module
from inspect import isabstract
from pkgutil import walk_packages
from typing import Any, Final

from ko_cpt_callbacks import keys, rules
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.reference import AUTO, checked_stage
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.catalogue import catalogue, retired
from ko_cpt_callbacks.plugin import RULES, Plugin, plugins
from ko_cpt_callbacks.rules.rule import Limits, Rule, RuleInfo, checked_limits, with_limits
from ko_cpt_callbacks.run.retention import retention_names
from ko_cpt_callbacks.watch.stopping import Patience
from ko_cpt_callbacks.watch.target import Target

__all__ = ["ALL_RULES", "TASKS", "Rule", "known_codes", "known_rules", "plugin_rules", "rules_for"]

TASKS: Final = ("cpt", "sft", "other")
"""What a run can be declared to be: continued pretraining, supervised fine-tuning, anything else."""


def _modules() -> Iterator[str]:
    """Modules of the families' folders, by name."""
    for found in walk_packages(rules.__path__, f"{rules.__name__}."):
        if not found.ispkg and found.name.count(".") > rules.__name__.count(".") + 1:
            yield found.name


def _rules_of(module: str) -> Iterator[type[Rule]]:
    """The rules that a module defines, in their order; what they inherit from is none."""
    home = import_module(module)
    for one in vars(home).values():
        own = isinstance(one, type) and issubclass(one, Rule) and one.__module__ == home.__name__
        if own and not isabstract(one) and hasattr(one, "info"):
            yield one


_CLASSES: Final = tuple(
    sorted((rule for module in _modules() for rule in _rules_of(module)), key=lambda rule: rule.info.place)
)

ALL_RULES: Final[tuple[Rule, ...]] = tuple(rule() for rule in _CLASSES)
"""The rules of this package as they are without targets, for a run of continued pretraining."""


@cache
def plugin_rules() -> tuple[Plugin[type[Rule]], ...]:
    """The rules of other packages, by code."""
    return plugins(RULES, [*(rule.code for rule in ALL_RULES), *retired()], _plugin_rule)


def known_rules() -> tuple[Rule, ...]:
    """All rules that are installed, as they are without targets: those of this package, then those of others."""
    return (*ALL_RULES, *(one.value() for one in plugin_rules()))


def known_codes() -> tuple[str, ...]:
    """Codes of all rules that are installed, in the order of the alphabet."""
    return tuple(sorted(rule.code for rule in known_rules()))


def _plugin_rule(name: str, value: Any) -> type[Rule]:
    """The rule of an entry point, if it can be asked and explained."""
    if not (isinstance(value, type) and issubclass(value, Rule)) or isabstract(value):
        raise ConfigurationError(f"found {value!r}, expected a class made from {Rule.__module__}.Rule")
    info = getattr(value, "info", None)
    if not isinstance(info, RuleInfo) or info.code != name or not re.fullmatch(r"[a-z]+(-[a-z]+)*", name):
        raise ConfigurationError(
            f"found info {info!r}, expected a RuleInfo whose code is the entry point's name, small letters with hyphens"
        )
    if not dataclasses.is_dataclass(value):
        raise ConfigurationError(f"found {value!r}, expected a frozen dataclass, whose fields are its limits")
    if name not in catalogue().explanations:
        raise ConfigurationError(f"found no English sentences of {name}, expected an entry point of messages with them")
    value().initial()
    return value


def rules_for(
    targets: Sequence[Target] = (),
    task: str = "cpt",
    codes: Collection[str] | None = None,
    *,
    patience: Patience | None = None,
    retention: Sequence[str] = (),
    baseline: Baseline | None = None,
    stage: str = AUTO,
    limits: Limits | None = None,
) -> tuple[Rule, ...]:
    """All rules, told what the run must reach and what it was declared to be.

    Args:
        targets: What the run must reach; none by default.
        task: ``cpt``, ``sft`` or ``other`` (nothing declared).
        codes: Only the rules of these codes; ``None`` for all.
        patience: When a run stands still; never, by default.
        retention: Names of evaluation sets that do not count for that, nor for the baseline, and must not be forgotten;
            with a limit behind the name where it is not 3 % (``en<5%``).
        baseline: What the run is compared with; nothing, by default.
        stage: The baseline's stage; ``auto``: the one that the model at hand matches.
        limits: By code, limits by name, in place of the rules' own; a rule that is not asked may have some.

    Raises:
        ConfigurationError: For a task, a code, a stage or a limit that is unknown, and for a limit's value that cannot
            be used.

    >>> [rule.code for rule in rules_for(codes=["non-finite"])]
    ['non-finite']
    >>> rules_for(codes=["not-enough-data"], limits={"not-enough-data": {"min_evaluations": 5}})
    (NotEnoughData(min_train_points=10, min_evaluations=5),)
    """
    if task not in TASKS:
        raise ConfigurationError(f"task: found {task!r}, expected one of {', '.join(TASKS)}")
    if baseline is not None:
        checked_stage(baseline, stage)
    told = {
        "targets": tuple(targets),
        "task": task,
        "patience": patience or Patience(),
        "retention": tuple(retention),
        "leave_out": tuple(keys.key("eval", name) for name in retention_names(retention)),
        "baseline": baseline,
        "stage": stage,
    }
    classes = (*_CLASSES, *(one.value for one in plugin_rules()))
    every = tuple(_told(rule, told) for rule in classes)
    known = [rule.code for rule in every]
    unknown = sorted(set(codes or ()) - set(known))
    if unknown:
        raise ConfigurationError(f"rules: found {', '.join(unknown)}, expected codes out of {', '.join(known)}")
    own = checked_limits("limits", limits or {}, every)
    return tuple(with_limits(rule, own) for rule in every if codes is None or rule.code in codes)


def _told(rule: type[Rule], told: dict[str, object]) -> Rule:
    """A rule with what it asks to be told: its fields of those names."""
    asks = {one.name for one in dataclasses.fields(rule)}  # type: ignore[arg-type]
    return rule(**{name: value for name, value in told.items() if name in asks})
