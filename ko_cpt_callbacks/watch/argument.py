"""The arguments of a callback, read one by one: every error names the argument, the value, and what is expected.

Limits of rules as a user writes them: which codes and names there are, and what may be given for each.

What there is is handed in: this room knows no rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Final, TypeAlias

from ko_cpt_callbacks.errors import ConfigurationError, near_miss
from ko_cpt_callbacks.messages.catalogue import retired
from ko_cpt_callbacks.run.file import clip
from ko_cpt_callbacks.watch.stopping import Patience

__all__ = [
    "AUTO", "BaselineData", "Limits", "PointLimit", "ShareLimit", "asked_rules", "baseline_of", "checked_code",
    "checked_limit", "checked_limits", "one_of", "read_limits", "several", "stop_codes", "texts",
]  # fmt: skip

Limits: TypeAlias = Mapping[str, Mapping[str, float]]
"""By code, limits by name. Of all rules as they are: an int takes whole numbers from 1 on, a float numbers above 0."""


class ShareLimit(float):
    """A limit that is a part of something: above 0, and at most 1, or less."""

    def __new__(cls, value: float, most: float = 1.0) -> ShareLimit:
        """See the class."""
        made = super().__new__(cls, value)
        made.most = most
        return made

    most: float


class PointLimit(int):
    """A limit that is a number of points, of which a rule needs some and keeps so many."""

    def __new__(cls, value: int, least: int, most: int) -> PointLimit:
        """See the class."""
        made = super().__new__(cls, value)
        made.least, made.most = least, most
        return made

    least: int
    most: int


def checked_code(where: str, code: object, known: Collection[str]) -> str:
    """A code, if there is a rule of it.

    Raises:
        ConfigurationError: For one that there is not; of one that has another name by now, says which.
    """
    if isinstance(code, str) and code in known:
        return code
    if isinstance(code, str) and code in retired():
        now = retired()[code]
        gone = "which is no finding any more; parsing the target reports it now, so leave it out"
        what = f"which is called {now!r} now; write {now!r}" if now else gone
        raise ConfigurationError(f"{where}: found {code!r}, {what}")
    raise ConfigurationError(f"{where}: found {code!r}, expected one of {', '.join(known)}.{_near(code, known)}")


def checked_limit(where: str, code: str, known: Mapping[str, float], name: object, value: object) -> float:
    """What was given for a limit, as the rule takes it.

    Args:
        where: Where it was found, for the error.
        code: The rule's code.
        known: The rule's limits, as they are.
        name: Name of the limit.
        value: What was given.

    Raises:
        ConfigurationError: For a name that is no limit of the rule, and for a value that is no number for it: another
            type, NaN, infinite, 0 or below (unless that is what it is by itself), or outside of what it may be.
    """
    if not isinstance(name, str) or name not in known:
        expected = f"expected one of {', '.join(known)}.{_near(name, known)}" if known else "but it has no limits"
        raise ConfigurationError(f"{where}: found {name!r} of {code}, {expected}")
    own = known[name]
    whole = isinstance(own, int)
    least, most = getattr(own, "least", min(own, 1)), getattr(own, "most", math.inf)
    number = _as_number(value, whole=whole)
    if number is None or number > most or not (number >= least if whole else number > 0 or number == own):
        expected = f"a whole number, {least} or more" if whole else "a number above 0"
        expected += f", at most {most:g}" if most < math.inf else ""
        raise ConfigurationError(
            f"{where}: found {clip(value)} for {name} of {code}, expected {expected} (it is {own:g} by itself)"
        )
    return number


def _as_number(value: object, *, whole: bool) -> float | None:
    """A plain finite number; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        return None
    try:
        number = int(value) if isinstance(value, Integral) and whole else float(value)
        return number if math.isfinite(number) else None
    except OverflowError:  # a whole number beyond any limit
        return None


def checked_limits(where: str, given: Mapping[Any, Any], known: Limits) -> dict[str, dict[str, float]]:
    """Limits by code and name, if the rules have them.

    Raises:
        ConfigurationError: As `checked_code` and `checked_limit` do, or for what is no mapping of names to numbers.
    """
    checked: dict[str, dict[str, float]] = {}
    for found, values in given.items():
        code = checked_code(where, found, known)
        if not isinstance(values, Mapping):
            raise ConfigurationError(
                f"{where}: found {values!r} under {found!r}, expected its limits by name; write "
                f"{{{found!r}: {dict(known[code])}}}"
            )
        checked[code] = {name: checked_limit(where, code, known[code], name, value) for name, value in values.items()}
    return checked


def read_limits(where: str, texts: Sequence[str], known: Limits) -> dict[str, dict[str, float]]:
    """Limits written as ``CODE.LIMIT=NUMBER``; of one that is given twice the last counts.

    Raises:
        ConfigurationError: As `checked_limits` does, or for a text that is not written so.

    >>> read_limits("--rule", ["not-enough-data.min_evaluations=5"], {"not-enough-data": {"min_evaluations": 3}})
    {'not-enough-data': {'min_evaluations': 5}}
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        left, is_given, number = (part.strip() for part in text.partition("="))
        code, is_named, name = left.partition(".")
        value = _number(number)
        if not (is_given and is_named and name) or value is None:
            raise ConfigurationError(f"{where}: found {text!r}, expected CODE.LIMIT=NUMBER; write 'loss-spike.most=3'")
        checked = checked_limits(where, {code: {name: value}}, known)
        found.setdefault(code, {}).update(checked[code])
    return found


def _number(text: str) -> float | None:
    """A number as it is written: whole ones stay whole."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return None


def _near(found: object, known: Collection[str]) -> str:
    near = near_miss(found, known)
    return "" if near is None else f" Did you mean {near!r}?"


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
    expected = f"expected one of {', '.join(known)}.{_near(value, known)}"
    raise ConfigurationError(f"KoCPTCallback({name}=…): found {value!r}, {expected}")
