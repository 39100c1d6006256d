"""One row to observations: every shape that real logs have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.run.observation import (
    EndObservation,
    EvalObservation,
    SetupObservation,
    TrainObservation,
)
from ko_cpt_callbacks.run.rows import eval_prefixes, observations, observations_of


def test_training_row_of_the_trainer() -> None:
    """The Trainer's keys are taken, TRL's are left alone."""
    row = {
        "loss": 4.8655,
        "grad_norm": 21.125,
        "learning_rate": 3e-7,
        "epoch": 0.1,
        "step": 10,
        "entropy": 3.1,
    }
    assert observations(row) == (TrainObservation(10, epoch=0.1, loss=4.8655, grad_norm=21.125, learning_rate=3e-7),)


def test_training_row_of_the_callback() -> None:
    """Our counts come along; a count written as 3.0 is 3."""
    row = {
        keys.LOSS: 2.0,
        keys.STEP: 20.0,
        keys.KIND: keys.KIND_TRAIN,
        keys.ATTEMPT: 1,
        keys.NONFINITE_STEPS: 3.0,
        keys.NONFINITE_FIRST_STEP: 18,
        keys.TOKENS_SEEN: 1000,
        keys.TOKENS_PER_SECOND: 12.5,
    }
    expected = TrainObservation(
        20,
        loss=2.0,
        nonfinite_steps=3,
        nonfinite_first_step=18,
        tokens_seen=1000,
        tokens_per_second=12.5,
    )
    assert observations(row) == (expected,)


def test_evaluation_row() -> None:
    """Every key of keys.EVAL_SUFFIXES that an observation has is read under the row's own prefix."""
    row: dict[str, Any] = {"eval_ko_loss": 2.5, "eval_ko_runtime": 1.0, "step": 40, "epoch": 1.0}
    numbers: dict[str, Any] = {
        keys.EXACT_LOSS: 2.4,
        keys.EXACT_LOSS_SE: 0.1,
        keys.EXACT_LOSS_CHANGE_SE: 0.01,
        keys.BITS_PER_BYTE: 1.1,
        keys.BITS_PER_BYTE_SE: 0.05,
        keys.TOKENS: 100,
        keys.BYTES: 300,
        keys.ROWS: 9,
        keys.NONFINITE_BATCHES: 0,
        keys.TARGETLESS_BATCHES: 1,
        keys.FINGERPRINT: "ab12",
        keys.EXACT_LOSS_ABSENT: "no logits",
        keys.BITS_PER_BYTE_ABSENT: "no table",
        keys.ERROR_BAR_ABSENT: "no rows",
    }
    row.update({keys.key("eval_ko", suffix): value for suffix, value in numbers.items()})
    row[keys.key("eval_ko", keys.PPL)] = 11.0
    # The mark of an evaluation that is no point of the run has a test of its own.
    # A forecast follows from the rows, and is read from none.
    assert set(numbers) | {keys.PPL, keys.AT_RESUME, *keys.FORECAST_SUFFIXES} == set(keys.EVAL_SUFFIXES)
    assert observations(row) == (EvalObservation(40, epoch=1.0, split="eval_ko", loss=2.5, **numbers),)


def test_test_prefix_and_two_sets_in_one_row() -> None:
    """evaluate(metric_key_prefix="test") is a set called test; a merged row gives one observation each."""
    row = {"test_loss": 2.0, "test_runtime": 1.0, "eval_loss": 3.0, "eval_runtime": 1.0, "step": 5}
    assert observations(row) == (EvalObservation(5, split="test", loss=2.0), EvalObservation(5, loss=3.0))


@pytest.mark.parametrize(
    ("row", "prefixes"),
    [
        ({"eval_loss": 1.0}, ("eval",)),
        ({"eval_loss": 1.0, "eval_aux_loss": 0.1}, ("eval",)),
        ({"eval_ko_loss": 1.0, "eval_ko_exact_loss": 1.0}, ("eval_ko",)),
        ({"eval_exact_loss": 1.0, "eval_runtime": 1.0}, ("eval",)),
        ({"eval_wer": 0.3, "eval_runtime": 1.0}, ("eval",)),
        ({"loss": 1.0, "aux_loss": 0.1}, ()),
        ({"loss": 1.0, "eval_loss": 2.0, "eval_runtime": 1.0}, ("eval",)),
        ({"train_loss": 1.0, "train_runtime": 1.0}, ()),
        ({"_loss": 1.0}, ()),
        ({"_runtime": 1.0}, ()),
    ],
)
def test_prefixes(row: dict[str, Any], prefixes: tuple[str, ...]) -> None:
    """The runtime names a set; without one the loss does, but never a part of another loss."""
    assert eval_prefixes(row) == prefixes


def test_last_row() -> None:
    """The Trainer's last row is the end, not a training point."""
    row = {"train_loss": 1.6, "train_runtime": 13480.9, "step": 77950, "epoch": 50.0, "total_flos": 4e16}
    assert observations(row) == (EndObservation(77950, 1.6),)


@pytest.mark.parametrize(
    ("row", "tokens"),
    [
        ({"num_tokens": 327680.0}, 327680),
        ({"num_input_tokens_seen": 512}, 512),
        ({"num_tokens": 100, "num_input_tokens_seen": 512}, 100),
        ({"num_tokens": "many", "num_input_tokens_seen": 512}, 512),
        ({"num_tokens": 1.5}, None),
        ({}, None),
    ],
)
def test_input_tokens(row: dict[str, Any], tokens: int | None) -> None:
    """TRL's count, else the Trainer's; ours of target tokens is another number."""
    (found,) = observations({"loss": 1.0, "step": 10, "tokens_seen": 7, **row})
    assert isinstance(found, TrainObservation)
    assert (found.input_tokens, found.tokens_seen) == (tokens, 7)


