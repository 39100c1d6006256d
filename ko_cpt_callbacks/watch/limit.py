"""Limits of rules as a user writes them: which codes and names there are, and what may be given for each.

What there is is handed in: this room knows no rules.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Final, TypeAlias

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.catalogue import retired

__all__ = ["Limits", "checked_code", "checked_limit", "checked_limits", "read_limits"]

Limits: TypeAlias = Mapping[str, Mapping[str, float]]
"""By code, limits by name. Of all rules as they are: one that is an int takes whole numbers only."""

_WHOLE: Final = "a whole number, 0 or more"
_ANY: Final = "a number, 0 or more"


def checked_code(where: str, code: object, known: Collection[str]) -> str:
    """A code, if there is a rule of it.

    Args:
        where: Where it was found, for the error.
        code: The code.
        known: Codes that there are.

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
            type, NaN, infinite or negative.
    """
    if not isinstance(name, str) or name not in known:
        expected = f"expected one of {', '.join(known)}.{_near(name, known)}" if known else "but it has no limits"
        raise ConfigurationError(f"{where}: found {name!r} of {code}, {expected}")
    whole = isinstance(known[name], int)
    number = _as_number(value, whole=whole)
    if number is None:
        raise ConfigurationError(
            f"{where}: found {value!r} for {name} of {code}, expected {_WHOLE if whole else _ANY} "
            f"(it is {known[name]:g} by itself)"
        )
    return number


def _as_number(value: object, *, whole: bool) -> float | None:
    """A plain number, 0 or more; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        return None
    try:
        number = int(value) if isinstance(value, Integral) and whole else float(value)
        return number if math.isfinite(number) and number >= 0 else None
    except OverflowError:  # a whole number beyond any limit
        return None


def checked_limits(where: str, given: Mapping[Any, Any], known: Limits) -> dict[str, dict[str, float]]:
    """Limits by code and name, if the rules have them.

    Args:
        where: Where they were found, for the error.
        given: What was given.
        known: The limits of all rules, as they are.

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
    near = difflib.get_close_matches(str(found), known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
