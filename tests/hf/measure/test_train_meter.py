"""Counts of training: tokens, non-finite micro-batches and steps, time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.hf.measure.model_output import ForwardOutput
from ko_cpt_callbacks.hf.measure.step_counts import TrainTotals, resumed_totals
from ko_cpt_callbacks.hf.measure.train_meter import TrainMeter
from ko_cpt_callbacks.hf.ranks import Ranks

pytestmark = pytest.mark.both_versions

LABELS = torch.tensor([[1, 2, 3, -100], [-100, 5, -100, -100]])


@pytest.fixture
def meter() -> TrainMeter:
    """One process."""
    return _meter([])


def _meter(told: list[Exception]) -> TrainMeter:
    meter = TrainMeter(Ranks(torch.device("cpu"), 0), told.append)
    meter.watches = True
    return meter


def _part(tokens: int | None, bad: list[int] | None, seconds: float) -> dict[str, Any]:
    return {"tokens": tokens, "bad": bad, "seconds": seconds, "targetless": 0, "losses": [0.0] * 5, "loss_kind": None}


def _output(loss: float | None) -> ForwardOutput:
    value = None if loss is None else torch.tensor(loss)
    return ForwardOutput(loss=value, logits=None, log_probs=None, label_mask=None)


def _micro(meter: TrainMeter, loss: float | None = 1.0, labels: torch.Tensor | None = LABELS) -> None:
    meter.end_micro_batch()
    meter.observe({} if labels is None else {"labels": labels}, _output(loss), alignment="causal")


def test_target_tokens(meter: TrainMeter) -> None:
    """Labels that are not ignored; without the first of a row where the loss shifts; reading begins anew."""
    _micro(meter)
    meter.end_micro_batch()
    meter.observe({"labels": LABELS}, _output(1.0), alignment="masked")
    meter.end_step()
    assert meter.part()["tokens"] == 3 + 4
    assert meter.part()["tokens"] == 0


def test_non_finite_micro_batches_by_step(meter: TrainMeter) -> None:
    """Counted per optimizer step, in order; a vector of losses (one per device) counts once."""
    for losses in ((1.0, math.nan), (1.0, 1.0), (math.inf, -math.inf)):
        for loss in losses:
            _micro(meter, loss)
        meter.end_step()
    per_device = ForwardOutput(torch.tensor([1.0, math.nan]), None, None, None)
    meter.observe({"labels": LABELS}, per_device, alignment="causal")
    meter.end_step()
    assert meter.part()["bad"] == [1, 0, 2, 1]


def test_unknown_is_not_zero(meter: TrainMeter) -> None:
    """A pass without labels: tokens unknown. Without a loss: non-finite steps unknown. For that window only."""
    _micro(meter, labels=None)
    meter.end_step()
    assert meter.part()["tokens"] is None
    _micro(meter, loss=None)
    meter.end_step()
    assert meter.part()["bad"] is None
    _micro(meter)
    meter.end_step()
    assert (meter.part()["tokens"], meter.part()["bad"]) == (3, [])


def test_a_step_broken_off_before_training_begins(meter: TrainMeter) -> None:
    """NaN passes of a training that was broken off inside a step are not blamed on the next one's first step."""
    _micro(meter, math.nan)
    meter.part()
    meter.restart()
    _micro(meter)
    meter.end_step()
    assert meter.part()["bad"] == [0]


