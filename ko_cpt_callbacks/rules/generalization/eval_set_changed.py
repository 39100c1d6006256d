"""`eval-set-changed`: the rows under an evaluation set's name are others than before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.fold import DRAWN, NO_ROWS, EvalRows, Likeness
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation
from ko_cpt_callbacks.run.progress import EvalPoint
from ko_cpt_callbacks.signal.evaluations import Series
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["EvalSetChanged", "EvalSetChangedState"]


@dataclass(frozen=True, slots=True)
class RowsChange:
    """A change of rows: the evaluation before it and the first one after."""

    step: int
    before_step: int
    before: float | None
    after: float | None
    rows_before: int | None
    rows_after: int | None
    labels: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """One set: its rows, its last evaluation, and a change that one more evaluation has to confirm.

    ``said_drawn``: whether it was reported that the set is drawn anew each time.
    """

    rows: EvalRows = NO_ROWS
    point: EvalPoint | None = None
    pending: RowsChange | None = None
    said_drawn: bool = False


@dataclass(frozen=True, slots=True)
class EvalSetChangedState:
    """The sets by their prefix."""

    sets: Mapping[str, Seen] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EvalSetChanged(Rule):
    """Says where a set's fingerprint, or the number of tokens scored in the same text, is another than before.

    Where the log has no fingerprint: where the evaluation alone is at another level from one time to the next, and
    stays there (`ko_cpt_callbacks.signal.evaluations`).

    A set of which no two evaluations had the same rows yet may be drawn anew each time (a fresh sample, the fresh mask
    of a masked model): there it waits for the next evaluation, or for the end. Drawn sets are a note, once.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "eval-set-changed", (Severity.WARNING, Severity.INFO), (EvalObservation, EndObservation), place=140
    )

    def initial(self) -> EvalSetChangedState:
        """No evaluation yet."""
        return EvalSetChangedState()

    def step(
        self, state: EvalSetChangedState, seen: Observation, signals: Signals
    ) -> tuple[EvalSetChangedState, Found]:
        """Judges an evaluation, and at the Trainer's last row what still waits for one."""
        if isinstance(seen, EndObservation):
            found = self.close(state, signals)
            sets = {name: replace(one, pending=None) for name, one in state.sets.items()}
            return (EvalSetChangedState(sets) if found else state), found
        point = EvalPoint.of(seen) if isinstance(seen, EvalObservation) else None
        if not isinstance(seen, EvalObservation) or point is None:
            return state, ()
        base = state.sets.get(seen.split, Seen())
        now = replace(base, rows=base.rows.add(seen), point=point)
        now, found = self._judged(now, base, seen.split)
        series = signals.evaluations.now
        if series is not None and series.swapped:
            found = (*found, *self._level(series, seen.split))
        return EvalSetChangedState({**state.sets, seen.split: now}), found

    def close(self, state: EvalSetChangedState, signals: Signals) -> Found:
        """What waited for one more evaluation."""
        waiting = [(name, one) for name, one in state.sets.items() if one.pending is not None]
        return tuple(found for name, one in waiting for found in self._say(one, name)[1])

    def _level(self, series: Series, split: str) -> Found:
        """What a log without fingerprints shows: another level of the evaluation alone."""
        before, first = series.left, series.first
        if before is None:
            return ()
        values = {
            "before_step": before.step, "before": before.value, "after": first.value, "train_before": before.near,
            "train_after": first.near,
        }  # fmt: skip
        return (Finding(self.code, Severity.WARNING, first.step, split, values, variant="level"),)

    def _judged(self, now: Seen, base: Seen, split: str) -> tuple[Seen, Found]:
        rows = now.rows
        if rows.last is Likeness.SAME:
            return self._say(now, split) if now.pending is not None and not base.rows.drawn else (now, ())
        if rows.last is not Likeness.OTHER or base.point is None or now.point is None:
            return now, ()
        change = RowsChange(
            now.point.step, base.point.step, base.point.value, now.point.value, base.point.rows, now.point.rows,
            rows.labels,
        )  # fmt: skip
        now = replace(now, pending=change)
        if base.rows.alike:
            return self._say(now, split)
        if not rows.drawn:
            return now, ()
        now = replace(now, pending=None)
        if now.said_drawn:
            return now, ()
        values = {"evaluations": DRAWN + 1}
        found = Finding(self.code, Severity.INFO, change.step, split, values, variant="drawn")
        return replace(now, said_drawn=True), (found,)

    def _say(self, now: Seen, split: str) -> tuple[Seen, Found]:
        change = now.pending
        now = replace(now, pending=None)
        if change is None:
            return now, ()
        values = {
            "before_step": change.before_step, "before": change.before, "after": change.after,
            "rows_before": change.rows_before, "rows_after": change.rows_after,
        }  # fmt: skip
        variant = "labels" if change.labels else ""
        found = Finding(self.code, Severity.WARNING, change.step, split, values, variant=variant)
        return now, (found,)
