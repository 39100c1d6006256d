"""Sums of one evaluation: what counts, what is refused, and why."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ko_cpt_callbacks.hf.measure.eval_meter import EvalMeter
from ko_cpt_callbacks.hf.measure.evidence import read_evidence
from ko_cpt_callbacks.hf.measure.measurement import Measurement
from ko_cpt_callbacks.hf.measure.model_output import ForwardOutput
from ko_cpt_callbacks.hf.measure.nll_capture import TokenLosses
from ko_cpt_callbacks.hf.measure.row_reader import RowReader
from ko_cpt_callbacks.hf.measure.tally import PendingPass
from ko_cpt_callbacks.hf.ranks import Ranks

pytestmark = pytest.mark.both_versions

VOCABULARY = 7


def _never(error: Exception) -> None:
    raise error


@pytest.fixture
def meter() -> EvalMeter:
    """One process, no tokenizer."""
    return EvalMeter(lambda: RowReader(None, rank=0), Ranks(torch.device("cpu"), 0), _never)


def _batch(seed: int, rows: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, 4, VOCABULARY, generator=generator)
    return logits, torch.randint(0, VOCABULARY, (rows, 4), generator=generator)


def _pass(meter: EvalMeter, logits: Tensor | None, labels: Tensor, loss: Any = None, watched: Any = ()) -> None:
    output = ForwardOutput(loss=loss, logits=logits, log_probs=None, label_mask=None)
    call = {"input_ids": labels, "labels": labels}
    meter.observe(PendingPass.of(call, output, read_evidence(call, output, list(watched), "causal")))


def _loss(batches: list[tuple[Tensor, Tensor]]) -> float:
    total = sum(
        float(-torch.log_softmax(logits[:, :-1].double(), -1).gather(-1, labels[:, 1:, None]).sum())
        for logits, labels in batches
    )
    return total / sum(labels[:, 1:].numel() for _, labels in batches)


def _exact(found: Measurement) -> float:
    assert found.rows is not None, found.reason
    return float(found.rows.nll.sum() / found.rows.tokens.sum())


def test_every_batch_once(meter: EvalMeter) -> None:
    """More batches than are held at once, of unlike sizes: their sum over their tokens, rows in order."""
    batches = [_batch(seed, rows=1 + seed % 3) for seed in range(20)]
    for batch in batches:
        _pass(meter, *batch)
        meter.commit(batches)
    found = meter.finish()
    assert _exact(found) == pytest.approx(_loss(batches), rel=1e-6)
    assert (found.evidence, found.batches, found.nonfinite_batches) == ("logits", 20, 0)
    assert found.rows is not None
    assert found.rows.order.tolist() == sorted(found.rows.order.tolist())


def test_two_passes_of_one_batch_count_once(meter: EvalMeter) -> None:
    """A loss function that calls the model twice with the same labels."""
    batch = _batch(0)
    _pass(meter, *batch)
    _pass(meter, *batch)
    meter.commit([1])
    assert _exact(meter.finish()) == pytest.approx(_loss([batch]), rel=1e-6)


def test_two_passes_with_different_labels_are_refused(meter: EvalMeter) -> None:
    """A prediction step of two forward passes on different rows is not understood, in whatever order they come."""
    first, second = _batch(0), _batch(1)
    for batch in (first, second, second, first):
        _pass(meter, *batch)
    meter.commit([1])
    found = meter.finish()
    assert found.rows is None
    assert "different labels" in str(found.reason)


def test_a_pass_nobody_claims_is_dropped(meter: EvalMeter) -> None:
    """Forward passes before a training step begins are no part of the next evaluation."""
    _pass(meter, *_batch(5))
    meter.drop_pending()
    batch = _batch(0)
    _pass(meter, *batch)
    meter.commit([1])
    assert _exact(meter.finish()) == pytest.approx(_loss([batch]), rel=1e-6)


def test_an_evaluation_broken_off_is_dropped(meter: EvalMeter) -> None:
    """A new data loader begins a new evaluation; so does a training step."""
    loaders = [[1, 2], [1], [1]]
    _pass(meter, *_batch(5))
    meter.commit(loaders[0])
    assert meter.running
    batch = _batch(0)
    _pass(meter, *batch)
    meter.commit(loaders[1])
    assert _exact(meter.finish()) == pytest.approx(_loss([batch]), rel=1e-6)
    _pass(meter, *_batch(5))
    meter.commit(loaders[0])
    meter.drop_pending()
    assert not meter.running
    _pass(meter, *batch)
    meter.commit(loaders[2])
    assert _exact(meter.finish()) == pytest.approx(_loss([batch]), rel=1e-6)


def test_missing_batches_are_refused(meter: EvalMeter) -> None:
    """Fewer prediction steps than the data loader has batches: no exact loss, and how many were seen."""
    _pass(meter, *_batch(0))
    meter.commit([1, 2, 3])
    assert meter.finish().reason == "1 of 3 batches were seen"


def test_a_step_without_labels_is_refused(meter: EvalMeter) -> None:
    """A prediction step whose forward pass had no labels: that is the reason; without any pass, that is."""
    meter.see_unlabelled(ForwardOutput(None, None, None, None))
    meter.commit([1])
    found = meter.finish()
    assert "no labels" in str(found.reason)
    assert found.batches == 0
    meter.commit([1])
    assert "no forward pass" in str(meter.finish().reason)


def test_nothing_seen(meter: EvalMeter) -> None:
    """An evaluation without a prediction step."""
    assert meter.finish().reason == "no prediction step was seen"


def test_kinds_are_never_mixed(meter: EvalMeter) -> None:
    """Logits in one batch, only a loss in the next: refused, both named."""
    logits, labels = _batch(0)
    loader = [1, 2]
    _pass(meter, logits, labels)
    meter.commit(loader)
    _pass(meter, None, labels, loss=torch.tensor(1.0))
    meter.commit(loader)
    assert "from logits to loss" in str(meter.finish().reason)


def test_loss_evidence(meter: EvalMeter) -> None:
    """Losses with their counts: token-weighted, no rows."""
    loader = [1, 2]
    for seed, rows, loss in ((0, 1, 1.0), (1, 3, 2.0)):
        _pass(meter, None, _batch(seed, rows)[1], loss=torch.tensor(loss))
        meter.commit(loader)
    found = meter.finish()
    assert (found.rows, found.evidence, found.reason) == (None, "loss", None)
    assert found.nll / found.tokens == pytest.approx((3 * 1.0 + 9 * 2.0) / 12)


LEFT = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])


@pytest.mark.parametrize("pre_shifted", [False, True])
def test_a_first_token_behind_padding_is_no_target(meter: EvalMeter, pre_shifted: bool) -> None:
    """Two rows padded to one length on the left have the loss that each has by itself: nothing predicts the token
    behind the pads, though it has a label.
    """
    logits, ids = _batch(0)
    labels = ids.masked_fill(LEFT == 0, -100)
    call: dict[str, Any] = {"input_ids": ids, "attention_mask": LEFT, "labels": labels}
    if pre_shifted:
        call["shift_labels"] = torch.cat([labels[:, 1:], labels.new_full((2, 1), -100)], dim=1)
    output = ForwardOutput(loss=None, logits=logits, log_probs=None, label_mask=None)
    meter.observe(PendingPass.of(call, output, read_evidence(call, output, [], "causal")))
    meter.commit([1])
    found = meter.finish()
    assert found.rows is not None and found.rows.tokens.tolist() == [1, 3]
    apart = [(logits[:1, 2:], ids[:1, 2:]), (logits[1:], ids[1:])]
    assert _exact(found) == pytest.approx(_loss(apart))


def test_only_a_causal_model_predicts_the_next_token(meter: EvalMeter) -> None:
    """A masked model's label behind padding stands where it is predicted: it counts."""
    logits, ids = _batch(0)
    labels = ids.masked_fill(LEFT == 0, -100)
    call = {"input_ids": ids, "attention_mask": LEFT, "labels": labels}
    output = ForwardOutput(loss=None, logits=logits, log_probs=None, label_mask=None)
    meter.observe(PendingPass.of(call, output, read_evidence(call, output, [], "masked")))
    meter.commit([1])
    found = meter.finish()
    assert found.rows is not None and found.rows.tokens.tolist() == [2, 4]


