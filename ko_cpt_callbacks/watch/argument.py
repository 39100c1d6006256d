"""The arguments of a callback, read one by one: every error names the argument, the value, and what is expected."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.watch.limit import Limits, checked_code, checked_limits
from ko_cpt_callbacks.watch.stopping import Patience

__all__ = ["AUTO", "BaselineData", "asked_rules", "baseline_of", "one_of", "several", "stop_codes", "texts"]

AUTO: Final = "auto"
"""In place of a stage's name: the stage that fits, or else the last one that is a reference and has figures."""

BaselineData: TypeAlias = Mapping[str, Any]
"""A run to compare with, as JSON values."""

_OVERFITTING: Final = "overfitting"
_NO_IMPROVEMENT: Final = "no-improvement"


def asked_rules(
    rules: Iterable[str | Limits] | Limits | None, known: Limits
) -> tuple[Sequence[str], dict[str, dict[str, float]]]:
    """Codes of the rules to ask, and limits: a mapping gives limits and leaves no rule out, a list selects.

    Args:
        rules: As it was given.
        known: The limits of all rules, as they are.

    Raises:
        ConfigurationError: For a code or a limit that is not known, or anything else.
    """
    where = "KoCPTCallback(rules=…)"
    if rules is None or isinstance(rules, Mapping):
        return list(known), checked_limits(where, rules or {}, known)
    chosen: set[str] = set()
    limits: dict[str, dict[str, float]] = {}
    for entry in several("rules", rules):
        if isinstance(entry, Mapping):
            given = checked_limits(where, entry, known)
            limits |= given
            chosen |= given.keys()
        elif isinstance(entry, str):
            chosen.add(checked_code(where, entry, known))
        else:
            raise ConfigurationError(f"{where}: found {entry!r}, expected codes, or limits by code")
    return [code for code in known if code in chosen], limits


def stop_codes(wanted: Sequence[str], wait: Patience) -> frozenset[str]:
    """Codes that stop: a patience asks for a stop, and the rule that waits may be named."""
    if wait.evaluations is None or _OVERFITTING in wanted:
        return frozenset(wanted)
    return frozenset([*wanted, _NO_IMPROVEMENT])


def baseline_of(
    baseline: str | BaselineData | None, stage: str, find_baseline: Callable[[str], BaselineData]
) -> BaselineData | None:
    """The baseline of an id; it need not have the stage.

    Raises:
        ConfigurationError: For an id that is none, and for a stage without a baseline.
    """
    if not isinstance(stage, str):
        raise ConfigurationError(f"KoCPTCallback(stage={stage!r}): expected the name of a stage, or {AUTO!r}")
    if baseline is None and stage != AUTO:
        raise ConfigurationError(
            f"KoCPTCallback(stage={stage!r}): found no baseline that this is a stage of, expected one; "
            f"write baseline='redwhale', stage={stage!r}, or leave it out"
        )
    if baseline is None or isinstance(baseline, Mapping):
        return baseline
    if not isinstance(baseline, str):
        raise ConfigurationError(f"KoCPTCallback(baseline={baseline!r}): expected an id of ko-cpt baselines")
    return find_baseline(baseline)


def several(name: str, values: Iterable[Any]) -> list[Any]:
    """The values of an argument that takes several.

    Raises:
        ConfigurationError: For a single value, and for a mapping, whose values nothing would act on.
    """
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


def texts(name: str, values: Iterable[str]) -> list[str]:
    """The texts of an argument that takes several.

    Raises:
        ConfigurationError: As `several` does, or for anything but a text.
    """
    found = several(name, values)
    for value in found:
        if not isinstance(value, str):
            raise ConfigurationError(f"KoCPTCallback({name}=…): expected texts, found {value!r}")
    return found


def one_of(name: str, value: object, known: Sequence[str]) -> None:
    """Refuse a value of an argument that is none of those known.

    Raises:
        ConfigurationError: If it is none; tells what was probably meant.
    """
    if value in known:
        return
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigurationError(f"KoCPTCallback({name}=…): found {value!r}, expected one of {', '.join(known)}.{hint}")
