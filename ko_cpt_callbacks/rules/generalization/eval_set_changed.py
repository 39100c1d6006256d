"""`eval-set-changed`: the rows under an evaluation set's name are others than before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, JsonValue, Severity
from ko_cpt_callbacks.run.fold import DRAWN, NO_ROWS, EvalRows
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation
from ko_cpt_callbacks.run.progress import EvalPoint
from ko_cpt_callbacks.signal.evaluations import Series
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["EvalSetChanged"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One set: its rows, its last evaluation, and the finding of a change that one more has to confirm.

    ``said_drawn``: whether it was reported that the set is drawn anew each time.
    """

    rows: EvalRows = NO_ROWS
    point: EvalPoint | None = None
    pending: Finding | None = None
    said_drawn: bool = False


_States: TypeAlias = Mapping[str, Seen]
"""The sets by their prefix."""


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

    def initial(self) -> _States:
        """No evaluation yet."""
        return {}

    def step(self, state: _States, seen: Observation, signals: Signals) -> tuple[_States, Found]:
        """Judges an evaluation, and at the Trainer's last row what still waits for one."""
        if isinstance(seen, EndObservation):
            return {name: replace(one, pending=None) for name, one in state.items()}, self.close(state, signals)
        point = EvalPoint.of(seen) if isinstance(seen, EvalObservation) else None
        if not isinstance(seen, EvalObservation) or point is None:
            return state, ()
        base = state.get(seen.split, Seen())
        now, found = self._judged(replace(base, rows=base.rows.add(seen), point=point), base, seen.split)
        series = signals.evaluations.now
        if series is not None and series.swapped:
            found = (*found, *self._level(series, seen.split))
        return {**state, seen.split: now}, found

    def close(self, state: _States, signals: Signals) -> Found:
        """What waited for one more evaluation."""
        return tuple(one.pending for one in state.values() if one.pending is not None)

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
        rows, before, after = now.rows, base.point, now.point
        if rows.same and now.pending is not None and not base.rows.drawn:
            return replace(now, pending=None), (now.pending,)
        if rows.same is not False or before is None or after is None:
            return now, ()
        values: dict[str, JsonValue] = {
            "before_step": before.step, "before": before.value, "after": after.value, "rows_before": before.rows,
            "rows_after": after.rows,
        }  # fmt: skip
        variant = "labels" if rows.labels else ""
        change = Finding(self.code, Severity.WARNING, after.step, split, values, variant=variant)
        if base.rows.alike:
            return replace(now, pending=None), (change,)
        if not rows.drawn:
            return replace(now, pending=change), ()
        drawn = Finding(self.code, Severity.INFO, after.step, split, {"evaluations": DRAWN + 1}, variant="drawn")
        return replace(now, pending=None, said_drawn=True), () if now.said_drawn else (drawn,)
