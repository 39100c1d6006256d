"""The judge: a pure fold of observations through rules.

Live, offline and resumed runs are the same fold over the same rows and therefore give the same findings; a
resumed run has no state to restore, it folds its rows again.

A rule that raises blinds no other one: it is named once (`rule-failed`) and set aside for the rest of the fold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, cast

from ko_cpt_callbacks.errors import ConfigurationError, error_text
from ko_cpt_callbacks.rules.note.note import RuleFailed
from ko_cpt_callbacks.rules.registry import rules_for
from ko_cpt_callbacks.rules.rule import ANY_ROW, Found, Rule
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.run.progress import RunProgress, Summary
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.signals import SILENT, Signals
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.target import Target

__all__ = ["Monitor", "MonitorState", "SetAside"]


@dataclass(frozen=True, slots=True)
class SetAside:
    """In place of the state of a rule that raised: it is not asked again.

    Args:
        step: Step of the row at which it raised.
        error: Kind and text of the exception.
    """

    step: int
    error: str


@dataclass(frozen=True)
class LostSignals:
    """In place of signals that raised: what looks at them raises too.

    Args:
        error: What the rules are told.
        run: What the run has reached, which goes on.
        outlook: Not known; who asks for it can do without.
    """

    error: str
    run: RunProgress
    outlook: None = None

    def add(self, seen: Observation) -> LostSignals:
        """The same with one more row: what was not counted cannot be caught up with."""
        return replace(self, run=self.run.add(seen))

    def __getattr__(self, name: str) -> Any:
        """Raises for every part of the signals."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(self.error)


@dataclass(frozen=True, slots=True)
class Moment:
    """The rows of the step that the fold is at.

    Args:
        before: The state before the first of them; it has no moment of its own.
        rows: The rows that count, in their order.
        found: What was found in any of them.
    """

    before: MonitorState
    rows: tuple[Observation, ...]
    found: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class MonitorState:
    """Where a fold stands: the signals, among them what the run has reached, and one state per rule, in their order.

    ``last_step``: step of the last row; 0 before the first. Two states are equal when the same rules saw the same rows,
    however the fold was cut. ``moment`` follows from the same rows and may hold NaN, which equals nothing: it is not
    compared.
    """

    rules: tuple[Any, ...]
    signals: Signals = SILENT
    last_step: int = 0
    moment: Moment | None = field(default=None, compare=False, repr=False)

    @property
    def progress(self) -> RunProgress:
        """What the run has reached."""
        return self.signals.run

    def summary(self) -> Summary:
        """First, last and best of every set."""
        return self.progress.summary()


