"""target-met: said once, at the evaluation that confirms it. The table of histories is in watch/test_target.py."""

from __future__ import annotations

from messages.shown import shown

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.target.outcome import TargetMet
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation
from ko_cpt_callbacks.watch.target import parse_targets

MET = " Keep this checkpoint."


def _findings(*seen: Observation, targets: tuple[str, ...] = ("exact_loss<3",)) -> list[Finding]:
    rule = TargetMet(parse_targets(targets))
    return list(Monitor([rule]).judge(seen)[1])


def test_sentence_with_an_error_bar() -> None:
    """Value, interval and target, in the target's unit."""
    (found,) = _findings(EvalObservation(1200, exact_loss=2.9, exact_loss_se=0.02, rows=400))
    assert (found.code, found.severity, found.step, found.split) == ("target-met", Severity.INFO, 1200, "eval")
    assert found.asks_to_stop
    assert shown(found) == (
        "",
        {
            "confidence": 0.95, "evaluated_step": 1200, "high": 2.9392, "looks": 1, "low": 2.8608, "notes": [],
            "target": "eval_exact_loss<3.0@end", "unit": "loss", "value": 2.9,
        },
    )  # fmt: skip


def test_sentence_without_an_error_bar() -> None:
    """A value without an error bar decides by itself, and the sentence says so."""
    (found,) = _findings(EvalObservation(10, exact_loss=2.9), targets=("ppl<20",))
    assert shown(found) == (
        "point",
        {
            "evaluated_step": 10, "notes": ["no-error-bar"], "target": "eval_ppl<20.0@end", "unit": "ppl",
            "value": 18.1741,
        },
    )  # fmt: skip


def test_sentence_of_a_change() -> None:
    """A change is shown in percent."""
    rows = [
        EvalObservation(0, exact_loss=4.0, exact_loss_se=0.01),
        EvalObservation(50, exact_loss=3.0, exact_loss_se=0.01),
    ]
    (found,) = _findings(*rows, targets=("exact_loss<-20%",))
    assert shown(found) == (
        "",
        {
            "confidence": 0.95, "evaluated_step": 50, "high": -0.2439, "looks": 1, "low": -0.2561, "notes": [],
            "target": "eval_exact_loss<-20%@end", "unit": "percent", "value": -0.25,
        },
    )  # fmt: skip


def test_once() -> None:
    """Neither later evaluations nor the end say it again; without targets nothing is said."""
    rows = [EvalObservation(step, exact_loss=2.0) for step in (10, 20, 30)]
    assert [one.step for one in _findings(*rows, EndObservation(30))] == [10]
    assert _findings(*rows, targets=()) == []


def test_the_last_of_several_asks_to_stop() -> None:
    """Whether they are met one after the other or by one row: a run that has reached one of two is not done."""
    both = ("exact_loss<3", "exact_loss<2.5")
    steps = [EvalObservation(10, exact_loss=2.9), EvalObservation(20, exact_loss=2.4)]
    assert [(one.step, one.asks_to_stop) for one in _findings(*steps, targets=both)] == [(10, False), (20, True)]
    assert [(one.step, one.asks_to_stop) for one in _findings(steps[1], targets=both)] == [(20, False), (20, True)]


def test_no_success_from_nan() -> None:
    """A NaN batch, a NaN loss, minus infinity: none of them is below a target."""
    assert _findings(
        EvalObservation(10, loss=2.0, nonfinite_batches=2),
        EvalObservation(20, exact_loss=float("nan"), loss=2.0),
        EvalObservation(30, exact_loss=float("-inf")),
    ) == []  # fmt: skip