def test_set_up_rows_of_the_rules() -> None:
    """What the callback notes at the start reaches the rules: the set's name is a value, not part of the envelope."""
    line = {"kind": "setup", "attempt": 1, "step": 0, "setup": "padding-in-loss", "split": "eval", "masked_labels": 3}
    assert observations(line) == (SetupObservation(0, "padding-in-loss", {"split": "eval", "masked_labels": 3}),)
    line = {"kind": "setup", "attempt": 1, "step": 0, "setup": "plan", "planned_steps": 400}
    assert observations(line) == (SetupObservation(0, "plan", {"planned_steps": 400}),)


def test_runtime_in_a_training_row_is_no_end() -> None:
    """include_num_input_tokens_seen adds train_runtime to rows with a loss: those are training rows."""
    row = {"loss": 2.0, "train_runtime": 3.0, "num_input_tokens_seen": 512, "step": 10}
    assert observations(row) == (TrainObservation(10, loss=2.0, input_tokens=512),)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("NaN", math.nan), ("Infinity", math.inf), ("-Infinity", -math.inf), (math.nan, math.nan), ("nan", math.nan),
        ("inf", math.inf), ("-inf", -math.inf),
    ],
)  # fmt: skip
def test_non_finite_numbers(written: object, read: float) -> None:
    """Our strings, those of ``str(float)``, and JSON's bare literals become floats."""
    (found,) = observations({"loss": 1.0, "grad_norm": written, "step": 10})
    assert isinstance(found, TrainObservation)
    assert found.grad_norm == read or (math.isnan(read) and math.isnan(found.grad_norm or 0.0))


@pytest.mark.parametrize(
    ("written", "read"), [("2.5", 2.5), (" 1e-4 ", 1e-4), ("-.5", -0.5), ("7", 7.0), ("1e999", math.inf)]
)
def test_numbers_as_text(written: str, read: float) -> None:
    """What a writer made a text of is the number all the same."""
    assert observations({"loss": written, "step": 10}) == (TrainObservation(10, loss=read),)
    (found,) = observations({"eval_loss": written, "eval_runtime": "1.0", "step": 10})
    assert isinstance(found, EvalObservation) and found.loss == read


@pytest.mark.parametrize("written", [True, None, [1.0], {}, "n/a", "", "1_0", "٣", "1.5 nats", "9" * 400])
def test_what_is_not_a_number_is_absent(written: object) -> None:
    """Truth values, other text, null and containers are no numbers; the row still counts."""
    assert observations({"loss": written, "step": 10}) == (TrainObservation(10),)


def test_numpy_numbers() -> None:
    """A live row may hold numpy scalars."""
    assert observations({"loss": np.float32(1.5), "step": np.int64(10)}) == (TrainObservation(10, loss=1.5),)


def test_an_integer_too_large_for_a_float() -> None:
    """10**400 is infinite, not a crash."""
    (found,) = observations({"loss": 10**400, "step": 10})
    assert isinstance(found, TrainObservation)
    assert found.loss == math.inf


@pytest.mark.parametrize("step", [None, "10", True, -1, 10.5, math.nan])
def test_a_row_without_a_step_is_none(step: object) -> None:
    """No usable step, no observation."""
    assert observations({"loss": 1.0, "step": step}) == ()
    assert observations({"loss": 1.0}) == ()


def test_counts_are_whole_and_not_negative() -> None:
    """A half, negative or infinite count is absent."""
    for bad in (1.5, -1, math.inf, "3", True):
        (found,) = observations({"loss": 1.0, "step": 1, keys.NONFINITE_STEPS: bad})
        assert isinstance(found, TrainObservation)
        assert found.nonfinite_steps is None


def test_lines_of_rows_jsonl_that_are_no_observation() -> None:
    """A checkpoint's row and a superseded row give none."""
    assert observations({keys.KIND: keys.KIND_CHECKPOINT, keys.STEP: 10, keys.TOKENS_SEEN: 5}) == ()
    assert observations({keys.KIND: keys.KIND_TRAIN, keys.STEP: 10, keys.LOSS: 1.0, keys.SUPERSEDED: True}) == ()


def test_setup_and_end_lines() -> None:
    """A setup row keeps its values without the envelope; an end row needs no runtime."""
    row = {
        keys.KIND: keys.KIND_SETUP,
        keys.KIND_SETUP: "stage",
        keys.ATTEMPT: 1,
        keys.STEP: 0,
        "name": "full",
    }
    assert observations(row) == (SetupObservation(0, "stage", {"name": "full"}),)
    assert observations({keys.KIND: keys.KIND_END, keys.STEP: 9}) == (EndObservation(9),)


def test_rows_in_order() -> None:
    """observations_of keeps the order and skips what holds nothing."""
    rows = [{"loss": 1.0, "step": 1}, {"rewards": 2.0, "step": 1}, {"eval_loss": 1.0, "step": 1}]
    assert observations_of(rows) == (TrainObservation(1, loss=1.0), EvalObservation(1, loss=1.0))


def test_an_evaluation_made_because_training_resumed() -> None:
    """It is no point of the run, whatever its numbers; one beside it that is none of that kind counts, and so does a
    mark that is not true."""
    row = {"eval_loss": 2.5, "eval_runtime": 1.0, "eval_exact_loss": 2.4, "step": 40, "eval_at_resume": True}
    assert observations(row) == ()
    assert observations({**row, "kind": "eval", "attempt": 2, "split": "eval"}) == ()
    assert len(observations({**row, "eval_at_resume": "NaN"})) == 1
    both = observations({**row, "eval_ko_loss": 2.0, "eval_ko_runtime": 1.0})
    assert [getattr(seen, "split", None) for seen in both] == ["eval_ko"]
