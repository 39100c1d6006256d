"""The monitor is a pure fold; the summary is part of it."""

from __future__ import annotations

import json
import math
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
from suite.generator import kinds, make

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.rules.monitor import Monitor, MonitorState, SetAside
from ko_cpt_callbacks.rules.registry import ALL_RULES, rules_for
from ko_cpt_callbacks.rules.rule import ANY_ROW, Rule, RuleInfo
from ko_cpt_callbacks.rules.target.outcome import TargetMet
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import (
    EndObservation,
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
)
from ko_cpt_callbacks.run.rows import observations_of
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.target import parse_targets


def _run() -> list[Observation]:
    seen: list[Observation] = [SetupObservation(0, "stage", {"name": "full"})]
    for step in range(10, 130, 10):
        seen.append(TrainObservation(step, loss=4.0 - step / 100, grad_norm=1.0, tokens_seen=step * 100))
        if step % 40 == 0:
            for split in ("eval_ko", "eval_en"):
                exact = 4.1 - step / 100
                seen.append(EvalObservation(step, split=split, loss=exact + 0.1, exact_loss=exact, exact_loss_se=0.02))
    return [*seen, EndObservation(120, 3.4)]


def test_fold_cut_anywhere() -> None:
    """A fold that stops at any row and goes on gives the state and the findings of one in one go."""
    run = [
        *_run()[:-1],
        TrainObservation(130, loss=math.nan),
        TrainObservation(140, loss=math.nan),
        _run()[-1],
    ]
    monitor = Monitor()
    whole = monitor.fold(run)
    assert [finding.step for finding in whole[1]] == [130]
    for cut in range(len(run) + 1):
        state, first = monitor.fold(run[:cut])
        state, second = monitor.fold(run[cut:], state)
        assert (state, first + second) == whole


def test_a_state_is_not_changed_by_going_on() -> None:
    """Folding on from a state leaves that state as it was."""
    monitor = Monitor()
    state, _ = monitor.fold(_run()[:5])
    copy, _ = monitor.fold(_run()[:5])
    monitor.fold(_run()[5:], state)
    assert state == copy


def test_judge_is_fold_and_close() -> None:
    """judge() adds what can be said only at the end; close() changes nothing."""
    monitor = Monitor()
    state, findings = monitor.judge(_run()[:4])
    assert [finding.code for finding in findings] == ["not-enough-data"]
    assert monitor.close(state) == findings
    assert monitor.fold(_run()[4:], state)[1] == ()


def test_only_the_asked_rules() -> None:
    """An empty list of rules judges nothing and still keeps the summary; a code twice is refused."""
    state, findings = Monitor(rules=[]).judge(_run())
    assert findings == ()
    assert state.summary().train.points == 12
    with pytest.raises(ConfigurationError, match=ALL_RULES[0].code):
        Monitor(rules=[ALL_RULES[0], ALL_RULES[0]])


def test_rules_and_targets_are_not_given_together() -> None:
    """Rules carry their targets; the monitor knows the task that it was given."""
    with pytest.raises(ConfigurationError, match="found rules and targets, expected one of them"):
        Monitor(rules_for(), targets=parse_targets(["eval_exact_loss<3"]))
    assert (Monitor(task="sft").task, Monitor().task) == ("sft", "cpt")


def test_targets_and_task_reach_the_rules() -> None:
    """Monitor(targets=..., task=...) asks all rules, told so; rules that were given are asked as they are."""
    rules = Monitor(targets=parse_targets(["eval_ko_exact_loss<3"]), task="sft").rules
    assert rules == rules_for(WatchSpec(targets=parse_targets(["eval_ko_exact_loss<3"]), task="sft"))
    assert [rule.code for rule in rules] == [rule.code for rule in ALL_RULES]
    found = Monitor(targets=parse_targets(["eval_ko_exact_loss<3"])).judge(_run())[1]
    assert [(one.code, one.step, one.split) for one in found] == [("target-met", 120, "eval_ko")]
    assert rules_for(WatchSpec(rules=("target-met",))) == (TargetMet(),)