@pytest.mark.parametrize("kind", [torch.int64, torch.bool])
@pytest.mark.parametrize("left", [True, False])
def test_a_loss_alone_is_refused_where_it_scores_a_token_behind_padding(
    meter: EvalMeter, left: bool, kind: torch.dtype
) -> None:
    """That token cannot be taken out of a batch's mean; padding on the right puts none in."""
    mask = LEFT if left else LEFT.flip(1)
    _, ids = _batch(0)
    call = {"input_ids": ids, "attention_mask": mask.to(kind), "labels": ids.masked_fill(mask == 0, -100)}
    output = ForwardOutput(loss=torch.tensor(2.0), logits=None, log_probs=None, label_mask=None)
    meter.observe(PendingPass.of(call, output, read_evidence(call, output, [], "causal")))
    meter.commit([1])
    assert ("padded on the left" in str(meter.finish().reason)) is left


def test_a_batch_without_a_target_is_counted_as_such(meter: EvalMeter) -> None:
    """Its mean over no target is NaN, and nothing is broken; one of the other batches is the loss."""
    (logits, labels), loader = _batch(0), [1, 2]
    _pass(meter, logits, torch.full_like(labels, -100), loss=torch.tensor(math.nan))
    meter.commit(loader)
    _pass(meter, logits, labels)
    meter.commit(loader)
    found = meter.finish()
    assert (found.targetless_batches, found.nonfinite_batches, found.batches) == (1, 0, 2)
    assert _exact(found) == pytest.approx(_loss([(logits, labels)]))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_batches_are_counted(meter: EvalMeter, value: float) -> None:
    """By their logits, or by the model's own loss where the logits look fine; the others stay finite."""
    (broken, labels), (fine, other) = _batch(0), _batch(1)
    broken[0, 1, :] = value
    loader = [1, 2, 3]
    _pass(meter, broken, labels)
    meter.commit(loader)
    _pass(meter, fine, other, loss=torch.tensor(value))
    meter.commit(loader)
    _pass(meter, fine, other, loss=torch.tensor(1.0))
    meter.commit(loader)
    assert meter.finish().nonfinite_batches == 2


