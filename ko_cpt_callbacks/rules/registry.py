"""All rules, in the order in which they are asked, each with what the run must reach and what it was declared to be.

A rule is a value (its limits) with three pure methods. Every rule that a module of the families' folders defines is
one of the list, and behind them those of other packages (`ko_cpt_callbacks.plugin`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from inspect import isabstract
from pkgutil import walk_packages
from typing import Any, Final

from ko_cpt_callbacks import keys, rules
from ko_cpt_callbacks.compare.reference import watched_baseline
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.catalogue import catalogue, retired
from ko_cpt_callbacks.plugin import RULES, Plugin, plugins
from ko_cpt_callbacks.rules.rule import Rule, RuleInfo, limits_of, with_limits
from ko_cpt_callbacks.run.retention import retention_names
from ko_cpt_callbacks.watch.argument import checked_limits
from ko_cpt_callbacks.watch.spec import TASKS, WatchSpec

__all__ = ["ALL_RULES", "Rule", "known_codes", "known_limits", "known_rules", "plugin_rules", "rules_for"]


def _classes() -> Iterator[type[Rule]]:
    """The rules that the modules of the families' folders define; what they inherit from has no metadata."""
    for found in walk_packages(rules.__path__, f"{rules.__name__}."):
        if not found.ispkg and found.name.count(".") > rules.__name__.count(".") + 1:
            for one in vars(import_module(found.name)).values():
                own = isinstance(one, type) and issubclass(one, Rule) and one.__module__ == found.name
                if own and hasattr(one, "info"):
                    yield one


_CLASSES: Final = tuple(sorted(_classes(), key=lambda rule: rule.info.place))

ALL_RULES: Final[tuple[Rule, ...]] = tuple(rule() for rule in _CLASSES)
"""The rules of this package as they are without targets, for a run of continued pretraining."""


@cache
def plugin_rules() -> tuple[Plugin[type[Rule]], ...]:
    """The rules of other packages, by code."""
    return plugins(RULES, [*(rule.code for rule in ALL_RULES), *retired()], _plugin_rule)


def known_rules() -> tuple[Rule, ...]:
    """All rules that are installed, as they are without targets: those of this package, then those of others."""
    return (*ALL_RULES, *(one.value() for one in plugin_rules()))


def known_limits() -> dict[str, dict[str, float]]:
    """The limits of all rules that are installed, as they are, by code in the order in which the rules are asked."""
    return {rule.code: limits_of(rule) for rule in known_rules()}


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
    limits_of(value())
    return value


def rules_for(spec: WatchSpec | None = None) -> tuple[Rule, ...]:
    """The rules to ask, each with what the run must reach and what it was declared to be.

    Args:
        spec: What is watched; None: continued pretraining without targets. A rule that it does not ask may have limits.

    Raises:
        ConfigurationError: For a task, a code, a stage or a limit that is unknown, and for a limit's value that cannot
            be used.

    >>> [rule.code for rule in rules_for(WatchSpec(rules=("non-finite",)))]
    ['non-finite']
    >>> rules_for(WatchSpec(rules=("not-enough-data",), limits={"not-enough-data": {"min_evaluations": 5}}))
    (NotEnoughData(min_train_points=10, min_evaluations=5),)
    """
    spec = spec or WatchSpec()
    if spec.task not in TASKS:
        raise ConfigurationError(f"task: found {spec.task!r}, expected one of {', '.join(TASKS)}")
    baseline = watched_baseline(spec)
    given = {
        "targets": tuple(spec.targets),
        "task": spec.task,
        "patience": spec.patience,
        "retention": tuple(spec.retention),
        "leave_out": tuple(keys.key("eval", name) for name in retention_names(spec.retention)),
        "baseline": baseline,
        "stage": spec.stage,
    }
    classes = (*_CLASSES, *(one.value for one in plugin_rules()))
    every = tuple(_made(rule, given) for rule in classes)
    known = known_limits()
    unknown = sorted(set(spec.rules or ()) - set(known))
    if unknown:
        raise ConfigurationError(f"rules: found {', '.join(unknown)}, expected codes out of {', '.join(known)}")
    own = checked_limits("limits", spec.limits, known)
    return tuple(with_limits(rule, own) for rule in every if spec.rules is None or rule.code in spec.rules)


def _made(rule: type[Rule], given: dict[str, object]) -> Rule:
    """A rule with those of the values that it has a field for, by name."""
    asks = {one.name for one in dataclasses.fields(rule)}  # type: ignore[arg-type]
    return rule(**{name: value for name, value in given.items() if name in asks})