def test_summary() -> None:
    """Per set the first, last and best exact loss with error and perplexity; the training rows; the end."""
    summary = Monitor().fold(_run())[0].summary()
    assert summary.ended
    assert (summary.train.points, summary.train.last_step, summary.train.tokens_seen) == (12, 120, 12000)
    assert summary.train.last_loss == pytest.approx(2.8)
    assert set(summary.splits) == {"eval_ko", "eval_en"}
    seen = summary.splits["eval_ko"]
    assert seen.best == seen.last
    assert (seen.evaluations, seen.first.step, seen.last.step) == (3, 40, 120)
    assert seen.last.value == pytest.approx(2.9)
    assert seen.last.ppl == pytest.approx(math.exp(2.9))
    assert (seen.last.metric, seen.last.se) == ("exact_loss", 0.02)


def test_summary_is_strict_json() -> None:
    """Also when every number was NaN or infinite."""
    seen: list[Observation] = [
        TrainObservation(10, loss=math.nan, tokens_per_second=math.inf),
        EvalObservation(10, loss=math.inf, exact_loss=math.nan, exact_loss_se=math.nan, bits_per_byte=math.nan),
        EvalObservation(10, split="big", loss=1000.0),
    ]
    found = json.loads(json.dumps(Monitor().fold(seen)[0].summary().as_dict(), allow_nan=False))
    assert found["train"]["last_loss"] is None
    assert found["splits"]["eval"]["last"]["value"] is None
    assert found["splits"]["eval"]["last"]["finite"] is False
    assert found["splits"]["eval"]["best"] is None
    assert found["splits"]["big"]["best"]["ppl"] is None


def test_nan_is_never_the_best() -> None:
    """Neither a NaN loss, nor a healthy-looking one with a NaN batch, becomes the best or hides the next."""
    seen: list[Observation] = [
        EvalObservation(10, exact_loss=3.0),
        EvalObservation(20, exact_loss=math.nan, loss=1.0),
        EvalObservation(30, exact_loss=1.0, nonfinite_batches=1),
        EvalObservation(40, exact_loss=2.5, nonfinite_batches=0),
        EvalObservation(50, exact_loss=-math.inf),
    ]
    progress = Monitor().fold(seen)[0].summary().splits["eval"]
    assert progress.best is not None
    assert (progress.best.step, progress.best.value) == (40, 2.5)
    assert (progress.last.step, progress.last.value, progress.last.finite) == (50, None, False)


def test_the_trainers_loss_stands_in_and_says_so() -> None:
    """Without an exact loss the Trainer's is taken, named, without an error; an exact one replaces it."""
    seen = [EvalObservation(10, loss=2.0, exact_loss_se=0.1), EvalObservation(20, exact_loss=2.2)]
    monitor = Monitor()
    first, _ = monitor.fold(seen[:1])
    point = first.summary().splits["eval"].best
    assert point is not None
    assert (point.metric, point.value, point.se) == ("loss", 2.0, None)
    later = monitor.fold([*seen, EvalObservation(30, loss=1.0)])[0].summary().splits["eval"].best
    assert later is not None
    assert (later.metric, later.step) == ("exact_loss", 20)


def test_a_repeat_replaces() -> None:
    """The same set and step again: not a second evaluation, and the earlier value is no longer the best."""
    seen: list[Observation] = [
        EvalObservation(10, exact_loss=3.0),
        EvalObservation(20, exact_loss=1.0),
        EvalObservation(20, exact_loss=2.9),
        TrainObservation(20, loss=3.0),
        TrainObservation(20, loss=3.1),
    ]
    summary = Monitor().fold(seen)[0].summary()
    progress = summary.splits["eval"]
    assert progress.best is not None
    assert (progress.evaluations, progress.best.value, progress.last.value) == (2, 2.9, 2.9)
    assert (summary.train.points, summary.train.last_loss, summary.train.first_loss) == (1, 3.1, 3.1)


