"""loss-scaled: as the callback noted it, and as a bare log lets suspect."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.level.loss_scaled import LossScaled
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.signal.evaluations import Evaluations, Mark, Series
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.watch.plausibility import LARGEST_GUESS

NOTED: dict[str, Any] = {
    "factor": 8.0, "logged": 24.0, "measured": 3.0, "by": "accumulation", "accumulation": 8, "processes": 2,
}  # fmt: skip


def _found(*seen: Observation, retention: tuple[str, ...] = ()) -> list[Finding]:
    rule = LossScaled(retention)
    return list(Monitor([rule]).judge(seen)[1])


def _noted(**other: Any) -> SetupObservation:
    return SetupObservation(10, "loss-scaled", {**NOTED, **other})


def _log(train: Any, evaluation: Any, evaluations: int = 6, split: str = "eval") -> list[Observation]:
    """Ten training rows, an evaluation, and so on; levels as functions of the share of the run."""
    rows: list[Observation] = []
    for step in range(10, 100 * evaluations + 1, 10):
        share = step / (100 * evaluations)
        rows.append(TrainObservation(step, loss=train(share)))
        if step % 100 == 0:
            rows.append(EvalObservation(step, split=split, loss=evaluation(share)))
    return rows


def _falling(share: float) -> float:
    return 2.0 + 1.2 * math.exp(-3.0 * share)


def test_as_noted() -> None:
    """Once, with the factor and what explains it; it never asks to stop."""
    (found,) = _found(_noted(), _noted(factor=7.9))
    assert (found.code, found.severity, found.step, found.split) == ("loss-scaled", Severity.WARNING, 10, "train")
    assert not found.asks_to_stop
    assert found.variant == "accumulation"
    assert shown(found) == ("accumulation", {"accumulation": 8, "factor": 8.0, "logged": 24.0, "measured": 3.0})
    known = {"factor": 8.0, "logged": 24.0, "measured": 3.0}
    assert shown(_found(_noted(by="processes"))[0]) == ("processes", {**known, "processes": 2})
    assert shown(_found(_noted(by="both"))[0]) == ("both", {**known, "accumulation": 8, "processes": 2})
    assert shown(_found(_noted(by=None))[0]) == ("", {**known, "accumulation": 8, "processes": 2})


@pytest.mark.parametrize("other", [{"factor": None}, {"logged": "x"}, {"measured": math.nan}, {"processes": True}])
def test_a_damaged_note_says_nothing(other: dict[str, Any]) -> None:
    """A row that lacks a number of the sentence is none."""
    assert _found(_noted(**other)) == []


def test_a_bare_log_above_any_guess() -> None:
    """Above 12.55 at two evaluations that are far below it: suspected, with the factor."""
    (found,) = _found(*_log(lambda share: 8.0 * _falling(share), _falling))
    assert (found.variant, found.step) == ("suspected", 200)
    assert found.values["factor"] == pytest.approx(8.0, rel=0.05)  # type: ignore[call-overload]


def test_a_bare_log_in_proportion() -> None:
    """Twice as high all along while both fall: a factor. A difference that stays is none."""
    (found,) = _found(*_log(lambda share: 2.0 * _falling(share), _falling))
    assert found.values["factor"] == pytest.approx(2.0, rel=0.05)  # type: ignore[call-overload]
    assert _found(*_log(lambda share: 2.5 + _falling(share), _falling)) == []


@pytest.mark.parametrize(
    ("train", "evaluation"),
    [
        (_falling, _falling),
        (lambda share: 1.5 * _falling(share), _falling),
        (lambda share: 3.0 + 27.0 * math.exp(-20.0 * share), _falling),
        (lambda share: 4.0, lambda share: 1.5),
        (lambda share: 14.0 if share < 0.2 else 3.0, lambda share: 2.5),
    ],
    ids=["alike", "a half more", "a steep fall from a bad start", "two texts", "one high beginning"],
)
def test_what_is_no_factor(train: Any, evaluation: Any) -> None:
    """Unlike texts, dropout, and a bad start are not a multiplied loss."""
    assert _found(*_log(train, evaluation)) == []


def test_where_the_callback_measured_nothing_is_suspected() -> None:
    """The callback compared the loss with its own passes: what it did not note was not so. Nor on a retention set."""
    rows = _log(lambda share: 8.0 * _falling(share), _falling)
    told = SetupObservation(0, "plan", {"planned_steps": 600, "trainer_kind": "causal"})
    assert _found(told, *rows) == []
    kept = _log(lambda share: 8.0 * _falling(share), _falling, split="eval_en")
    assert _found(*kept, retention=("en",)) == []


def test_no_gap_is_judged_by_such_a_loss() -> None:
    """What compares the training loss with an evaluation or a floor is silent from then on."""
    rows = _log(lambda share: 3.0 - 1.5 * share, lambda share: 2.6, evaluations=12)
    noted = SetupObservation(10, "loss-scaled", NOTED)
    assert "gap-widening" in {one.code for one in Monitor(task="other").judge(rows)[1]}
    assert "gap-widening" not in {one.code for one in Monitor(task="other").judge([noted, *rows])[1]}


def test_the_public_case() -> None:
    """A log whose training loss is eight times too high: that is said, and no gap of minus fourteen."""
    path = Path(__file__).parents[3].parent / "shared" / "cases" / "logs" / "loss-times-accumulation.json"
    if not path.is_file():
        pytest.skip("the cases are not in this checkout")
    from ko_cpt_callbacks.run.rows import observations_of

    seen = observations_of(json.loads(path.read_text("utf-8"))["log_history"])
    codes = [one.code for one in Monitor(task="other").judge(seen)[1]]
    assert codes == ["loss-scaled"]


# -- how much it takes: evaluations with exactly these numbers ----


def _suspected(
    values: Sequence[float], factors: Sequence[float], *, points: int = 3, split: str = "eval", **told: Any
) -> bool:
    marks = tuple(
        Mark(10 * i, value, points=points, near=value * factor)
        for i, (value, factor) in enumerate(zip(values, factors, strict=True))
    )
    series = Series("loss", len(marks), marks[0], marks[-1], marks)
    seen = EvalObservation(marks[-1].step, split=split, loss=values[-1])
    rule = LossScaled(**told)
    return bool(rule.step(rule.initial(), seen, Signals(evaluations=Evaluations(now=series)))[1])


@pytest.mark.parametrize(
    ("values", "factors", "told", "suspected"),
    [
        ((3.0, 2.7, 2.5), (2.0, 2.0, 2.0), {}, True),
        ((3.0, 2.5), (2.0, 2.0), {}, False),
        ((3.0, 2.7, 2.54), (2.0, 2.0, 2.0), {}, True),
        ((3.0, 2.7, 2.56), (2.0, 2.0, 2.0), {}, False),
        ((3.0, 2.9, 2.7, 2.54), (2.0, 2.0, 2.0, 2.0), {}, True),
        ((3.0, 2.7, 2.5), (1.81, 1.81, 1.81), {}, True),
        ((3.0, 2.7, 2.5), (1.79, 1.79, 1.79), {}, False),
        ((3.0, 2.7, 2.5), (2.0, 2.09, 2.0), {}, True),
        ((3.0, 2.7, 2.5), (2.0, 2.11, 2.0), {}, False),
        ((9.0, 3.0, 2.7, 2.5), (9.0, 2.0, 2.0, 2.0), {}, True),
        ((3.0, 2.7, 2.5), (2.0, 2.0, 2.0), {"points": 2}, False),
        ((3.0, 2.7, 2.5), (2.0, 2.0, 2.0), {"split": "eval_en", "retention": ("en",)}, False),
        ((3.0, 2.99), (8.0, 8.0), {}, True),
        ((3.0, 2.99), (8.0, 8.7), {}, True),
        ((3.0, 2.99), (8.0, 8.9), {}, False),
        ((2.99,), (8.0,), {}, False),
        ((3.0, 2.99), (3.0, 3.0), {}, False),
        ((3.0, 2.99, 2.98), (8.0, 8.0, 8.0), {}, True),
        ((3.0, 2.9, 2.7, 2.54), (1.5, 2.0, 2.0, 2.0), {}, False),
        ((-3.0, -3.1, -3.6), (2.0, 2.0, 2.0), {}, False),
        ((3.0, 2.7, 0.0), (2.0, 2.0, 2.0), {}, False),
    ],
    ids=str,
)
def test_how_much_is_suspected(
    values: tuple[float, ...], factors: tuple[float, ...], told: dict[str, Any], suspected: bool
) -> None:
    """1.8 times three evaluations that fell by 0.15, alike within 0.05 and of three points each; or two above what a
    guess among the largest vocabulary gives, alike within 0.1."""
    assert _suspected(values, factors, **told) is suspected


def test_what_is_as_much_as_a_limit() -> None:
    """A factor, a fall or a difference that is the limit itself is enough; a loss that is a guess is not above one."""
    for factor, fall, unlike, suspected in (
        (2.0, 4.0, 2.5, True), (1.9921875, 4.0, 2.5, False), (2.0, 3.9921875, 2.5, False), (2.0, 4.0, 2.5078125, False),
    ):  # fmt: skip
        told = {"least": 2.0, "fall": 0.25, "agree": 0.25}
        assert _suspected((fall, 3.5, 3.0), (factor, unlike, 2.0), **told) is suspected
    for value, factor, suspected in (
        (1.0, LARGEST_GUESS, False), (1.0, 1.001 * LARGEST_GUESS, True), (LARGEST_GUESS, 2.0, False),
        (0.999 * LARGEST_GUESS, 2.0, True),
    ):  # fmt: skip
        assert _suspected((value, value), (factor, factor)) is suspected
