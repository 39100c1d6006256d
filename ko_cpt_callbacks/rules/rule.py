"""What a rule is: its metadata, three pure methods, and its limits by name.

A limit is a field of a rule that is a number. What a rule is told of the run (targets, retention sets, the task,
patience) is none.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Final, TypeAlias

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.catalogue import retired
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import (
    EndObservation,
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
)
from ko_cpt_callbacks.signal.signals import Signals

__all__ = [
    "ANY_ROW", "Found", "Limits", "Rule", "RuleInfo", "checked_code", "checked_limit", "checked_limits",
    "limits_of", "read_limits", "with_limits",
]  # fmt: skip

Found: TypeAlias = tuple[Finding, ...]
"""What one row showed."""

ANY_ROW: Final = (SetupObservation, TrainObservation, EvalObservation, EndObservation)
"""Every kind of row."""


@dataclass(frozen=True, slots=True)
class RuleInfo:
    """What is known of a rule without asking it.

    Args:
        code: Code of its findings: its file's name with hyphens. A stable public name.
        severities: Severities that its findings can have, the gravest first.
        rows: Kinds of rows that it asks for; the monitor shows it no others.
        may_stop: Whether one of its findings can ask to stop the run.
        since: Version of the package that brought it.
        place: Where its findings stand among those of the same row: the lower come first, equal ones by their module.
    """

    code: str
    severities: tuple[Severity, ...]
    rows: tuple[type[Observation], ...]
    may_stop: bool = False
    since: str = "0.1.0"
    place: int = 295


class Rule(ABC):
    """A judge of one thing; a subclass is a frozen dataclass whose fields are its limits.

    A state is a plain frozen value that never holds a NaN, so that two folds over the same rows compare equal. What
    all rules look at is in the signals; a state holds what the rule alone remembers. Rules never import each other.
    """

    __slots__ = ()

    info: ClassVar[RuleInfo]
    """Its metadata."""

    @property
    def code(self) -> str:
        """Code of its findings."""
        return self.info.code

    @property
    def asks(self) -> tuple[type[Observation], ...]:
        """Kinds of rows that the monitor shows it: those of its metadata; none where it was given nothing to judge."""
        return self.info.rows

    def initial(self) -> Any:
        """The state before the first row."""
        return None

    @abstractmethod
    def step(self, state: Any, seen: Observation, signals: Signals) -> tuple[Any, Found]:
        """The state after a row, and what the row showed: the same for the same input.

        Args:
            state: The state before the row.
            seen: A row of a kind that `info` asks for.
            signals: The run up to that row, the row included.
        """

    def keep(self, state: Any, said: Found) -> Any:
        """The state after a step was folded anew, in which what had been said stands; by default the state as it is.

        Args:
            state: The state after the step's rows as they count now.
            said: Findings of that step, of any rule, which those rows no longer show.
        """
        return state

    def close(self, state: Any, signals: Signals) -> Found:
        """What can be said only when the history ends without the Trainer's last row; by default nothing.

        Args:
            state: The state after the last row.
            signals: The run up to the last row.
        """
        return ()


Limits: TypeAlias = Mapping[str, Mapping[str, float]]
"""By code, limits by name."""

_NUMBERS: Final = {"int": "a whole number, 0 or more", "float": "a number, 0 or more"}
"""Types of the fields that are limits, and what may be given for each."""


def limits_of(rule: Rule) -> dict[str, float]:
    """The limits of a rule, by name, as they are.

    >>> from ko_cpt_callbacks.rules.note.not_enough_data import NotEnoughData
    >>> limits_of(NotEnoughData())
    {'min_train_points': 10, 'min_evaluations': 3}
    """
    return {name: getattr(rule, name) for name in _types(rule)}


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
        what = f"which is a reason of {now!r} now; write {now!r}" if now else gone
        raise ConfigurationError(f"{where}: found {code!r}, {what}")
    raise ConfigurationError(f"{where}: found {code!r}, expected one of {', '.join(known)}.{_near(code, known)}")


def checked_limit(where: str, rule: Rule, name: object, value: object) -> float:
    """What was given for a limit, as the rule takes it.

    Args:
        where: Where it was found, for the error.
        rule: A rule of the code.
        name: Name of the limit.
        value: What was given.

    Raises:
        ConfigurationError: For a name that is no limit of the rule, and for a value that is no number for it: another
            type, NaN, infinite or negative.
    """
    types = _types(rule)
    if not isinstance(name, str) or name not in types:
        expected = f"expected one of {', '.join(types)}.{_near(name, types)}" if types else "but it has no limits"
        raise ConfigurationError(f"{where}: found {name!r} of {rule.code}, {expected}")
    number = _as_number(value, whole=types[name] == "int")
    if number is None:
        raise ConfigurationError(
            f"{where}: found {value!r} for {name} of {rule.code}, expected {_NUMBERS[types[name]]} "
            f"(it is {getattr(rule, name):g} by itself)"
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


def checked_limits(where: str, given: Mapping[Any, Any], rules: Sequence[Rule]) -> dict[str, dict[str, float]]:
    """Limits by code and name, if the rules have them.

    Raises:
        ConfigurationError: As `checked_code` and `checked_limit` do, or for what is no mapping of names to numbers.
    """
    known = {rule.code: rule for rule in rules}
    checked: dict[str, dict[str, float]] = {}
    for code, values in given.items():
        rule = known[checked_code(where, code, known)]
        if not isinstance(values, Mapping):
            raise ConfigurationError(
                f"{where}: found {values!r} under {code!r}, expected its limits by name; write "
                f"{{{code!r}: {limits_of(rule)}}}"
            )
        checked[rule.code] = {name: checked_limit(where, rule, name, value) for name, value in values.items()}
    return checked


def read_limits(where: str, texts: Sequence[str], rules: Sequence[Rule]) -> dict[str, dict[str, float]]:
    """Limits written as ``CODE.LIMIT=NUMBER``; of one that is given twice the last counts.

    Raises:
        ConfigurationError: As `checked_limits` does, or for a text that is not written so.

    >>> from ko_cpt_callbacks.rules.note.not_enough_data import NotEnoughData
    >>> read_limits("--rule", ["not-enough-data.min_evaluations=5"], [NotEnoughData()])
    {'not-enough-data': {'min_evaluations': 5}}
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        left, is_given, number = (part.strip() for part in text.partition("="))
        code, is_named, name = left.partition(".")
        value = _number(number)
        if not (is_given and is_named and name) or value is None:
            raise ConfigurationError(f"{where}: found {text!r}, expected CODE.LIMIT=NUMBER; write 'loss-spike.most=3'")
        checked = checked_limits(where, {code: {name: value}}, rules)
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


def with_limits(rule: Rule, limits: Limits) -> Rule:
    """The rule with the limits that are given for it, which are checked already."""
    given = limits.get(rule.code)
    return dataclasses.replace(rule, **given) if given else rule  # type: ignore[type-var]


def _types(rule: Rule) -> dict[str, str]:
    """The names of a rule's limits, each with the type of its field."""
    fields = dataclasses.fields(rule)  # type: ignore[arg-type]
    types = {one.name: one.type if isinstance(one.type, str) else one.type.__name__ for one in fields if one.init}
    return {name: of for name, of in types.items() if of in _NUMBERS}


def _near(found: object, known: Collection[str]) -> str:
    near = difflib.get_close_matches(str(found), known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