def test_an_evaluation_without_any_loss_is_no_evaluation() -> None:
    """An evaluation that logged only its runtime changes nothing; one that counted NaN batches does."""
    monitor = Monitor()
    assert monitor.fold([EvalObservation(10)])[0].summary().splits == {}
    failed = monitor.fold([EvalObservation(10, nonfinite_batches=2)])[0].summary().splits["eval"].last
    assert (failed.value, failed.finite) == (None, False)


def test_steps_may_go_back() -> None:
    """Two runs joined: the later rows count, the last is the last seen."""
    seen: list[Observation] = [
        TrainObservation(100, loss=2.0),
        TrainObservation(10, loss=5.0),
        EndObservation(5),
    ]
    summary = Monitor().fold(seen)[0].summary()
    assert (summary.train.points, summary.train.last_step) == (2, 10)


@dataclass(frozen=True)
class Breaks(Rule):
    """A rule that counts rows and raises at a step, or when it closes."""

    name: str = "breaks"
    at: int | None = None
    closing: bool = False

    @property
    def info(self) -> RuleInfo:  # type: ignore[override]
        """Any code, all rows."""
        return RuleInfo(self.name, (Severity.INFO,), ANY_ROW)

    def initial(self) -> int:
        """No rows."""
        return 0

    def step(self, state: int, seen: Observation, signals: Signals) -> tuple[int, tuple[Finding, ...]]:
        """Counts."""
        if seen.step == self.at:
            raise IndexError("tuple index out of range")
        return state + 1, ()

    def close(self, state: int, signals: Signals) -> tuple[Finding, ...]:
        """Nothing, or an error."""
        if self.closing:
            raise KeyError("loss")
        return ()


def test_a_rule_that_raises_blinds_no_other() -> None:
    """It is named once with the row's step and its error; every other rule sees that row and all that follow."""
    rows: list[Observation] = [*_run(), TrainObservation(130, loss=math.nan), TrainObservation(130, loss=math.nan)]
    others = rules_for()
    half = len(others) // 2
    state, found = Monitor([*others[:half], Breaks(at=50), *others[half:]]).judge(rows)
    told = [one for one in found if one.code == "rule-failed"]
    assert [(one.severity, one.step, one.asks_to_stop) for one in told] == [(Severity.WARNING, 50, False)]
    assert told[0].values == {"rule": "breaks", "error": "IndexError: tuple index out of range"}
    assert tuple(one for one in found if one.code != "rule-failed") == Monitor(others).judge(rows)[1]
    assert ("non-finite", 130) in [(one.code, one.step) for one in found]
    assert state.rules[half] == SetAside(50, "IndexError: tuple index out of range")


def test_a_rule_that_raised_is_not_asked_again() -> None:
    """Neither at a later row of the same step, nor when the history ends; rules after it are."""

    class Twice(Breaks):
        def step(self, state: int, seen: Observation, signals: Signals) -> tuple[int, tuple[Finding, ...]]:
            raise IndexError(str(seen.step))

    monitor = Monitor([Twice("one", closing=True), Breaks("two", closing=True)])
    rows = [TrainObservation(10, loss=3.0), EvalObservation(10, loss=3.0), TrainObservation(20, loss=3.0)]
    state, found = monitor.judge(rows)
    assert [(one.values["rule"], one.step, one.variant) for one in found] == [
        ("one", 10, "at-a-row"), ("two", 20, "at-the-end"),
    ]  # fmt: skip
    assert state.rules == (SetAside(10, "IndexError: 10"), 3)


def test_a_rule_that_raises_at_every_row_is_named_once() -> None:
    """Two rules that fail are two findings, however many rows follow; leaving `rule-failed` out silences neither."""
    monitor = Monitor([Breaks("one", at=10), Breaks("two", at=10)])
    found = monitor.judge([TrainObservation(10, loss=3.0)] * 5)[1]
    assert [(one.code, one.values["rule"]) for one in found] == [("rule-failed", "one"), ("rule-failed", "two")]


