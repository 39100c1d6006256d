"""`attempt-differs`: a resumed run goes on with other data, batches, arguments or versions than before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, TypeAlias

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo, Wakes
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.fold import ATTEMPT
from ko_cpt_callbacks.run.observation import Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.signal.window import Recent

__all__ = ["BEGUN_ANEW", "KEPT", "SCHEDULE", "AttemptDiffers", "AttemptDiffersState"]

SCHEDULE: Final = "schedule_and_optimizer"
KEPT: Final = "kept"
BEGUN_ANEW: Final = "begun anew"
_GROUPS: Final = ("state", "data", "batch", "arguments", "model", "versions")
"""The groups that are compared, in the order in which they are reported."""
_TOKENS: Final = "tokens_per_step"
_Facts: TypeAlias = Mapping[tuple[str, str], Any]
"""What an attempt trains with, by group and name."""


@dataclass(frozen=True, slots=True)
class TokenPace:
    """Target tokens per step between the first training rows of an attempt: the first, of how many, whether all."""

    step: int | None = None
    seen: int | None = None
    tokens: float | None = None
    rows: int = 0
    even: bool = True

    def add(self, step: int, seen: int | None) -> TokenPace:
        """The pace after a training row; the first of an attempt begins within a window and tells nothing."""
        if seen is None or self.seen is None or self.step is None or step <= self.step:
            return replace(self, step=step, seen=seen)
        now = (seen - self.seen) / (step - self.step)
        even = self.even and (self.tokens is None or now == self.tokens)
        return TokenPace(step, seen, now if self.tokens is None else self.tokens, self.rows + 1, even)

    @property
    def constant(self) -> float | None:
        """Tokens per step, where each of the first rows says the same: of rows that are packed to one length."""
        return self.tokens if self.even and self.rows >= limits.CONSTANT_ROWS else None


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt: the step it began at, what it trains with, and its tokens per step."""

    step: int
    facts: _Facts = field(default_factory=dict)
    pace: TokenPace = TokenPace()


@dataclass(frozen=True, slots=True)
class AttemptDiffersState:
    """This attempt, the one before it whose steps hold, and whether this one's difference was reported."""

    now: Attempt | None = None
    before: Attempt | None = None
    said: bool = False
    open: bool = False
    """Whether the first training rows of this attempt are still to come."""


@dataclass(frozen=True, slots=True)
class AttemptDiffers(Rule):
    """Says once per attempt with what it differs from the attempt whose steps it goes on from, from what to what.

    An attempt that died before the step that the next one begins at has trained nothing that holds: the next one is
    compared with the attempt before it. What one of the two rows does not say is not known, and not compared. Tokens
    per step are compared where they are constant in both: over the first three rows (chosen, not measured), and, of the
    attempt before, the last ones.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "attempt-differs", (Severity.WARNING,), (SetupObservation, TrainObservation), place=130
    )

    def initial(self) -> AttemptDiffersState:
        """No attempt yet."""
        return AttemptDiffersState()

    @property
    def wakes(self) -> Wakes:
        """The first rows of an attempt."""
        return Wakes(open=("open",))

    def step(
        self, state: AttemptDiffersState, seen: Observation, signals: Signals
    ) -> tuple[AttemptDiffersState, Found]:
        """Judges the beginning of an attempt, and its tokens per step."""
        if isinstance(seen, TrainObservation):
            return self._paced(state, seen)
        if not isinstance(seen, SetupObservation) or seen.kind != ATTEMPT:
            return state, ()
        groups = {name: group for name in _GROUPS if isinstance(group := seen.values.get(name), Mapping)}
        facts = {(group, name): value for group, values in groups.items() for name, value in values.items()}
        new = Attempt(seen.step, facts)
        before = state.before if state.now is None or state.now.step == seen.step else state.now
        if before is None:
            return AttemptDiffersState(new, open=True), ()
        if before is state.now and not _stayed(before, signals.window):
            before = replace(before, pace=TokenPace())
        changes = _changes(before.facts, facts)
        state = AttemptDiffersState(new, before, bool(changes), open=True)
        return state, self._found(seen.step, before, changes)

    def _paced(
        self, state: AttemptDiffersState, seen: TrainObservation
    ) -> tuple[AttemptDiffersState, Found]:
        if state.now is None:
            return state, ()
        now = replace(state.now, pace=state.now.pace.add(seen.step, seen.tokens_seen))
        state = replace(state, now=now, open=now.pace.rows < limits.CONSTANT_ROWS)
        then = None if state.before is None else state.before.pace.constant
        if state.said or state.before is None or then is None or now.pace.rows != limits.CONSTANT_ROWS:
            return state, ()
        tokens = now.pace.constant
        if tokens is None or tokens == then:
            return state, ()
        change = {"name": _TOKENS, "before": then, "after": tokens}
        return replace(state, said=True), self._found(seen.step, state.before, [change])

    def _found(self, step: int, before: Attempt, changes: list[dict[str, Any]]) -> Found:
        if not changes:
            return ()
        values: dict[str, Any] = {
            "before_step": before.step,
            "changes": changes,
            "changed": [f"{one['name']} {_shown(one['before'])} → {_shown(one['after'])}" for one in changes],
        }
        return (Finding(self.code, Severity.WARNING, step, values=values),)


def _stayed(attempt: Attempt, window: Recent) -> bool:
    """Whether the last rows of an attempt have the tokens per step of its first ones; its very first tells nothing."""
    paces = [pace for step, pace in zip(window.steps, window.paces, strict=True) if step > attempt.step]
    return all(pace == attempt.pace.constant for pace in paces[1:])


def _changes(before: _Facts, after: _Facts) -> list[dict[str, Any]]:
    """What both say, and say otherwise."""
    return [
        {"name": name, "before": before[group, name], "after": value}
        for (group, name), value in after.items()
        if None not in (before.get((group, name)), value)
        and value != KEPT  # after an attempt that began anew, going on is what should be
        and before[group, name] != value
    ]


def _shown(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value.is_integer() else f"{value:g}"