class Monitor:
    """Folds observations through rules.

    Args:
        rules: The rules to ask, each code once, as they are. ``None``: `rules_for` of ``targets`` and ``task``.
        targets: What the run must reach. Not together with ``rules``, which carry theirs.
        task: What the run was declared to be (``cpt``, ``sft``, ``other``), for rules whose verdict on a
            level depends on it. Rules that were given carry theirs.

    Raises:
        ConfigurationError: If two rules share a code, if ``targets`` and ``rules`` are both given, or for a task
            that is none of the three.

    >>> from ko_cpt_callbacks.run.observation import TrainObservation
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
                "write Monitor(rules_for(WatchSpec(targets, task, codes)))"
            )
        self.rules: tuple[Rule, ...] = rules_for(WatchSpec(tuple(targets), task)) if rules is None else tuple(rules)
        self.task = task
        codes = [rule.code for rule in self.rules]
        twice = sorted({code for code in codes if codes.count(code) > 1})
        if twice:
            raise ConfigurationError(f"rules: each code once expected, found twice: {', '.join(twice)}")
        self._asked = {
            kind: tuple(place for place, rule in enumerate(self.rules) if kind in rule.asks) for kind in ANY_ROW
        }
        wakes = [rule.wakes for rule in self.rules]
        self._wakes = tuple(None if one is None else (one.facts, tuple(map(attrgetter, one.open))) for one in wakes)

    def initial(self) -> MonitorState:
        """The state before the first row."""
        return MonitorState(rules=tuple(rule.initial() for rule in self.rules))

    def step(self, state: MonitorState, seen: Observation) -> tuple[MonitorState, Found]:
        """The state after one observation, and what that observation showed, in the rules' order.

        An observation of the same kind, set and step as an earlier one replaces it: the fold goes back to before that
        step and takes its rows again. What was reported stands, and is not reported a second time.

        Findings that say nothing of what the run trains (`ko_cpt_callbacks.run.kind.applies`) are left out here.
        """
        if state.progress.aside(seen):  # of another model than the last: for no rule
            return replace(state, last_step=seen.step), ()
        moment = state.moment
        if moment is None or moment.rows[-1].step != seen.step:
            before = MonitorState(state.rules, state.signals, state.last_step)
            return self._row(before, seen, Moment(before, (), ()))
        place = next((i for i, row in enumerate(moment.rows) if _replaces(seen, row)), None)
        if place is None:
            return self._row(state, seen, moment)
        rows = (*moment.rows[:place], seen, *moment.rows[place + 1 :])
        again: list[Finding] = []
        after = moment.before
        for row in rows:
            after, found = self._row(after, row, moment)
            again.extend(found)
        new, stands = _not_among(again, moment.found), _not_among(moment.found, again)
        states = after.rules
        if stands:
            kept = [_kept(rule, one, stands, seen.step) for rule, one in zip(self.rules, states, strict=True)]
            states, failed = tuple(one for one, _ in kept), tuple(found for _, more in kept for found in more)
            new = (*new, *_not_among(failed, moment.found))
        return replace(after, rules=states, moment=Moment(moment.before, rows, (*moment.found, *new))), new

    def _row(self, state: MonitorState, seen: Observation, moment: Moment) -> tuple[MonitorState, Found]:
        """The state after a row that replaces none of its step's others."""
        try:
            signals = state.signals.add(seen)
        except Exception as error:  # the rules that look at them are set aside, the others go on
            told = f"signals failed at step {seen.step}: {error_text(error, limits.ERROR_SHOWN)}"
            signals = cast("Signals", LostSignals(told, state.progress.add(seen)))
        kind, states = type(seen), list(state.rules)
        findings: list[Finding] = []
        for place in self._asked.get(kind, ()):
            rule, before = self.rules[place], states[place]
            if isinstance(before, SetAside):
                continue
            try:
                if isinstance(seen, TrainObservation) and not self._concerns(place, before, seen, signals):
                    continue
                after, found = rule.step(before, seen, signals)
                findings.extend(_checked(rule, found))
            except Exception as error:  # whatever it is, the other rules must see this row and those that follow
                after, found = _set_aside(rule, seen.step, error)
                findings.extend(found)
            states[place] = after
        if findings:
            run = signals.run.heard(findings)
            signals = signals if run is signals.run else replace(signals, run=run)
            findings = [one for one in findings if run.seen.lets(one)]
        moment = Moment(moment.before, (*moment.rows, seen), (*moment.found, *findings))
        return MonitorState(tuple(states), signals, seen.step, moment), tuple(findings)

    def _concerns(self, place: int, state: Any, seen: TrainObservation, signals: Signals) -> bool:
        """Whether a training row concerns a rule, as its `Rule.wakes` says."""
        wakes = self._wakes[place]
        if wakes is None:
            return True
        facts, fields = wakes
        for of in fields:
            if of(state):
                return True
        for fact in facts:  # noqa: SIM110 - a generator takes as long as most facts
            if fact(seen, signals):
                return True
        return False

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
        """What can be reported only once no further row will come; the state can still be folded on."""
        findings: list[Finding] = []
        for rule, before in zip(self.rules, state.rules, strict=True):
            if isinstance(before, SetAside):
                continue
            try:
                findings.extend(_checked(rule, rule.close(before, state.signals)))
            except Exception as error:  # as in `step`
                findings.extend(_set_aside(rule, state.last_step, error, at_the_end=True)[1])
        return tuple(filter(state.progress.heard(findings).seen.lets, findings))

    def judge(self, observations: Iterable[Observation]) -> tuple[MonitorState, tuple[Finding, ...]]:
        """A finished run: `fold` from the start, then `close`."""
        state, findings = self.fold(observations)
        return state, findings + self.close(state)


def _checked(rule: Rule, found: Iterable[Finding]) -> Found:
    """What a rule returned, if it is findings of its code: a rule of another package may return anything.

    Raises:
        TypeError: If it is anything else.
    """
    findings = tuple(found)
    for one in findings:
        if not isinstance(one, Finding) or one.code != rule.code:
            raise TypeError(f"found {one!r} among what the rule returned, expected findings of {rule.code}")
    return findings


def _set_aside(rule: Rule, step: int, error: Exception, *, at_the_end: bool = False) -> tuple[SetAside, Found]:
    """What stands for the state of a rule that raised, and its finding, whether or not the run asks `rule-failed`."""
    speaker, aside = RuleFailed(), SetAside(step, error_text(error, limits.ERROR_SHOWN))
    values = {"rule": rule.code, "error": aside.error, "at_the_end": at_the_end}
    return aside, speaker.step(speaker.initial(), SetupObservation(step, speaker.code, values), SILENT)[1]


def _kept(rule: Rule, state: Any, found: Found, step: int) -> tuple[Any, Found]:
    """`Rule.keep`, guarded as `Rule.step` is."""
    if isinstance(state, SetAside):
        return state, ()
    try:
        return rule.keep(state, found), ()
    except Exception as error:
        return _set_aside(rule, step, error)


def _replaces(seen: Observation, row: Observation) -> bool:
    """Whether a row of the same step counts in place of an earlier one; set-up rows only ever add."""
    if type(seen) is not type(row) or isinstance(seen, SetupObservation):
        return False
    return not isinstance(seen, EvalObservation) or seen.split == getattr(row, "split", None)


def _not_among(found: Sequence[Finding], known: Sequence[Finding]) -> Found:
    """The findings beyond as many of their topic and set as were reported already."""
    left = Counter((one.topic, one.split) for one in known)
    new: list[Finding] = []
    for one in found:
        left[one.topic, one.split] -= 1
        if left[one.topic, one.split] < 0:
            new.append(one)
    return tuple(new)