def test_time_of_evaluations_is_excluded(meter: TrainMeter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training time is the window without what lies between a step's end and the end of its evaluation."""
    now = [100.0]
    monkeypatch.setattr("ko_cpt_callbacks.hf.measure.train_meter.time.perf_counter", lambda: now[0])
    meter.restart()
    for seconds, call in ((2.0, meter.end_step), (30.0, meter.exclude), (5.0, meter.exclude), (1.0, meter.end_step)):
        now[0] += seconds
        call()
    assert meter.part()["seconds"] == pytest.approx(3.0)


def test_a_row() -> None:
    """Tokens add up over rows; non-finite steps are those since the row before, counted from its step."""
    totals = TrainTotals()
    totals.add([_part(10, [0, 2, 1], 2.0)])
    row = totals.close_row(3)
    assert row == {
        keys.TOKENS_SEEN: 10,
        keys.NONFINITE_STEPS: 2,
        keys.NONFINITE_MICRO_BATCHES: 3,
        keys.NONFINITE_FIRST_STEP: 2,
        keys.TOKENS_PER_SECOND: 5.0,
    }
    totals.add([_part(10, [1], 1.0)])
    row = totals.close_row(4)
    assert row[keys.TOKENS_SEEN] == 20
    assert (row[keys.NONFINITE_STEPS], row[keys.NONFINITE_FIRST_STEP]) == (1, 4)


def test_a_checkpoint_between_rows() -> None:
    """Counts read at a checkpoint are pending and come with the next row."""
    totals = TrainTotals()
    totals.add([_part(10, [1, 0], 1.0)])
    assert totals.pending()[keys.NONFINITE_FIRST_STEP] == 1
    totals.add([_part(10, [0, 1], 1.0)])
    row = totals.close_row(4)
    assert (row[keys.TOKENS_SEEN], row[keys.NONFINITE_STEPS], row[keys.NONFINITE_FIRST_STEP]) == (20, 2, 1)
    assert row[keys.TOKENS_PER_SECOND] == 10.0


def test_unknown_counts_leave_their_keys_out() -> None:
    """Unknown tokens stay unknown for the run, unknown steps for the row; nothing is invented."""
    totals = TrainTotals()
    totals.add([_part(None, None, 1.0)])
    assert totals.close_row(2) == {}
    totals.add([_part(10, [0, 1], 1.0)])
    row = totals.close_row(4)
    assert keys.TOKENS_SEEN not in row
    assert (row[keys.TOKENS_PER_SECOND], row[keys.NONFINITE_FIRST_STEP]) == (10.0, 4)


def test_accelerator_hours() -> None:
    """Tokens per GPU-hour: the rate over the number of accelerators; absent on CPU."""
    totals = TrainTotals(devices=4)
    totals.add([_part(100, [0], 10.0)])
    assert totals.close_row(1)[keys.TOKENS_PER_GPU_HOUR] == 100 / 10.0 * 3600 / 4


def _line(kind: str, step: int, **values: int) -> dict[str, object]:
    return {keys.KIND: kind, keys.STEP: step, keys.TOKENS_SEEN: 10 * step, **values}


@pytest.mark.parametrize(
    ("kind", "values", "known"),
    [
        (keys.KIND_TRAIN, {}, True),
        (keys.KIND_CHECKPOINT, {keys.NONFINITE_STEPS: 0}, True),
        (keys.KIND_CHECKPOINT, {}, False),
        (keys.KIND_EVAL, {}, False),
    ],
)
def test_the_first_window_after_a_resume(kind: str, values: dict[str, int], known: bool) -> None:
    """Counts of non-finite steps go on where a training row or a checkpoint's counts end at the resumed step.

    A checkpoint that could not count, or an evaluation, leaves the steps before it unknown: the first row after the
    resume has the tokens and claims no count; the second does.
    """
    totals = resumed_totals([_line(keys.KIND_TRAIN, 4), _line(kind, 6, **values)], 6, 0)
    totals.add([_part(20, [0, 0], 1.0)])
    row = totals.close_row(8)
    assert row[keys.TOKENS_SEEN] == 80
    assert (keys.NONFINITE_STEPS in row) is known
    totals.add([_part(20, [0, 0], 1.0)])
    assert totals.close_row(10)[keys.NONFINITE_STEPS] == 0


@pytest.mark.parametrize("broken", ["_local", "first_padding"])
def test_a_fault_of_ours_is_named(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts that cannot be read are told, so that a row without them is no riddle; the other ranks get their part."""
    told: list[Exception] = []
    meter = _meter(told)
    _micro(meter)
    meter.end_step()
    if broken == "_local":
        monkeypatch.setattr(TrainMeter, "_local", lambda self, now: 1 / 0)
        assert meter.part()["tokens"] is None
    else:
        monkeypatch.setattr(meter, "_padding", object())
        assert meter.first_padding() is None
    assert [type(error) for error in told] == [ZeroDivisionError if broken == "_local" else AttributeError]