def test_a_batch_without_targets_is_not_broken(meter: EvalMeter) -> None:
    """Its mean is 0/0 = NaN: counted as no token, and as no broken batch."""
    logits, labels = _batch(0)
    _pass(meter, logits, torch.full_like(labels, -100), loss=torch.tensor(math.nan))
    meter.commit([1])
    found = meter.finish()
    assert found.nonfinite_batches == 0
    assert found.rows is not None
    assert int(found.rows.tokens.sum()) == 0


def test_loss_against_other_targets_is_refused(meter: EvalMeter) -> None:
    """Where the model's own loss used other targets than the labels in the call, neither number is published."""
    logits, labels = _batch(0)
    targets = torch.cat([labels[:, 1:], torch.full((2, 1), -100)], 1).flatten()
    targets[0] = (targets[0] + 1) % VOCABULARY
    _pass(meter, logits, labels, watched=[TokenLosses(nll=torch.ones(8), targets=targets)])
    meter.commit([1])
    assert "other targets" in str(meter.finish().reason)


def test_first_reason_stays(meter: EvalMeter) -> None:
    """The first reason is the one that is told, and it ends with its evaluation."""
    meter.refuse("came too late")
    _pass(meter, *_batch(0))
    meter.commit([1, 2])
    assert meter.finish().reason == "came too late"
    _pass(meter, *_batch(0))
    meter.commit([1])
    assert meter.finish().reason is None


def test_a_failing_reader_is_a_reason() -> None:
    """A defect while reading becomes the reason; no rank is left waiting by an exception."""

    def broken() -> RowReader:
        raise ZeroDivisionError("ours")

    meter = EvalMeter(broken, Ranks(torch.device("cpu"), 0), _never)
    _pass(meter, *_batch(0))
    meter.commit([1])
    assert meter.finish().reason == "the meter failed: ZeroDivisionError: ours"
