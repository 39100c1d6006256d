"""target-missed: said once, at the deadline. The table of histories is in watch/test_target.py."""

from __future__ import annotations

from messages.shown import shown

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.target.outcome import TargetMissed
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.watch.target import parse_targets


def _findings(*seen: Observation, targets: tuple[str, ...] = ("exact_loss<3",)) -> list[Finding]:
    rule = TargetMissed(parse_targets(targets))
    return list(Monitor([rule]).judge(seen)[1])


def test_sentence() -> None:
    """Value, interval and target of the last evaluation; the finding belongs to the row that decided."""
    (found,) = _findings(EvalObservation(900, exact_loss=3.2, exact_loss_se=0.05), EndObservation(1000))
    assert (found.code, found.severity, found.step, found.asks_to_stop) == (
        "target-missed", Severity.WARNING, 1000, False,
    )  # fmt: skip
    assert shown(found) == (
        "",
        {
            "confidence": 0.95, "evaluated_step": 900, "high": 3.298, "low": 3.102, "notes": [],
            "target": "eval_exact_loss<3.0@end", "unit": "loss", "value": 3.2,
        },
    )  # fmt: skip


def test_a_deadline_in_mid_run_asks_to_stop() -> None:
    """Who sets one and names the code wants to give up then."""
    (found,) = _findings(EvalObservation(500, exact_loss=3.2), targets=("exact_loss<3@step:500",))
    assert (found.step, found.asks_to_stop) == (500, True)


def test_a_run_that_ended_early() -> None:
    """Is judged at its end, and the sentence says so."""
    (found,) = _findings(
        EvalObservation(900, exact_loss=3.2), EndObservation(1000), targets=("exact_loss<3@step:5000",)
    )
    assert "ended-early" in found.values["notes"]
    assert not found.asks_to_stop


def test_training_that_goes_on_after_its_end() -> None:
    """A deadline at the end is no longer reached: what is evaluated then is not the last, until it ends again."""
    first = [TrainObservation(100, loss=3.5), EndObservation(100)]
    on = [TrainObservation(200, loss=3.3), EvalObservation(200, exact_loss=3.2)]
    last = [TrainObservation(300, loss=3.1), EvalObservation(300, exact_loss=2.9), EndObservation(300)]
    assert _findings(*first, *on, *last) == []
    assert [one.step for one in _findings(*first, *on, EndObservation(200))] == [200]


def test_without_a_token_count() -> None:
    """A deadline in tokens that nobody counted is the end, and the sentence says so."""
    (found,) = _findings(EvalObservation(9, exact_loss=3.2), EndObservation(9), targets=("exact_loss<3@tokens:1e6",))
    assert "no-token-count" in found.values["notes"]


def test_silent_where_the_interval_holds_the_target() -> None:
    """Not surely above is not missed."""
    assert _findings(EvalObservation(900, exact_loss=3.05, exact_loss_se=0.05), EndObservation(1000)) == []
