"""The judge: a pure fold of observations through rules.

Live, offline and resumed runs are the same fold over the same rows and therefore give the same findings; a
resumed run has no state to restore, it folds its rows again.

A rule that raises blinds no other one: it is named once (`rule-failed`) and set aside for the rest of the fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ko_cpt_callbacks.core.finding import Finding
from ko_cpt_callbacks.core.observation import Observation, SetupObservation
from ko_cpt_callbacks.core.progress import RunProgress, Summary
from ko_cpt_callbacks.core.target import Target
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.rules.registry import Rule, RuleFailed, rules_for

__all__ = ["Monitor", "MonitorState", "SetAside"]

_LONGEST: Final = 300
"""Characters of an error that are shown; some hold a whole row."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """In place of the state of a rule that raised: it is not asked again.

    Args:
        step: Step of the row at which it raised.
        error: Kind and text of the exception.
    """

    step: int
    error: str


@dataclass(frozen=True, slots=True)
class MonitorState:
    """Where a fold stands: one state per rule, in the rules' order, and what the run has reached.

    ``last_step``: step of the last row; 0 before the first. Two states are equal when the same rules saw the same rows,
    however the fold was cut.
    """

    rules: tuple[Any, ...]
    progress: RunProgress = field(default_factory=RunProgress)
    last_step: int = 0

    def summary(self) -> Summary:
        """First, last and best of every set."""
        return self.progress.summary()


class Monitor:
    """Folds observations through rules.

    Args:
        rules: The rules to ask, each code once, as they are. ``None``: `rules_for` ``(targets, task)``.
        targets: What the run must reach. Not together with ``rules``, which carry theirs.
        task: What the run was declared to be (``cpt``, ``sft``, ``other``), for rules whose verdict on a
            level depends on it. Rules that were given carry theirs.

    Raises:
        ConfigurationError: If two rules share a code, if ``targets`` and ``rules`` are both given, or for a task
            that is none of the three.

    >>> from ko_cpt_callbacks.core.observation import TrainObservation
    >>> monitor = Monitor()
    >>> state, findings = monitor.fold([TrainObservation(step=10, loss=float("nan"))])
    >>> [(finding.code, finding.step) for finding in findings]
    [('non-finite', 10)]
    """

    def __init__(
        self, rules: Sequence[Rule] | None = None, *, targets: Sequence[Target] = (), task: str = "cpt"
    ) -> None:
        """See the class."""
        if rules is not None and targets:
            raise ConfigurationError(
                "Monitor: found rules and targets, expected one of them (rules carry their targets); "
                "write Monitor(rules_for(targets, task, codes))"
            )
        self.rules: tuple[Rule, ...] = rules_for(targets, task) if rules is None else tuple(rules)
        self.task = task
        codes = [rule.code for rule in self.rules]
        twice = sorted({code for code in codes if codes.count(code) > 1})
        if twice:
            raise ConfigurationError(f"rules: each code once expected, found twice: {', '.join(twice)}")

    def initial(self) -> MonitorState:
        """The state before the first row."""
        return MonitorState(rules=tuple(rule.initial() for rule in self.rules))

    def step(self, state: MonitorState, seen: Observation) -> tuple[MonitorState, tuple[Finding, ...]]:
        """The state after one observation, and what that observation showed, in the rules' order.

        Findings that say nothing of what the run trains (`ko_cpt_callbacks.core.kind.applies`) are left out here.
        """
        if state.progress.aside(seen):  # of another model than the last: for no rule
            return MonitorState(state.rules, state.progress, seen.step), ()
        states: list[Any] = []
        findings: list[Finding] = []
        for rule, before in zip(self.rules, state.rules, strict=True):
            if isinstance(before, SetAside):
                states.append(before)
                continue
            try:
                after, found = rule.step(before, seen)
                found = tuple(found)  # a rule of one's own may return what raises only when it is looked at
            except Exception as error:  # whatever it is, the other rules must see this row and those that follow
                after = SetAside(seen.step, _shown(error))
                found = _failure(rule, after)
            states.append(after)
            findings.extend(found)
        progress = state.progress.add(seen).heard(findings)
        return MonitorState(tuple(states), progress, seen.step), tuple(filter(progress.seen.lets, findings))

    def fold(
        self, observations: Iterable[Observation], state: MonitorState | None = None
    ) -> tuple[MonitorState, tuple[Finding, ...]]:
        """Folds many observations, from the start or on from ``state``; findings in the order of the rows."""
        now = self.initial() if state is None else state
        findings: list[Finding] = []
        for seen in observations:
            now, found = self.step(now, seen)
            findings.extend(found)
        return now, tuple(findings)

    def close(self, state: MonitorState) -> tuple[Finding, ...]:
        """What can be said only once no further row will come; the state can still be folded on."""
        findings: list[Finding] = []
        for rule, before in zip(self.rules, state.rules, strict=True):
            if isinstance(before, SetAside):
                continue
            try:
                findings.extend(rule.close(before))
            except Exception as error:  # as in `step`
                findings.extend(_failure(rule, SetAside(state.last_step, _shown(error)), at_the_end=True))
        return tuple(filter(state.progress.heard(findings).seen.lets, findings))

    def judge(self, observations: Iterable[Observation]) -> tuple[MonitorState, tuple[Finding, ...]]:
        """A finished run: `fold` from the start, then `close`."""
        state, findings = self.fold(observations)
        return state, findings + self.close(state)


def _shown(error: Exception) -> str:
    """Kind and text of an exception; the kind alone where it cannot tell its text."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:
        text = type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _failure(rule: Rule, aside: SetAside, *, at_the_end: bool = False) -> tuple[Finding, ...]:
    """What is said of a rule that raised, whether or not the run was told to ask `rule-failed`."""
    speaker = RuleFailed()
    values = {"rule": rule.code, "error": aside.error, "at_the_end": at_the_end}
    return speaker.step(speaker.initial(), SetupObservation(aside.step, speaker.code, values))[1]
