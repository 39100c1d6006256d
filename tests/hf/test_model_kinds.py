"""Every kind of model and loss: the exact loss of these forward passes, or none and the reason."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from ko_cpt_callbacks import KoCPTCallback

pytestmark = pytest.mark.both_versions

ROWS = tiny.uneven_rows(8)
VOCABULARY = len(tiny.byte_level_tokenizer())
EXACT = 1e-5


def _evaluate(
    model: nn.Module, folder: Path, rows: list[dict[str, Any]] = ROWS, **settings: Any
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Result of ``evaluate()``, the row in ``log_history``, and what run.json says of the evaluation."""
    trainer = tiny.trainer(model, folder, None, rows, callbacks=[KoCPTCallback(outputs=["files"])], **settings)
    metrics = trainer.evaluate()
    run = json.loads((folder / "ko_cpt" / "run.json").read_text("utf-8"))
    return metrics, trainer.state.log_history[-1], run["evaluations"]["eval"]


def _assert_absent(found: tuple[dict[str, Any], dict[str, Any], dict[str, Any]], reason: str) -> None:
    metrics, row, noted = found
    assert "eval_exact_loss" not in row and "eval_exact_loss" not in metrics and "eval_ppl" not in row
    assert reason in row["eval_exact_loss_absent"]
    assert noted["exact_loss_absent"] == row["eval_exact_loss_absent"]
    assert "eval_exact_loss_absent" not in metrics  # a text would be plotted by trackers


def test_llama(tmp_path: Path) -> None:
    """A causal model: exact loss, its error bar, perplexity and target tokens; evidence is the logits."""
    model = tiny.llama(VOCABULARY)
    sums, counts = tiny.row_losses(model, ROWS)
    metrics, row, noted = _evaluate(model, tmp_path)
    loss = float(sums.sum() / counts.sum())
    assert row["eval_exact_loss"] == pytest.approx(loss, rel=EXACT)
    assert metrics["eval_exact_loss"] == row["eval_exact_loss"]
    assert row["eval_ppl"] == pytest.approx(math.exp(loss), rel=1e-4)
    assert row["eval_tokens"] == int(counts.sum()) and row["eval_rows"] == len(ROWS)
    residual = sums - loss * counts
    error = math.sqrt(len(ROWS) / (len(ROWS) - 1) * float((residual**2).sum())) / float(counts.sum())
    assert row["eval_exact_loss_se"] == pytest.approx(error, rel=1e-4)
    assert noted["evidence"] == "logits" and noted["error_bar"] is True


def test_gpt2(tmp_path: Path) -> None:
    """GPT-2, whose class names no loss type, is as exact as any other."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=1
        )
    )
    reference = tiny.exact_loss(model, ROWS)
    assert _evaluate(model, tmp_path)[1]["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)


def test_bfloat16(tmp_path: Path) -> None:
    """A bfloat16 model: exact with respect to the logits it gives."""
    model = tiny.llama(VOCABULARY).to(torch.bfloat16)
    reference = tiny.exact_loss(model, ROWS)
    assert _evaluate(model, tmp_path)[1]["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)


class _TupleOutput(LlamaForCausalLM):
    """A model of the user's own: (loss, logits, …)."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs).to_tuple()


