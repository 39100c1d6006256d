"""What the rules on targets have in common: each judges every target by the same rows, and says one outcome of it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Final

from ko_cpt_callbacks.rules.rule import Found, Rule
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation, SetupObservation
from ko_cpt_callbacks.run.progress import RunProgress
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.watch.target import Target
from ko_cpt_callbacks.watch.verdict import TargetState, Verdict, advance_all, close_all, keep_all

__all__ = ["ROWS", "TargetRule", "TargetStates"]

ROWS: Final = (SetupObservation, EvalObservation, EndObservation)
"""Kinds of rows that decide on a target; what training rows bring is in the signals."""

TargetStates = tuple[TargetState, ...]
"""Where each target stands, in the order of the targets."""


@dataclass(frozen=True, slots=True)
class TargetRule(Rule):
    """Speaks once per target, of the outcome that is the rule's own.

    Args:
        targets: What the run must reach.
        task: As in `ko_cpt_callbacks.rules.monitor.Monitor`.
    """

    targets: tuple[Target, ...] = ()
    task: str = "cpt"

    @abstractmethod
    def found(self, state: TargetStates, verdicts: tuple[Verdict, ...]) -> Found:
        """The findings of the verdicts that a row, or the end, brought."""

    @property
    def asks(self) -> tuple[type[Observation], ...]:
        """Rows that decide, where there are targets."""
        return self.info.rows if self.targets else ()

    def initial(self) -> TargetStates:
        """No row seen."""
        return tuple(TargetState() for _ in self.targets)

    def step(self, state: TargetStates, seen: Observation, signals: Signals) -> tuple[TargetStates, Found]:
        """Speaks at the evaluation that confirms or the deadline that passes, or at the Trainer's last row."""
        known = _trained(state, signals.run)
        state, verdicts = advance_all(self.targets, self.task, known, seen)
        return state, self.found(state, verdicts)

    def keep(self, state: TargetStates, said: Found) -> TargetStates:
        """A verdict that was reported of an evaluation stands, also where another of its step replaces that one."""
        return keep_all(self.targets, state, said)

    def close(self, state: TargetStates, signals: Signals) -> Found:
        """Speaks where the history ends before the deadline, or without the Trainer's last row."""
        row = signals.run.length.row_step
        known = tuple(replace(one, last_step=row or one.last_step) for one in _trained(state, signals.run))
        return self.found(known, close_all(self.targets, self.task, known))


def _trained(states: TargetStates, run: RunProgress) -> TargetStates:
    """The states with what the training rows since have brought: the rules ask for all other rows alone."""
    tokens, kind = run.train.tokens_seen, run.seen
    return tuple(replace(one, tokens_seen=tokens, seen=kind, ended=one.ended and run.ended) for one in states)
