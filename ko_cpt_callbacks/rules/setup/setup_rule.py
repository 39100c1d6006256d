"""What the rules on set-up rows have in common: each reads one kind of them and speaks once of each mistake.

Live code notes what it saw when training began (a row of the rule's own kind); whether that is worth a finding, and
with which numbers, is decided here, so that a finished run's rows give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeAlias

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.rules.rule import Found, Rule
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import Observation, SetupObservation, finite_number
from ko_cpt_callbacks.signal.signals import Signals

__all__ = [
    "CORPUS_USE", "FIRST_BATCH", "Reading", "SetupReason", "SetupRule", "count_of", "first_of", "names_of",
    "some_names", "some_of", "text_of",
]  # fmt: skip

FIRST_BATCH: Final = "padding-in-loss"
"""Kind of the row that holds the counts of the first batch: pads, prompts and ends are counted in one pass."""

CORPUS_USE: Final = "corpus-use"
"""Kind of the row that says how much of one source the stages of a recipe train on; each source has one."""

Reading: TypeAlias = Callable[[SetupObservation, str], Any]
"""How a value of a row is read; None where the row has none that can be used."""


@dataclass(frozen=True, slots=True)
class SetupReason:
    """One thing that a set-up row can show, and what it takes.

    Args:
        name: Variant of the finding; empty where its code has but one.
        severity: How grave it is.
        needs: Values that the sentence shows, each with how it is read; a row that lacks one does not show this.
        when: Whether a row that has them shows it; None: it does.
    """

    name: str
    severity: Severity
    needs: Mapping[str, Reading] = field(default_factory=dict)
    when: Callable[[SetupObservation], bool] | None = None

    def values(self, seen: SetupObservation) -> dict[str, Any] | None:
        """The values of a row that shows it; None of any other row."""
        values = {name: read(seen, name) for name, read in self.needs.items()}
        if any(value is None for value in values.values()):
            return None
        return values if self.when is None or self.when(seen) else None


def first_of(reasons: Sequence[SetupReason], seen: SetupObservation) -> tuple[SetupReason, dict[str, Any]] | None:
    """The first reason that a row shows, with its values."""
    for reason in reasons:
        values = reason.values(seen)
        if values is not None:
            return reason, values
    return None


@dataclass(frozen=True, slots=True)
class SetupRule(Rule):
    """Speaks at the first set-up row that shows the mistake; a resumed run may bring it again.

    Its state is what was reported, by `subject`.
    """

    reasons: ClassVar[tuple[SetupReason, ...]] = ()
    """What a row may show; the first that fits is reported."""
    row: ClassVar[str] = ""
    """Kind of the set-up rows that it reads; empty: its own code."""

    def judge(self, seen: SetupObservation) -> Finding | None:
        """What a row of the kind shows; None where it is no mistake, or the row lacks what the sentence needs."""
        fits = first_of(self.reasons, seen)
        return None if fits is None else self._found(seen, fits[0].severity, fits[1], fits[0].name)

    def subject(self, found: Finding) -> str:
        """What is reported once: a sentence of a set or source; a code may be two mistakes, of two sets."""
        return f"{found.variant} {found.split or found.values.get('source') or ''}"

    def initial(self) -> tuple[str, ...]:
        """Nothing reported."""
        return ()

    def step(self, state: tuple[str, ...], seen: Observation, signals: Signals) -> tuple[tuple[str, ...], Found]:
        """Judges a set-up row of the kind; every other row says nothing."""
        if not isinstance(seen, SetupObservation) or seen.kind != (self.row or self.code):
            return state, ()
        found = self.judge(seen)
        if found is None or (subject := self.subject(found)) in state:
            return state, ()
        return (*state, subject), (found,)

    def _found(
        self, seen: SetupObservation, severity: Severity, values: Mapping[str, Any], variant: str = ""
    ) -> Finding:
        """The finding of a row. What may stop a run asks to, but for infos: starting again is cheap at its start."""
        stops = self.info.may_stop and severity is not Severity.INFO
        split = text_of(seen, keys.SPLIT)
        return Finding(self.code, severity, seen.step, split, values, asks_to_stop=stops, variant=variant)


def text_of(seen: SetupObservation, name: str) -> str | None:
    """A text in a row's values; None where there is none."""
    value = seen.values.get(name)
    return value if isinstance(value, str) and value else None


def count_of(seen: SetupObservation, name: str) -> int | None:
    """A count in a row's values, 0 or more; None where there is none, or an integer beyond any count."""
    value = seen.values.get(name)
    return value if isinstance(value, int) and finite_number(value) is not None and value >= 0 else None


def some_of(seen: SetupObservation, name: str) -> int | None:
    """A count in a row's values, 1 or more; None where there is none."""
    return count_of(seen, name) or None


def names_of(seen: SetupObservation, name: str) -> list[str]:
    """A list of texts in a row's values; empty where there is none."""
    value = seen.values.get(name)
    if isinstance(value, str) or not isinstance(value, Sequence):
        return []
    return [item for item in value if isinstance(item, str)]


def some_names(seen: SetupObservation, name: str) -> list[str] | None:
    """A list of texts in a row's values; None where there is none, or an empty one."""
    return names_of(seen, name) or None
