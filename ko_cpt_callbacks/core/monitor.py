"""The judge: a pure fold of observations through rules.

Live, offline and resumed runs are the same fold over the same rows and therefore give the same findings; a
resumed run has no state to restore, it folds its rows again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ko_cpt_callbacks.core.finding import Finding
from ko_cpt_callbacks.core.observation import Observation
from ko_cpt_callbacks.core.progress import RunProgress, Summary
from ko_cpt_callbacks.core.rules import Rule, rules_for
from ko_cpt_callbacks.core.target import Target
from ko_cpt_callbacks.errors import ConfigurationError

__all__ = ["Monitor", "MonitorState"]


@dataclass(frozen=True, slots=True)
class MonitorState:
    """Where a fold stands: one state per rule, in the rules' order, and what the run has reached.

    Two states are equal when the same rules saw the same rows, however the fold was cut.
    """

    rules: tuple[Any, ...]
    progress: RunProgress = field(default_factory=RunProgress)

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
        """The state after one observation, and what that observation showed, in the rules' order."""
        states: list[Any] = []
        findings: list[Finding] = []
        for rule, before in zip(self.rules, state.rules, strict=True):
            after, found = rule.step(before, seen)
            states.append(after)
            findings.extend(found)
        return MonitorState(tuple(states), state.progress.add(seen)), tuple(findings)

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
        pairs = zip(self.rules, state.rules, strict=True)
        return tuple(finding for rule, before in pairs for finding in rule.close(before))

    def judge(self, observations: Iterable[Observation]) -> tuple[MonitorState, tuple[Finding, ...]]:
        """A finished run: `fold` from the start, then `close`."""
        state, findings = self.fold(observations)
        return state, findings + self.close(state)