def test_a_rule_whose_findings_raise() -> None:
    """What a rule of one's own returns may be no findings, those of another code, or raise only when it is read: the
    others see the row."""

    class Late(Breaks):
        def step(self, state: int, seen: Observation, signals: Signals) -> Any:
            other = Finding("of-another-rule", Severity.INFO, seen.step, "train", {})
            return state, {10: None, 20: (1 / 0 for _ in range(1)), 30: (other,), 40: ("no finding",)}[seen.step]

    for step, kind in ((10, "TypeError"), (20, "ZeroDivisionError"), (30, "TypeError"), (40, "TypeError")):
        found = Monitor([Late(), *rules_for()]).fold([TrainObservation(step, loss=math.nan)])[1]
        assert [one.code for one in found] == ["rule-failed", "non-finite"]
        assert str(found[0].values["error"]).startswith(kind)


def test_a_rule_that_raises_when_it_closes() -> None:
    """It is named with the last step, the others close, and the fold can go on."""
    monitor = Monitor([Breaks(closing=True), *rules_for()])
    state, _ = monitor.fold(_run()[:2])
    found = monitor.close(state)
    assert [one.code for one in found] == ["rule-failed", "not-enough-data"]
    assert (found[0].variant, found[0].values["error"]) == ("at-the-end", "KeyError: 'loss'")
    assert found[0].step == _run()[1].step
    assert monitor.fold(_run()[2:], state)[0] == monitor.fold(_run())[0]
    assert [one.step for one in Monitor([Breaks(closing=True)]).judge([])[1]] == [0]


def test_a_failed_rule_stays_set_aside_however_the_fold_is_cut() -> None:
    """States and findings of a cut fold equal those of the whole, before the failure, at it and after it."""
    rows, monitor = _run(), Monitor([Breaks(at=50), *rules_for()])
    whole = monitor.fold(rows)
    for cut in range(len(rows) + 1):
        state, first = monitor.fold(rows[:cut])
        state, second = monitor.fold(rows[cut:], state)
        assert (state, first + second) == whole


