"""What a rule is: its metadata, three pure methods, and its limits by name.

A limit is a field of a rule that is a number. What a rule knows of the run (targets, retention sets, the task,
patience) is none.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import (
    EndObservation,
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
)
from ko_cpt_callbacks.run.retention import is_retention
from ko_cpt_callbacks.signal.evaluations import Series
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.watch.argument import Limits

__all__ = ["ANY_ROW", "EvaluationSetRule", "Found", "OnceRule", "Rule", "RuleInfo", "Wakes", "limits_of", "with_limits"]

Found: TypeAlias = tuple[Finding, ...]
"""What one row showed."""

ANY_ROW: Final = (SetupObservation, TrainObservation, EvalObservation, EndObservation)
"""Every kind of row."""


@dataclass(frozen=True, slots=True)
class Wakes:
    """Which training rows concern a rule; the monitor asks it at no others.

    Args:
        facts: What a row shows, the signals up to it included; a row of which one holds concerns the rule. Pure
            functions, as in `ko_cpt_callbacks.signal.signals`.
        open: Fields of the rule's state, by dotted name; while one of them is set, each row concerns it.
    """

    facts: tuple[Callable[[TrainObservation, Signals], bool], ...] = ()
    open: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleInfo:
    """What is known of a rule without asking it.

    Args:
        code: Code of its findings: a stable public name.
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

    @property
    def wakes(self) -> Wakes | None:
        """Which of the training rows that it asks for concern it; None: each.

        At any other row the rule must neither find anything nor change its state: it is not asked there.
        """
        return None

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

    def keep(self, state: Any, found: Found) -> Any:
        """The state after a step was folded anew, in which earlier findings stand; by default the state as it is.

        Args:
            state: The state after the step's rows as they count now.
            found: Findings of that step, of any rule, which those rows no longer show.
        """
        return state

    def close(self, state: Any, signals: Signals) -> Found:
        """What can be reported only when the history ends without the Trainer's last row; by default nothing.

        Args:
            state: The state after the last row.
            signals: The run up to the last row.
        """
        return ()


@dataclass(frozen=True, slots=True)
class OnceRule(Rule):
    """Speaks once: at a training row that wakes it, at the Trainer's last row, or where the history ends without it.

    Its state is whether it has spoken.
    """

    @abstractmethod
    def judged(self, signals: Signals, *, live: bool) -> Found:
        """What the run so far shows; ``live``: it goes on."""

    def initial(self) -> bool:
        """Not spoken."""
        return False

    def step(self, state: bool, seen: Observation, signals: Signals) -> tuple[bool, Found]:
        """Judges a training row that it wakes for, and the Trainer's last row."""
        facts = () if self.wakes is None else self.wakes.facts
        if state or (isinstance(seen, TrainObservation) and not any(fact(seen, signals) for fact in facts)):
            return state, ()
        found = self.judged(signals, live=isinstance(seen, TrainObservation))
        return bool(found), found

    def close(self, state: bool, signals: Signals) -> Found:
        """Judges the history as it ends."""
        return () if state else self.judged(signals, live=False)


@dataclass(frozen=True, slots=True)
class EvaluationSetRule(Rule):
    """Speaks once per evaluation set; retention sets are the business of ``forgetting``.

    Its state is the sets of which it has spoken.

    Args:
        retention: Declared names of retention sets.
    """

    retention: tuple[str, ...] = ()

    @abstractmethod
    def judged(self, now: Series) -> dict[str, Any] | None:
        """The values of the finding that the evaluations of a set show; None where they show none."""

    def initial(self) -> tuple[str, ...]:
        """No set."""
        return ()

    def step(self, state: tuple[str, ...], seen: Observation, signals: Signals) -> tuple[tuple[str, ...], Found]:
        """Judges an evaluation."""
        now, split = signals.evaluations.now, getattr(seen, "split", "")
        if now is None or split in state or is_retention(split, self.retention):
            return state, ()
        values = self.judged(now)
        if values is None:
            return state, ()
        severity, stops = self.info.severities[0], self.info.may_stop
        return (*state, split), (Finding(self.code, severity, seen.step, split, values, asks_to_stop=stops),)


_NUMBERS: Final[Mapping[str, type[int] | type[float]]] = {"int": int, "float": float}
"""Types of the fields that are limits."""


def limits_of(rule: Rule) -> dict[str, float]:
    """The limits of a rule, by name, as they are: an int takes whole numbers only.

    >>> from ko_cpt_callbacks.rules.note.note import NotEnoughData
    >>> limits_of(NotEnoughData())
    {'min_train_points': 10, 'min_evaluations': 3}
    """
    found: dict[str, float] = {}
    for one in dataclasses.fields(rule):  # type: ignore[arg-type]
        number = _NUMBERS.get(one.type if isinstance(one.type, str) else one.type.__name__) if one.init else None
        if number is not None:
            value = getattr(rule, one.name)
            found[one.name] = value if isinstance(value, number) else number(value)
    return found


def with_limits(rule: Rule, limits: Limits) -> Rule:
    """The rule with the limits that are given for it, which are checked already."""
    given = limits.get(rule.code)
    return dataclasses.replace(rule, **given) if given else rule  # type: ignore[type-var]
