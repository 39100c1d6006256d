"""Evidence of one forward pass, on tensors."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from ko_cpt_callbacks.hf.measure import evidence
from ko_cpt_callbacks.hf.measure.evidence import Absent, LossEvidence, read_evidence
from ko_cpt_callbacks.hf.measure.model_output import ForwardOutput, alignment_of
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE, TokenLosses

pytestmark = pytest.mark.both_versions

ROWS, LENGTH, VOCABULARY = 2, 5, 11


@pytest.fixture
def logits() -> Tensor:
    """(rows, length, vocabulary)."""
    return torch.randn(ROWS, LENGTH, VOCABULARY, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels() -> Tensor:
    """(rows, length), some ignored."""
    found = torch.arange(ROWS * LENGTH).reshape(ROWS, LENGTH) % VOCABULARY
    found[0, 3] = IGNORE
    return found


def _read(labels: Tensor, alignment: Any, watched: Any = (), virtual: int = 0, call: Any = None, **output: Any) -> Any:
    parts = {"loss": None, "logits": None, "log_probs": None, "label_mask": None, **output}
    return read_evidence(call or {"labels": labels}, ForwardOutput(**parts), watched, alignment, virtual_tokens=virtual)


def _expected(logits: Tensor, labels: Tensor, ahead: int) -> Tensor:
    """Loss of each label from the logits ``ahead`` positions before it, 0 where there is none."""
    log_probs = torch.log_softmax(logits.double(), -1)
    found = torch.zeros(labels.shape, dtype=torch.double)
    for row in range(labels.shape[0]):
        for at in range(labels.shape[1]):
            if labels[row, at] != IGNORE and at - ahead >= 0:
                found[row, at] = -log_probs[row, at - ahead, labels[row, at]]
    return found


def _close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_causal_logits(logits: Tensor, labels: Tensor) -> None:
    """Logits at i are the loss of label i + 1; the first label is never scored; ignored ones cost 0."""
    found = _read(labels, "causal", logits=logits)
    assert isinstance(found, LossEvidence)
    assert found.kind == "logits"
    assert _close(found.nll, _expected(logits, labels, 1))
    assert (found.labels[:, 0] == IGNORE).all()
    assert torch.equal(found.labels[:, 1:], labels[:, 1:])


@pytest.mark.parametrize("alignment", ["masked", "seq2seq"])
def test_unshifted_logits(alignment: str, logits: Tensor, labels: Tensor) -> None:
    """A masked or sequence-to-sequence model's logits at i are the loss of label i."""
    found = _read(labels, alignment, logits=logits)
    assert _close(found.nll, _expected(logits, labels, 0))
    assert torch.equal(found.labels, labels)


def test_virtual_tokens(logits: Tensor, labels: Tensor) -> None:
    """With two virtual tokens in front, every label of a row is scored, the first too."""
    short = labels[:, :3]
    found = _read(short, "causal", virtual=2, logits=logits)
    expected = _expected(logits, torch.cat([torch.full((ROWS, 2), IGNORE), short], 1), 1)[:, 2:]
    assert _close(found.nll, expected)
    assert torch.equal(found.labels, short)


def test_labels_shifted_already(logits: Tensor, labels: Tensor) -> None:
    """``shift_labels`` in the call: label i belongs to the logits at i, whatever ``labels`` says."""
    found = _read(labels, "causal", logits=logits, call={"labels": labels * 0, "shift_labels": labels})
    assert _close(found.nll, _expected(logits, labels, 0))


def test_log_probabilities_come_first(logits: Tensor, labels: Tensor) -> None:
    """Per-token log-probabilities (one fewer than positions) are taken before logits."""
    log_probs = torch.arange(-8.0, 0.0).reshape(ROWS, LENGTH - 1)
    found = _read(labels, "causal", logits=logits, log_probs=log_probs)
    assert found.kind == "log_probs"
    assert (found.nll[:, 0] == 0).all()
    assert found.nll[0, 3] == 0  # ignored
    assert found.nll[1, 1:].tolist() == (-log_probs[1]).tolist()


def test_log_probabilities_of_other_targets(labels: Tensor) -> None:
    """A mask of what was scored that differs from the labels: the log-probabilities are not those of the labels."""
    log_probs, scored = torch.zeros(ROWS, LENGTH - 1), labels[:, 1:] != IGNORE
    assert not bool(_read(labels, "causal", log_probs=log_probs, label_mask=scored).mismatch)
    assert bool(_read(labels, "causal", log_probs=log_probs, label_mask=scored & False).mismatch)
    call = {"labels": labels, "shift_labels": labels[:, 1:]}
    assert not bool(_read(labels, "causal", call=call, log_probs=log_probs, label_mask=scored).mismatch)
    # Virtual tokens in front are a part of the mask and not of the labels.
    longer = torch.zeros(ROWS, LENGTH + 1)
    assert _read(labels, "causal", virtual=2, log_probs=longer, label_mask=longer == 0).mismatch is None


def test_the_models_own_losses_come_before_a_second_computation(logits: Tensor, labels: Tensor) -> None:
    """What the loss window saw against these targets is used; against others, or of other logits, by nobody."""
    targets = torch.cat([labels[:, 1:], torch.full((ROWS, 1), IGNORE)], 1)
    nll = torch.arange(10.0).view(ROWS, LENGTH)
    nll[:, 0] = _expected(logits, labels, 1)[:, 1]  # the first of a row is compared with the logits
    seen = TokenLosses(nll=nll.flatten(), targets=targets.flatten())
    found = _read(labels, "causal", [seen], logits=logits)
    assert torch.equal(found.nll[0, 1:3], nll[0, :2]) and found.nll[0, 2] == 1.0
    assert not bool(found.mismatch)
    assert bool(_read(labels, "causal", [seen], logits=logits / 2).mismatch)
    other = TokenLosses(nll=nll.flatten(), targets=(targets + 1).flatten())
    assert bool(_read(labels, "causal", [other], logits=logits).mismatch)
    fewer = TokenLosses(nll=torch.zeros(3), targets=torch.zeros(3, dtype=torch.long))
    assert _close(_read(labels, "causal", [fewer], logits=logits).nll, _expected(logits, labels, 1))


