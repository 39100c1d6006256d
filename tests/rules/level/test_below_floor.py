"""below-floor: a level, never one point; how grave depends on the task and on how it came about."""

from __future__ import annotations

import math

import pytest

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.rules.level.below_floor import BelowFloor
from ko_cpt_callbacks.rules.monitor import Monitor


def _findings(*seen: Observation, task: str = "other") -> list[Finding]:
    rule = BelowFloor(task)
    return list(Monitor([rule]).judge(seen)[1])


def _train(*losses: float, start: int = 10) -> list[TrainObservation]:
    return [TrainObservation(start + 10 * i, loss=loss, grad_norm=1.0) for i, loss in enumerate(losses)]


def _evals(*losses: float, se: float | None = None, rows: int | None = None) -> list[EvalObservation]:
    return [
        EvalObservation(100 * (i + 1), exact_loss=loss, exact_loss_se=se, rows=rows) for i, loss in enumerate(losses)
    ]


@pytest.mark.parametrize(("task", "severity"), [("cpt", "warning"), ("sft", "info"), ("other", "info")])
def test_a_gradual_fall(task: str, severity: str) -> None:
    """The median of 20 points goes below ln 3: info, but a warning in continued pretraining; once."""
    losses = [2.0 - 0.02 * i for i in range(80)]
    (found,) = _findings(*_train(*losses), task=task)
    assert (found.code, found.severity.value, found.variant, found.split) == (
        "below-floor", severity, "train-level", "train",
    )  # fmt: skip
    assert found.values["level"] < math.log(3.0)
    assert not found.asks_to_stop


def test_sentence() -> None:
    """Level, perplexity, floor, what to look at."""
    found = _findings(*_train(*[1.0] * 20))
    assert [one.message() for one in found] == [
        "Step 200: the median of the last 20 training losses is 1.000 (perplexity 2.72), below 1.099 (perplexity "
        "3.00), where no published Korean pretraining has been. Masked language models and fine-tuning may be that "
        "low; in continued pretraining look whether padding is in the loss, whether the text repeats itself, and "
        "whether the labels are what you think."
    ]


def test_never_one_point() -> None:
    """Neither one training point, nor nineteen, nor half of twenty, nor an evaluation of one row."""
    assert _findings(*_train(*[2.0] * 30, 0.2, *[2.0] * 30), task="cpt") == []
    assert _findings(*_train(*[0.2] * 19), task="cpt") == []
    assert _findings(*_train(*[2.0, 0.2] * 40), task="cpt") == []
    assert _findings(*_evals(0.5, rows=1), task="cpt") == []


def test_an_evaluation() -> None:
    """One is enough where its interval is below; the Trainer's loss counts where there is no exact one."""
    (found,) = _findings(*_evals(1.0, 0.99, se=0.01, rows=500))
    assert (found.severity, found.step, found.split, found.variant) == (Severity.INFO, 100, "eval", "eval-level")
    assert _findings(*_evals(1.09, se=0.01)) == []
    assert len(_findings(EvalObservation(10, loss=1.0, split="eval_ko"))) == 1


def test_exactly_at_the_floor_is_not_below() -> None:
    """ln 3 itself is silent."""
    assert _findings(*_train(*[math.log(3.0)] * 30), *_evals(math.log(3.0))) == []


def test_a_sudden_fall_is_a_warning_whatever_the_task() -> None:
    """From a level to another within a few points, as when padding enters the loss at a resume."""
    noise = [0.02 * math.sin(7.0 * i) for i in range(60)]
    losses = [(2.7 if i < 30 else 0.7) + noise[i] for i in range(60)]
    (found,) = _findings(*_train(*losses), task="sft")
    assert (found.severity, found.variant) == (Severity.WARNING, "train-fall")
    assert found.step > 300
    assert (round(found.values["from"], 1), round(found.values["to"], 1)) == (2.7, 0.7)  # type: ignore[call-overload]


def test_a_fall_after_the_level_was_noted() -> None:
    """Fine-tuning noted as info at 1.0 that falls to 0.3 at once is a second, graver finding."""
    found = _findings(*_train(*[1.0] * 40, *[0.3] * 40))
    assert [(one.severity.value, one.variant) for one in found] == [("info", "train-level"), ("warning", "train-fall")]


def test_a_steep_but_steady_fall_is_none() -> None:
    """A curve that was falling all the time did not fall suddenly."""
    losses = [6.0 * math.exp(-i / 15) + 0.4 for i in range(80)]
    assert {one.variant for one in _findings(*_train(*losses))} == {"train-level"}


@pytest.mark.parametrize("width", [3, 8, 12, 30, 60])
def test_the_return_from_a_spike_is_no_fall(width: int) -> None:
    """Fine-tuning at 0.93 that goes up by 2 nats and comes back is where it was, however wide the spike."""
    losses = [0.93 + 0.02 * math.sin(7.0 * i) + (2.0 if 30 <= i < 30 + width else 0.0) for i in range(140)]
    assert {one.severity for one in _findings(*_train(*losses), task="sft")} == {Severity.INFO}
    lower = [loss - (0.6 if i > 100 else 0.0) for i, loss in enumerate(losses)]
    assert [one.variant for one in _findings(*_train(*lower), task="sft")] == ["train-level", "train-fall"]


def test_evaluations_fall_too() -> None:
    """A level, then far below it: a warning; a spike and back is none."""
    (found,) = _findings(*_evals(2.7, 2.68, 0.5))
    assert (found.severity, found.variant) == (Severity.WARNING, "eval-fall")
    for losses in ((0.6, 1.6, 0.6), (0.6, 1.6, 1.6, 1.6, 1.6, 0.6)):
        assert [one.variant for one in _findings(*_evals(*losses))] == ["eval-level"]


def test_near_zero() -> None:
    """Next to nothing is another sentence, also after the level was noted."""
    found = _findings(*_train(*[1.0 / (1 + i / 4) for i in range(200)]), *_evals(0.01))
    assert [one.variant for one in found] == ["train-level", "train-near-zero", "eval-near-zero"]
    assert {one.severity for one in found} == {Severity.INFO}
    assert "next to 0" in found[1].message()


def test_nan_in_disguise_is_no_level() -> None:
    """0.0 with a NaN gradient norm, or without any, and counted NaN steps: another rule's business."""
    assert _findings(*[TrainObservation(i, loss=0.0, grad_norm=math.nan) for i in range(40)], task="cpt") == []
    assert _findings(*[TrainObservation(i, loss=0.0) for i in range(40)], task="cpt") == []
    assert _findings(*[TrainObservation(i, loss=0.5, nonfinite_steps=3) for i in range(40)], task="cpt") == []
    assert _findings(EvalObservation(10, loss=0.5, nonfinite_batches=1), task="cpt") == []


def test_two_runs_joined() -> None:
    """Steps that go back begin a new window."""
    assert _findings(*_train(*[1.0] * 15), *_train(*[1.0] * 15)) == []
