"""What the rules have in common: one that speaks once, and one that speaks once of each evaluation set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ko_cpt_callbacks.rules.baseline.stage_regression import StageRegression
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.note.note import RuleFailed
from ko_cpt_callbacks.rules.rule import EvaluationSetRule, Found, OnceRule, RuleInfo, Wakes
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.signal.evaluations import Series
from ko_cpt_callbacks.signal.signals import Signals


def _tenth(seen: TrainObservation, signals: Signals) -> bool:
    return seen.step == 10


def _high(seen: TrainObservation, signals: Signals) -> bool:
    return (seen.loss or 0.0) > 9.0


@dataclass(frozen=True, slots=True)
class Once(OnceRule):
    """Speaks of a run that reached a step."""

    info: ClassVar[RuleInfo] = RuleInfo("once", (Severity.WARNING,), (TrainObservation, EndObservation))

    since: int = 0

    @property
    def wakes(self) -> Wakes:
        """Step 10, and a loss above 9."""
        return Wakes((_tenth, _high))

    def judged(self, signals: Signals, *, live: bool) -> Found:
        """The last step, and whether the run goes on."""
        step = signals.run.length.row_step
        return (Finding(self.code, Severity.WARNING, step, values={"live": live}),) if step >= self.since else ()


@dataclass(frozen=True, slots=True)
class High(EvaluationSetRule):
    """Speaks of a set whose loss is above 4."""

    info: ClassVar[RuleInfo] = RuleInfo("high", (Severity.WARNING, Severity.INFO), (EvalObservation,), may_stop=True)

    def judged(self, now: Series) -> dict[str, Any] | None:
        """The loss."""
        return {"loss": now.last.value} if now.last.value > 4.0 else None


def _once(*seen: Observation, since: int = 0) -> list[tuple[int | None, object]]:
    return [(one.step, one.values["live"]) for one in Monitor([Once(since)]).judge(seen)[1]]


def test_one_that_speaks_once() -> None:
    """At the first training row of which one fact holds; at the Trainer's last row, or where the history ends."""
    rows = [TrainObservation(5, loss=3.0), TrainObservation(10, loss=3.0), TrainObservation(15, loss=9.5)]
    assert _once(*rows, EndObservation(15)) == [(10, True)]
    assert _once(rows[0], rows[2], EndObservation(15)) == [(15, True)]
    assert _once(rows[0]) == _once(rows[0], EndObservation(5)) == [(5, False)]
    assert _once(*rows, since=12) == [(15, True)]
    assert _once(*rows, since=20) == []


def test_it_judges_the_rows_that_wake_it_whoever_asks() -> None:
    """A rule that is asked at every row, as in a test of it alone, judges no others."""
    rule, signals = Once(), Signals()
    for step, loss, spoken in ((5, 3.0, False), (5, 9.5, True), (10, 3.0, True)):
        seen = TrainObservation(step, loss=loss)
        assert rule.step(rule.initial(), seen, signals.add(seen))[0] is spoken


def test_one_that_speaks_once_of_each_set() -> None:
    """At the evaluation that shows it, with the gravest severity that it has; a set that a run is to keep is left to
    another rule."""
    rows = [
        EvalObservation(10 * at, split=name, loss=loss) for at, name, loss in (
            (1, "eval", 3.0), (2, "eval", 4.5), (3, "eval", 4.6), (3, "eval_ko", 4.7), (4, "eval_old", 4.8),
            (5, "eval", 4.9), (6, "eval_ko", 4.9), (7, "eval_old", 4.9),
        )
    ]  # fmt: skip
    found = Monitor([High(retention=("old",))]).judge(rows)[1]
    assert [(one.step, one.split, one.values) for one in found] == [
        (20, "eval", {"loss": 4.5}), (30, "eval_ko", {"loss": 4.7}),
    ]  # fmt: skip
    assert {(one.severity, one.asks_to_stop) for one in found} == {(Severity.WARNING, True)}


def test_a_rule_that_names_no_place() -> None:
    """Its findings come after those of all rules on what the run learns, and before those on its record."""
    assert StageRegression.info.place < Once.info.place < RuleFailed.info.place