def test_tuple_output(tmp_path: Path) -> None:
    """A model that returns a tuple (loss, logits, …) is exact, and so is a subclass of a known class."""
    plain = tiny.llama(VOCABULARY)
    model = _TupleOutput(plain.config)
    model.load_state_dict(plain.state_dict())
    reference = tiny.exact_loss(plain, ROWS)
    assert _evaluate(model, tmp_path)[1]["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)


def test_rows_without_a_target(tmp_path: Path) -> None:
    """A row, and a whole batch, without a single target token add nothing and are no broken batch."""
    rows = [dict(row) for row in ROWS]
    for index in (1, 3, 4, 5):
        rows[index]["labels"] = [-100] * len(rows[index]["input_ids"])
    model = tiny.llama(VOCABULARY)
    reference = tiny.exact_loss(model, rows)
    row = _evaluate(model, tmp_path, rows)[1]
    assert row["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)
    assert row["eval_rows"] == 4 and row["eval_nonfinite_batches"] == 0


def test_no_target_at_all(tmp_path: Path) -> None:
    """Without any target token there is no loss; the tokens say why."""
    rows = [{**row, "labels": [-100] * len(row["input_ids"])} for row in ROWS[:3]]
    row = _evaluate(tiny.llama(VOCABULARY), tmp_path, rows)[1]
    assert row["eval_tokens"] == 0 and "eval_exact_loss" not in row and "eval_ppl" not in row


def _masked_rows() -> list[dict[str, Any]]:
    found = []
    for row in ROWS:
        ids = list(row["input_ids"])
        labels = [token if at % 3 == 1 else -100 for at, token in enumerate(ids)]
        found.append({"input_ids": [7 if at % 3 == 1 else token for at, token in enumerate(ids)], "labels": labels})
    return found


def test_masked_language_model(tmp_path: Path) -> None:
    """BERT: labels are not shifted; exact loss over the masked tokens, no bits per byte and the reason."""
    torch.manual_seed(0)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        )
    )
    rows = _masked_rows()
    reference = tiny.exact_loss(model, rows, shift=0)
    _, row, noted = _evaluate(model, tmp_path, rows)
    assert row["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)
    assert row["eval_tokens"] == sum(token != -100 for item in rows for token in item["labels"])
    assert "eval_bits_per_byte" not in row and "masked" in row["eval_bits_per_byte_absent"]
    assert noted["bits_per_byte_absent"] == row["eval_bits_per_byte_absent"]


def _pairs() -> list[dict[str, Any]]:
    """Sources and targets of unlike lengths, some targets longer than their source."""
    return [
        {"input_ids": row["input_ids"], "labels": other["input_ids"][1:]}
        for row, other in zip(ROWS, reversed(ROWS), strict=True)
    ]


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_sequence_to_sequence(name: str, tmp_path: Path) -> None:
    """T5 and BART: labels are not shifted and have a length of their own; exact, no bits per byte and the reason."""
    torch.manual_seed(0)
    model: Any
    if name == "t5":
        model = T5ForConditionalGeneration(
            T5Config(
                vocab_size=VOCABULARY,
                d_model=32,
                d_kv=16,
                d_ff=32,
                num_layers=1,
                num_heads=2,
                pad_token_id=2,
                decoder_start_token_id=2,
            )
        )
    else:
        model = BartForConditionalGeneration(
            BartConfig(
                vocab_size=VOCABULARY,
                d_model=32,
                encoder_layers=1,
                decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=32,
                decoder_ffn_dim=32,
                max_position_embeddings=64,
                pad_token_id=2,
                bos_token_id=0,
                eos_token_id=1,
                decoder_start_token_id=1,
            )
        )
    rows = _pairs()
    reference = tiny.exact_loss(model, rows, shift=0)
    row = _evaluate(model, tmp_path, rows)[1]
    assert row["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)
    assert row["eval_tokens"] == sum(len(item["labels"]) for item in rows)
    assert "eval_bits_per_byte" not in row and "seq2seq" in row["eval_bits_per_byte_absent"]


def test_generation_is_never_counted(tmp_path: Path) -> None:
    """predict_with_generate: the generated passes add nothing, the one pass with labels counts once."""
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

    torch.manual_seed(0)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCABULARY,
            d_model=32,
            d_kv=16,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            pad_token_id=2,
            decoder_start_token_id=2,
        )
    )
    rows = _pairs()[:4]
    reference = tiny.exact_loss(model, rows, shift=0)
    row = _evaluate(
        model,
        tmp_path,
        rows,
        trainer_class=Seq2SeqTrainer,
        args_class=Seq2SeqTrainingArguments,
        predict_with_generate=True,
        generation_max_length=4,
    )[1]
    assert row["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)


def _prompt_learning(kind: str) -> Any:
    from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model

    settings = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3}
    config = {
        "prompt": PromptTuningConfig,
        "p-tuning": PromptEncoderConfig,
        "prefix": PrefixTuningConfig,
    }[kind](**settings)
    torch.manual_seed(1)
    return get_peft_model(tiny.llama(VOCABULARY), config)


def _prompt_reference(model: Any, rows: list[dict[str, Any]]) -> tuple[float, int]:
    """Row by row: with virtual tokens in front of it the first token is predicted too."""
    total, tokens = 0.0, 0
    model.eval()
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.double()[0]
        ahead = logits.shape[0] - ids.shape[1]
        first = 0 if ahead else 1
        log_probs = torch.log_softmax(logits, -1)
        for at in range(first, ids.shape[1]):
            total -= float(log_probs[ahead + at - 1, ids[0, at]])
            tokens += 1
    return total / tokens, tokens