def test_an_error_that_cannot_be_shown() -> None:
    """An exception whose text raises is named by its kind; a long text is cut."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    class Raises(Breaks):
        def __init__(self, error: Exception) -> None:
            object.__setattr__(self, "error", error)
            super().__init__()

        def step(self, state: int, seen: Observation, signals: Signals) -> tuple[int, tuple[Finding, ...]]:
            raise self.error  # type: ignore[attr-defined]

    for error, shown in ((Mute(), "Mute"), (ValueError("x" * 1000), "ValueError: " + 288 * "x" + " ...")):
        (found,) = Monitor([Raises(error)]).fold([TrainObservation(1)])[1]
        assert found.values["error"] == shown


def _ended(*after: EvalObservation, loads_best: bool | None = None) -> MonitorState:
    """A run of twelve steps whose best evaluation is at step 8, and what is evaluated when it is over."""
    plan = {"planned_steps": 12} if loads_best is None else {"planned_steps": 12, "load_best_model_at_end": loads_best}
    seen = [
        SetupObservation(0, "plan", plan),
        *(one for step, loss in ((4, 3.0), (8, 2.5), (12, 2.9)) for one in (
            TrainObservation(step, loss=loss), EvalObservation(step, exact_loss=loss, fingerprint="utf8-01"),
        )),
        EndObservation(12),
    ]  # fmt: skip
    return Monitor().fold([*seen, *after])[0]


@pytest.mark.parametrize("loads_best", [None, False, True])
def test_an_evaluation_after_the_end_replaces_nothing(loads_best: bool | None) -> None:
    """``evaluate()`` of the best model, which the Trainer has loaded: the last evaluation of the run stands, in the
    summary and for every rule; a set that was not evaluated before is new."""
    before = _ended(loads_best=loads_best)
    after = _ended(EvalObservation(12, exact_loss=2.5, fingerprint="utf8-01"), loads_best=loads_best)
    assert after == before
    assert after.summary().splits["eval"].last.value == 2.9
    other = _ended(EvalObservation(12, split="eval_en", exact_loss=4.0), loads_best=loads_best)
    assert other.summary().splits["eval_en"].last.value == 4.0


def test_an_evaluation_of_the_last_model_after_the_end_is_the_last() -> None:
    """Where training ended without one: it counts, unless the best model was loaded, as the plan row says, or as its
    loss does, which is that of the best."""
    def ended(loads_best: bool | None, loss: float) -> float | None:
        plan = {} if loads_best is None else {"load_best_model_at_end": loads_best}
        rows = [
            SetupObservation(0, "plan", plan), TrainObservation(4, loss=3.0), EvalObservation(4, exact_loss=2.5),
            TrainObservation(8, loss=3.0), EvalObservation(8, exact_loss=2.9), TrainObservation(12, loss=3.0),
            EndObservation(12), EvalObservation(12, exact_loss=loss),
        ]  # fmt: skip
        return Monitor().fold(rows)[0].summary().splits["eval"].last.value

    assert ended(None, 2.8) == ended(False, 2.8) == 2.8
    assert ended(True, 2.8) == 2.9
    assert ended(None, 2.5) == 2.9


def test_training_that_goes_on_is_evaluated_again() -> None:
    """After more training rows nothing is over."""
    more = [TrainObservation(16, loss=2.0), EvalObservation(16, exact_loss=2.0)]
    state, _ = Monitor().fold(more, _ended(loads_best=True))
    assert state.summary().splits["eval"].last.value == 2.0


def test_a_repeat_folds_its_step_anew() -> None:
    """A row of the same kind, set and step counts in place of the first, for every rule: the fold stands where it would
    without the first, whatever else came at that step; what was said stands, and is said once."""
    monitor = Monitor()
    before = _run()[:8]
    wrong = TrainObservation(90, loss=math.nan)
    right, evaluation = TrainObservation(90, loss=3.1), EvalObservation(90, split="eval_ko", exact_loss=3.2)
    state, found = monitor.fold([*before, wrong, evaluation, right])
    assert [(one.code, one.step) for one in found] == [("non-finite", 90)]
    assert state == monitor.fold([*before, right, evaluation])[0]
    twice, again = monitor.fold([*before, wrong, evaluation, wrong])
    assert [(one.code, one.step) for one in again] == [("non-finite", 90)]
    assert twice == monitor.fold([*before, wrong, evaluation])[0]
    more = [TrainObservation(100, loss=3.0), TrainObservation(110, loss=math.nan)]
    assert monitor.fold(more, state)[1][0].step == 110


def test_a_repeat_may_show_what_the_first_did_not() -> None:
    """The later row of a step is judged too."""
    rows = [*_run()[:8], TrainObservation(90, loss=3.1), TrainObservation(90, loss=math.nan)]
    assert [(one.code, one.step) for one in Monitor().fold(rows)[1]] == [("non-finite", 90)]


def test_set_up_rows_of_one_step_all_count() -> None:
    """They only ever add."""
    rows = [SetupObservation(0, "stopped-before", {"reason": "target-met", "reason_step": 0}) for _ in range(2)]
    assert len(Monitor().fold(rows)[1]) == 2


@pytest.mark.parametrize("kind", ["healthy", "loss-spike", "diverged", "level-shift", "non-finite", "below-floor"])
def test_a_rule_that_is_asked_when_a_row_concerns_it_finds_what_it_finds_at_every_row(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a rule says of the rows that concern it leaves out none at which it would have found something; and it
    leaves out most."""
    names = [name for name in kinds() if name.startswith(kind)][:5]
    runs = [observations_of(make(name, 0, seed=3).rows) for name in names]
    asked: Counter[bool] = Counter()
    for rule in {type(one) for one in ALL_RULES if one.wakes is not None}:

        def step(self: Rule, state: Any, seen: Observation, signals: Signals, of: Any = rule.step) -> Any:
            asked[True] += isinstance(seen, TrainObservation)
            return of(self, state, seen, signals)

        monkeypatch.setattr(rule, "step", step)
    monitor = Monitor()
    said = [monitor.judge(run)[1] for run in runs]
    at_most = sum(isinstance(seen, TrainObservation) for run in runs for seen in run)
    sleeping, asked = asked[True], Counter()
    monitor = Monitor()
    monkeypatch.setattr(monitor, "_wakes", (None,) * len(monitor.rules))
    assert [monitor.judge(run)[1] for run in runs] == said
    assert sum(map(len, said)) >= (0 if kind == "healthy" else len(names) // 2)
    assert at_most > 0 and sleeping < 0.4 * asked[True]


def test_a_rule_is_shown_only_the_rows_it_asks_for() -> None:
    """A rule on evaluations never sees a training row."""
    seen: list[Observation] = []

    class Asks(Breaks):
        @property
        def info(self) -> RuleInfo:  # type: ignore[override]
            return RuleInfo("asks", (Severity.INFO,), (EvalObservation,))

        def step(self, state: int, row: Observation, signals: Signals) -> tuple[int, tuple[Finding, ...]]:
            seen.append(row)
            return state, ()

    Monitor([Asks()]).fold(_run())
    assert seen == [one for one in _run() if isinstance(one, EvalObservation)]


def test_signals_that_raise_blind_only_who_looks_at_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules that look at them are set aside and named with the error; NaN is still found, and the fold goes on."""

    def broken(self: object, seen: Observation) -> Signals:
        raise ZeroDivisionError("division by zero")

    monitor = Monitor()
    state = monitor.fold(_run()[:6])[0]
    monkeypatch.setattr(Signals, "add", broken)
    state, found = monitor.fold([TrainObservation(130, loss=math.nan), TrainObservation(140, loss=3.0)], state)
    failed = [one for one in found if one.code == "rule-failed"]
    assert "level-shift" in {one.values["rule"] for one in failed}
    assert {one.values["error"] for one in failed} == {
        "RuntimeError: signals failed at step 130: ZeroDivisionError: division by zero"
    }
    assert ("non-finite", 130) in [(one.code, one.step) for one in found]
    assert {one.step for one in failed} == {130}
    state, found = monitor.fold([TrainObservation(150, loss=3.0)], state)
    assert (found, state.summary().train.last_step) == ((), 150)
    assert deepcopy(state).summary() == state.summary()


def test_a_row_set_aside_is_no_moment() -> None:
    """An evaluation of the best model after the end changes nothing for the rows of its step."""
    state = _ended(EvalObservation(8, exact_loss=2.5, fingerprint="utf8-01"), loads_best=True)
    later = Monitor().fold([TrainObservation(8, loss=3.0)], state)[0]
    assert later == Monitor().fold([TrainObservation(8, loss=3.0)], _ended(loads_best=True))[0]


def test_a_rule_that_raises_when_a_step_is_folded_anew() -> None:
    """It is set aside and named once; what was said stands for the others."""

    class Forgets(Breaks):
        def keep(self, state: int, said: tuple[Finding, ...]) -> int:
            raise KeyError("said")

    rows = [TrainObservation(10, loss=math.nan), TrainObservation(10, loss=3.0), TrainObservation(20, loss=3.0)]
    state, found = Monitor([Forgets(), *rules_for()]).fold(rows)
    assert [(one.code, one.step) for one in found] == [("non-finite", 10), ("rule-failed", 10)]
    assert state.rules[0] == SetAside(10, "KeyError: 'said'")
    # One that was set aside before is told nothing any more.
    state, found = Monitor([Forgets(at=5), *rules_for()]).fold([TrainObservation(5, loss=3.0), *rows])
    assert [(one.code, one.step) for one in found] == [("rule-failed", 5), ("non-finite", 10)]
    assert state.rules[0] == SetAside(5, "IndexError: tuple index out of range")
