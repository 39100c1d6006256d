"""The rules on what became of a target: each judges every target by the same rows, and reports one outcome of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, TypeAlias

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation, SetupObservation
from ko_cpt_callbacks.run.progress import RunProgress
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.watch import verdict
from ko_cpt_callbacks.watch.target import Target
from ko_cpt_callbacks.watch.verdict import Outcome, TargetState, Verdict

__all__ = ["TargetInconclusive", "TargetMet", "TargetMissed"]

_ROWS: Final = (SetupObservation, EvalObservation, EndObservation)
"""Kinds of rows that decide on a target; what training rows bring is in the signals."""

_States: TypeAlias = tuple[TargetState, ...]
"""Where each target stands, in the order of the targets."""


@dataclass(frozen=True, slots=True)
class OutcomeRule(Rule):
    """Speaks once per target, of the outcome that is the rule's own.

    Args:
        targets: What the run must reach.
        task: As in `ko_cpt_callbacks.rules.monitor.Monitor`.
    """

    outcome: ClassVar[Outcome]

    targets: tuple[Target, ...] = ()
    task: str = "cpt"

    def severity(self, verdict: Verdict) -> Severity:
        """How grave a verdict is."""
        return self.info.severities[0]

    def stops(self, verdict: Verdict, state: _States, *, last: bool) -> bool:
        """Whether a verdict asks to stop; ``last``: no other one of the row has the rule's outcome after it."""
        return False

    @property
    def asks(self) -> tuple[type[Observation], ...]:
        """Rows that decide, where there are targets."""
        return self.info.rows if self.targets else ()

    def initial(self) -> _States:
        """No row seen."""
        return tuple(TargetState() for _ in self.targets)

    def step(self, state: _States, seen: Observation, signals: Signals) -> tuple[_States, Found]:
        """Speaks at the evaluation that confirms or the deadline that passes, or at the Trainer's last row."""
        known = zip(self.targets, _trained(state, signals.run), strict=True)
        both = [verdict.advance(target, self.task, one, seen) for target, one in known]
        state = tuple(one for one, _ in both)
        return state, self._found(state, [brought for _, brought in both])

    def keep(self, state: _States, found: Found) -> _States:
        """A verdict that was reported of an evaluation stands, also where another of its step replaces that one."""
        return tuple(verdict.keep(target, one, found) for target, one in zip(self.targets, state, strict=True))

    def close(self, state: _States, signals: Signals) -> Found:
        """Speaks where the history ends before the deadline, or without the Trainer's last row."""
        row = signals.run.length.row_step
        known = tuple(replace(one, last_step=row or one.last_step) for one in _trained(state, signals.run))
        both = zip(self.targets, known, strict=True)
        return self._found(known, [verdict.close(target, self.task, one) for target, one in both])

    def _found(self, state: _States, verdicts: Sequence[Verdict | None]) -> Found:
        own = [one for one in verdicts if one is not None and one.outcome is self.outcome]
        return tuple(
            Finding(
                self.code,
                self.severity(one),
                one.step,
                one.target.split,
                one.values,
                asks_to_stop=self.stops(one, state, last=one is own[-1]),
                variant=one.variant,
            )
            for one in own
        )


def _trained(states: _States, run: RunProgress) -> _States:
    """The states with what the training rows since have brought: the rules ask for all other rows alone."""
    tokens, kind = run.train.tokens_seen, run.seen
    return tuple(replace(one, tokens_seen=tokens, seen=kind, ended=one.ended and run.ended) for one in states)


@dataclass(frozen=True, slots=True)
class TargetMet(OutcomeRule):
    """Says once per target that it is met, as soon as it is confirmed; that stands, whatever comes later.

    It asks to stop with the last of the targets: a run that has reached one of two is not done.
    """

    info: ClassVar[RuleInfo] = RuleInfo("target-met", (Severity.INFO,), _ROWS, may_stop=True, place=160)
    outcome: ClassVar = Outcome.MET

    def stops(self, verdict: Verdict, state: _States, *, last: bool) -> bool:
        """Two met by the same row are one moment: its last finding asks."""
        return last and all(Outcome.MET in one.said for one in state)


@dataclass(frozen=True, slots=True)
class TargetMissed(OutcomeRule):
    """Says once per target that it is missed.

    It asks to stop where the deadline was a step or a token count in mid-run: who sets one and names this code
    wants to give up then. At the end of training there is nothing left to stop.
    """

    info: ClassVar[RuleInfo] = RuleInfo("target-missed", (Severity.WARNING,), _ROWS, may_stop=True, place=170)
    outcome: ClassVar = Outcome.MISSED

    def stops(self, verdict: Verdict, state: _States, *, last: bool) -> bool:
        """In mid-run."""
        return verdict.midway


_BROKEN: Final = ("no-evaluation", "unmeasured", "non-finite", "implausible", "fell", "substitute", "substitute-unsaid")
"""Here more rows or more training would not help: something is wrong with the target or the evaluation."""


@dataclass(frozen=True, slots=True)
class TargetInconclusive(OutcomeRule):
    """Says once per target that it cannot be decided, why, and how many rows would decide it.

    ``warning`` where the target could not be judged at all, otherwise ``info``.
    """

    info: ClassVar[RuleInfo] = RuleInfo("target-inconclusive", (Severity.WARNING, Severity.INFO), _ROWS, place=180)
    outcome: ClassVar = Outcome.INCONCLUSIVE

    def severity(self, verdict: Verdict) -> Severity:
        """A warning where something is wrong."""
        return Severity.WARNING if verdict.variant in _BROKEN else Severity.INFO
