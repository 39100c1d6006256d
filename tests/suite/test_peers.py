"""Our own versions of four peers' rules do what the originals are known to do."""

from __future__ import annotations

import math

import pytest
from suite.peers import HFEarlyStopping, KillLossSpike, LightningEarlyStopping, LossWatchdog

NAN, INF = math.nan, math.inf


def _original(values: list[float], patience: int, threshold: float) -> list[int]:
    """The evaluations at which transformers' own callback asks to stop, the Trainer's best kept beside it."""
    from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments

    args = TrainingArguments(
        output_dir="unused", use_cpu=True, report_to=[], metric_for_best_model="loss", greater_is_better=False
    )
    callback = EarlyStoppingCallback(patience, threshold)
    state, found = TrainerState(), []
    for i, value in enumerate(values):
        control = TrainerControl()
        callback.on_evaluate(args, state, control, {"eval_loss": value})
        if control.should_training_stop:
            found.append(i)
        if state.best_metric is None or value < state.best_metric:
            state.best_metric = value
    return found


@pytest.mark.parametrize("threshold", [0.0, 0.1])
@pytest.mark.parametrize(
    "values",
    [
        [3.0, 2.0, 2.5, 2.4, 1.9, 2.0, 2.0, 2.0],
        [3.0, 2.95, 2.9, 2.85, 2.8],
        [3.0, 3.0, 3.0],
        [1.0, 2.0, 3.0, 0.5, 2.0],
        [2.0, 1.95, 1.5, 1.6, 1.7, 1.8],
    ],
)
def test_hf_early_stopping_is_transformers_own(values: list[float], threshold: float) -> None:
    """Fed the same evaluations, the installed EarlyStoppingCallback asks at the same ones."""
    for patience in (1, 2, 3):
        expected = _original(values, patience, threshold)

        assert HFEarlyStopping(patience, threshold).stops(values) == expected


def test_hf_creeping_below_the_threshold_is_no_improvement() -> None:
    """Each value is lower than the last by less than the threshold: the counter runs although the best moves."""
    assert HFEarlyStopping(2, 0.1).stops([3.0, 2.95, 2.9, 2.85]) == [2, 3]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0, NAN], [("finite", 1)]),  # check_finite comes first
        ([3.0, INF], [("finite", 1)]),  # also before the divergence threshold
        ([3.0, 5.1], [("diverged", 1)]),  # at once, without patience
        ([3.0, 5.0], []),  # worse than the threshold is meant strictly
        ([3.0, 2.95, 2.9, 2.8], [("patience", 2)]),  # by more than min_delta, of the best that counted: 2.8 does
        ([3.0, 3.1, 2.0, 2.1, 2.1], [("patience", 4)]),  # an improvement resets the count
    ],
)
def test_lightning_asks_in_its_order(values: list[float], expected: list[tuple[str, int]]) -> None:
    """Not finite, beyond the divergence threshold, not improved by min_delta for patience evaluations."""
    assert LightningEarlyStopping(patience=2, min_delta=0.1).stops(values, threshold=5.0) == expected


def test_axolotl_counts_one_row_as_often_as_it_is_polled() -> None:
    """A single high row at logging_steps=10 stops two steps later with patience 3; at logging_steps=1 it does not."""
    assert LossWatchdog().stops([(10, 2.0), (20, 9.0), (30, 2.0)], 5.0) == [22]
    assert LossWatchdog().stops([(1, 2.0), (2, 9.0), (3, 2.0)], 5.0) == []
    assert LossWatchdog().stops([(1, 9.0), (2, 9.0), (3, 9.0)], 5.0) == [3]


def test_axolotl_never_sees_nan() -> None:
    """NaN is not above the threshold, however long it lasts."""
    assert LossWatchdog().stops([(10 * i, NAN) for i in range(1, 20)], 5.0) == []


def test_llm_foundry_needs_a_window_and_five_in_a_row() -> None:
    """Five losses of twice the mean after 100 ordinary ones are a spike; four are not, nor any before the window."""
    calm = [2.0] * 100
    assert KillLossSpike().flags([*calm, *[4.5] * 5, 2.0]) == [("spike", 104)]
    assert KillLossSpike().flags([*calm, *[4.5] * 4, 2.0]) == []
    assert KillLossSpike().flags([*[2.0] * 50, *[9.0] * 20, 2.0]) == []


def test_llm_foundry_is_reset_by_nan_and_masked_by_its_outliers() -> None:
    """A NaN ends the row of outliers; a fall is never seen; outliers raise the mean they are measured by."""
    calm = [2.0] * 100
    assert KillLossSpike().flags([*calm, 4.5, 4.5, 4.5, 4.5, NAN, 4.5]) == []
    assert KillLossSpike().flags([*calm, *[0.4] * 200]) == []
    assert KillLossSpike().flags([*calm, *[4.05] * 20]) == []


def test_llm_foundry_caps_at_the_first_window() -> None:
    """Half a window above the first window's highest loss, after two windows."""
    flags = KillLossSpike().flags([*[2.0] * 200, *[3.0] * 60])

    assert flags[0] == ("high", 250)


def test_llm_foundry_says_nothing_of_the_padded_run() -> None:
    """One point at 9.5, then a fall to 0.4: the public run that joined two, as its rule sees it."""
    assert KillLossSpike().flags([*[2.7] * 350, 9.5, 1.8, *[0.6] * 300]) == []