def test_loss_that_drops_the_last_position(logits: Tensor, labels: Tensor) -> None:
    """A loss over length - 1 positions a row (the usual ``logits[:, :-1]``) is matched too."""
    seen = TokenLosses(nll=torch.arange(8.0), targets=labels[:, 1:].flatten())
    found = _read(labels, "causal", [seen], logits=logits)
    assert found.nll[1, 1:].tolist() == [4.0, 5.0, 6.0, 7.0]


def test_chunks_change_nothing(logits: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reducing the logits piece by piece gives the same losses, also where pieces do not fit evenly."""
    whole = _read(labels, "causal", logits=logits).nll
    monkeypatch.setattr(evidence, "_CHUNK_BYTES", 4 * VOCABULARY * 3)
    assert torch.equal(_read(labels, "causal", logits=logits).nll, whole)


def test_half_precision_logits_are_reduced_in_float32(logits: Tensor, labels: Tensor) -> None:
    """bfloat16 logits: the log-sum-exp is taken in float32."""
    half = logits.to(torch.bfloat16)
    assert _close(_read(labels, "causal", logits=half).nll, _expected(half, labels, 1))


@pytest.mark.parametrize(("alignment", "tokens"), [("causal", 7), ("masked", 9)])
def test_loss_with_its_count(alignment: str, tokens: int, labels: Tensor) -> None:
    """Only a mean loss: times what it was divided by, over the target tokens of this batch."""
    found = _read(labels, alignment, loss=torch.tensor(2.0))
    assert (found.kind, found.nll) == ("loss", None)
    assert int(found.token_count) == tokens
    assert float(found.nll_sum) == 2.0 * tokens
    call = {"labels": labels, "num_items_in_batch": 100}
    assert float(_read(labels, alignment, loss=torch.tensor(2.0), call=call).nll_sum) == 200.0


def test_loss_without_a_target() -> None:
    """A batch without a target has a mean of 0/0 and adds nothing."""
    found = _read(torch.full((2, 3), IGNORE), "causal", loss=torch.tensor(float("nan")))
    assert (float(found.nll_sum), int(found.token_count)) == (0.0, 0)


def test_unknown_alignment(logits: Tensor, labels: Tensor) -> None:
    """Of an unknown class only watched losses are believed, shifted or not; a bare loss or bare logits are not."""
    for targets, ahead in ((labels, 0), (torch.cat([labels[:, 1:], torch.full((ROWS, 1), IGNORE)], 1), 1)):
        seen = TokenLosses(nll=torch.ones(10), targets=targets.flatten())
        found = _read(labels, None, [seen], logits=logits)
        assert float(found.nll.sum()) == int((labels[:, ahead:] != IGNORE).sum())
    for output in ({"logits": logits}, {"loss": torch.tensor(2.0)}):
        absent = _read(labels, None, **output)
        assert isinstance(absent, Absent)
        assert "shifts" in absent.reason


def test_what_cannot_be_matched(logits: Tensor, labels: Tensor) -> None:
    """Wrong lengths, wrong shapes, nothing at all: absent, and the reason names what was found."""
    longer = _read(labels[:, :3], "causal", logits=logits)
    assert longer.reason == "the logits have 5 positions and the labels 3: they cannot be matched"
    short = _read(labels, "causal", log_probs=torch.zeros(ROWS, 2))
    assert "log-probabilities have 2 positions" in short.reason
    assert "two-dimensional" in _read(labels.flatten(), "causal", logits=logits).reason
    assert "no loss, no logits" in _read(labels, "causal").reason


def test_output_containers() -> None:
    """A mapping, a tuple (loss, logits), a bare loss tensor in a tuple, and anything else."""
    loss, logits = torch.tensor(1.0), torch.zeros(1, 2, 3)
    assert ForwardOutput.of({"loss": loss, "logits": logits}).logits is not None
    pair = ForwardOutput.of((loss, logits))
    assert pair.loss is not None
    assert pair.logits is not None
    assert ForwardOutput.of((logits,)).loss is None  # the first entry is no loss: nothing is guessed
    assert ForwardOutput.of((loss,)).logits is None
    assert ForwardOutput.of("text") == ForwardOutput(None, None, None, None)


def test_alignment_of_classes() -> None:
    """What a class declares: causal, masked, seq2seq; a subclass like its parent; a stranger: unknown."""
    from transformers import BertConfig, BertForMaskedLM, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

    class Own(LlamaForCausalLM):
        pass

    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = tiny.llama(20, hidden=8, layers=1)
    assert alignment_of(model) == "causal"
    assert alignment_of(Own(model.config)) == "causal"
    assert alignment_of(tiny.lora(model)) == "causal"
    assert alignment_of(BertForMaskedLM(BertConfig(vocab_size=20, **small))) == "masked"
    seq2seq = T5Config(vocab_size=20, d_model=8, d_kv=8, d_ff=8, num_layers=1, num_heads=1)
    assert alignment_of(T5ForConditionalGeneration(seq2seq)) == "seq2seq"
    assert alignment_of(nn.Linear(2, 2)) is None