@pytest.mark.parametrize("kind", ["prompt", "p-tuning", "prefix"])
def test_prompt_learning(kind: str, tmp_path: Path) -> None:
    """PEFT's virtual tokens: exact over the tokens that are really predicted, in training counted the same."""
    model = _prompt_learning(kind)
    reference, tokens = _prompt_reference(model, ROWS)
    trainer = tiny.trainer(model, tmp_path, ROWS[:3], ROWS, callbacks=[KoCPTCallback(outputs=[])], max_steps=1)
    trainer.evaluate()
    row = trainer.state.log_history[-1]
    if "eval_exact_loss_absent" in row:
        pytest.fail(row["eval_exact_loss_absent"])
    assert row["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)
    assert row["eval_tokens"] == tokens
    trainer.train()
    first = 0 if kind != "prefix" else 1
    assert trainer.state.log_history[-2]["tokens_seen"] == sum(len(item["input_ids"]) - first for item in ROWS[:3])


SAME_SHAPE = [{"input_ids": row["input_ids"][:5]} for row in ROWS[:3]]  # one shape: one compilation


@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_by_argument(backend: str, tmp_path: Path) -> None:
    """torch_compile=True: exact in evaluation, counted in training."""
    model = tiny.llama(VOCABULARY, layers=1, hidden=16)
    reference = tiny.exact_loss(model, SAME_SHAPE)
    trainer = tiny.trainer(
        model,
        tmp_path,
        SAME_SHAPE,
        SAME_SHAPE,
        callbacks=[KoCPTCallback(outputs=[])],
        torch_compile=True,
        torch_compile_backend=backend,
        max_steps=1,
    )
    trainer.evaluate()
    row = trainer.state.log_history[-1]
    assert row["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)
    if backend == "eager":
        trainer.train()
        row = trainer.state.log_history[-2]
        assert row["nonfinite_steps"] == 0 and row["tokens_seen"] == 12


@pytest.mark.usefixtures("compiling")
def test_compiled_by_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate's launcher asks for compilation by the environment alone: exact, and no hook breaks the graph."""
    model = tiny.llama(VOCABULARY, layers=1, hidden=16)
    reference = tiny.exact_loss(model, SAME_SHAPE)
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    trainer = tiny.trainer(model, tmp_path, None, SAME_SHAPE, callbacks=[KoCPTCallback(outputs=[])])
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)
    assert not model.lm_head._forward_hooks


@pytest.mark.usefixtures("compiling")
def test_compiled_in_place(tmp_path: Path) -> None:
    """model.compile() before the Trainer is built: exact."""
    model = tiny.llama(VOCABULARY, layers=1, hidden=16)
    reference = tiny.exact_loss(model, SAME_SHAPE)
    model.compile(backend="eager")
    assert _evaluate(model, tmp_path, SAME_SHAPE)[1]["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)


class _Own(nn.Module):
    """A module of nobody's family with a loss of its own."""

    def __init__(self, shift: int, head: bool, logits: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCABULARY, 16)
        self.head = nn.Linear(16, VOCABULARY)
        self.shift, self.known, self.with_logits = shift, head, logits

    def get_output_embeddings(self) -> nn.Module | None:
        return self.head if self.known else None

    def forward(self, input_ids: Any, attention_mask: Any = None, labels: Any = None) -> dict[str, Any]:
        logits = self.head(self.embedding(input_ids))
        length = logits.shape[1] - self.shift
        loss = F.cross_entropy(logits[:, :length].flatten(0, 1), labels[:, self.shift :].flatten())
        return {"loss": loss, "logits": logits} if self.with_logits else {"loss": loss}

    def reference(self, rows: list[dict[str, Any]]) -> float:
        total, tokens = 0.0, 0
        for row in rows:
            ids = torch.tensor(row["input_ids"])
            with torch.no_grad():
                log_probs = torch.log_softmax(self.head(self.embedding(ids)).double(), -1)
            for at in range(self.shift, len(ids)):
                total -= float(log_probs[at - self.shift, ids[at]])
                tokens += 1
        return total / tokens


@pytest.mark.parametrize("shift", [0, 1])
def test_unknown_module_with_an_output_embedding(shift: int, tmp_path: Path) -> None:
    """A module transformers does not know: what its own loss was computed against tells whether it shifts."""
    model = _Own(shift, head=True, logits=True)
    reference = model.reference(ROWS)
    assert _evaluate(model, tmp_path)[1]["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)


def test_unknown_module(tmp_path: Path) -> None:
    """Without an output embedding nobody can tell whether its loss shifts: absent, and that is the reason."""
    _assert_absent(_evaluate(_Own(1, head=False, logits=True), tmp_path), "whether this model's loss shifts")


def test_unknown_module_without_logits(tmp_path: Path) -> None:
    """Only a loss, and not known over how many tokens: absent with the reason."""
    _assert_absent(_evaluate(_Own(1, head=True, logits=False), tmp_path), "whether this model's loss shifts")


def test_half_broken_evaluation(tmp_path: Path) -> None:
    """NaN in some batches: the exact loss is infinite, so that nothing can take it for success; batches counted."""

    class Broken(LlamaForCausalLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            if kwargs["input_ids"].shape[0] < 3:  # the last, unequal batch
                output.loss, output.logits = output.loss * float("nan"), output.logits * float("nan")
            return output

    row = _evaluate(Broken(tiny.llama(VOCABULARY).config), tmp_path)[1]
    assert row["eval_exact_loss"] == math.inf and row["eval_nonfinite_batches"] == 1
    assert "eval_ppl" not in row and "eval_exact_loss_se" not in row and "eval_bits_per_byte" not in row


def test_positions_that_do_not_match(tmp_path: Path) -> None:
    """Logits of another length than the labels are not guessed at: absent with both lengths."""

    class Longer(LlamaForCausalLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            output.logits = F.pad(output.logits, (0, 0, 2, 0))
            return output

    _assert_absent(_evaluate(Longer(tiny.llama(VOCABULARY).config), tmp_path), "cannot be matched")
