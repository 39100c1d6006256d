"""eval-too-small: an error bar too wide for the target, or for 0.05 nats."""

from __future__ import annotations

import pytest
from messages.shown import shown

from ko_cpt_callbacks.metrics.perplexity import interval
from ko_cpt_callbacks.rules.generalization.eval_too_small import EvalTooSmall
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.watch.target import parse_targets


def _findings(*seen: Observation, targets: tuple[str, ...] = ()) -> list[Finding]:
    rule = EvalTooSmall(parse_targets(targets))
    return list(Monitor([rule]).judge(seen)[1])


def _eval(
    loss: float, se: float | None, rows: int | None = 100, step: int = 100, split: str = "eval"
) -> EvalObservation:
    return EvalObservation(step, split=split, exact_loss=loss, exact_loss_se=se, rows=rows)


def test_without_a_target() -> None:
    """1.96 standard errors above 0.05 nats: info, once per set, with the rows that would do."""
    found = _findings(_eval(3.078, 0.043), _eval(3.0, 0.043, step=200), _eval(3.0, 0.1, split="eval_en", rows=None))
    assert [(one.split, one.step, one.severity) for one in found] == [
        ("eval", 100, Severity.INFO),
        ("eval_en", 100, Severity.INFO),
    ]
    assert shown(found[0]) == (
        "",
        {
            "half": 0.0843, "resolution": 0.05, "rows": 100, "rows_needed": 285, "value": 3.078,
        },
    )  # fmt: skip
    assert shown(found[1]) == ("rows-unknown", {"half": 0.196, "value": 3.0})


@pytest.mark.parametrize("se", [0.0255, 0.01, 0.0, None, float("nan"), float("inf")])
def test_fine_or_unknown_error_bars_are_silent(se: float | None) -> None:
    """1.96 x 0.0255 is just below 0.05; without an error bar there is nothing to say."""
    assert _findings(_eval(3.0, se), TrainObservation(10, loss=3.0)) == []


def test_with_a_target() -> None:
    """The interval holds the target: the rows that would tell them apart."""
    (found,) = _findings(_eval(4.0, 0.043), _eval(3.078, 0.043, step=200), targets=("exact_loss<3",))
    assert found.step == 200
    assert shown(found) == (
        "target",
        {
            "confidence": 0.95, "high": 3.1623, "low": 2.9937, "rows": 100, "rows_needed": 117,
            "target": "eval_exact_loss<3.0@end", "unit": "loss", "value": 3.078,
        },
    )  # fmt: skip


def test_a_coarse_set_that_resolves_its_target_is_large_enough() -> None:
    """With a target, 0.05 nats are nobody's question; another set's target changes nothing for this one."""
    assert _findings(_eval(4.0, 0.1), targets=("exact_loss<3",)) == []
    assert len(_findings(_eval(4.0, 0.1), targets=("eval_ko_exact_loss<3",))) == 1


def test_passing_the_target_closely_is_no_fault_of_the_set() -> None:
    """A narrow interval around the target: every run passes its target."""
    assert _findings(_eval(3.0, 0.005), targets=("exact_loss<3",)) == []
    (found,) = _findings(_eval(3.0, 0.01), targets=("exact_loss<3",))
    assert found.values["rows_needed"] == 385  # for 0.01 nats, not for a distance of 0


def test_in_the_targets_unit() -> None:
    """A perplexity's interval is that of the loss, through exp; rows unknown."""
    (found,) = _findings(_eval(3.0, 0.05, rows=None), targets=("ppl<20",))
    assert shown(found) == (
        "target-rows-unknown",
        {
            "confidence": 0.95, "high": 22.1536, "low": 18.2106, "target": "eval_ppl<20.0@end", "unit": "ppl",
            "value": 20.0855,
        },
    )  # fmt: skip


def test_a_change_is_measured_from_the_first_evaluation() -> None:
    """Both errors count."""
    (found,) = _findings(_eval(4.0, 0.04, step=0), _eval(3.2, 0.04), targets=("exact_loss<-20%",))
    assert (found.step, found.values["unit"]) == (100, "percent")


def test_nan_is_silent() -> None:
    """Another rule's business."""
    assert (
        _findings(_eval(float("nan"), 1.0), EvalObservation(5, exact_loss=3.0, exact_loss_se=1.0, nonfinite_batches=1))
        == []
    )


def test_one_of_several_targets_is_enough() -> None:
    """A set is reported once, of the first of its targets that it cannot tell from its loss."""
    targets = ("exact_loss<2", "exact_loss<3", "ppl<20")
    (found,) = _findings(_eval(3.0, 0.05), _eval(2.0, 0.05, step=200), targets=targets)
    assert (found.step, found.values["target"]) == (100, "eval_exact_loss<3.0@end")
    (found,) = _findings(_eval(4.0, 0.05), _eval(2.0, 0.05, step=200), targets=targets)
    assert (found.step, found.values["target"]) == (200, "eval_exact_loss<2.0@end")


def test_as_wide_as_the_limit_is_not_wider() -> None:
    """Half of the interval is compared with the resolution, and with the distance of a target."""
    half = interval(0.0, 0.03)[1]
    seen = _eval(3.0, 0.03)
    for share, said in ((1.0, False), (0.999, True)):
        for rule in (EvalTooSmall(resolution=share * half),
                     EvalTooSmall(parse_targets("exact_loss<3"), min_distance=share * half)):  # fmt: skip
            assert bool(Monitor([rule]).judge([seen])[1]) is said


def test_the_change_of_a_target_is_one_since_its_first_evaluation() -> None:
    """Not since the one before: 4.0 is where both evaluations are measured from, the second is a fifth below it."""
    rows = [_eval(4.0, 0.04, step=0), _eval(3.6, 0.04), _eval(3.2, 0.04, step=200), _eval(2.88, 0.04, step=300)]
    (found,) = _findings(*rows, targets=("exact_loss<-20%",))
    assert (found.step, found.values["value"]) == (200, pytest.approx(-0.2))
