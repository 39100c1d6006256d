"""Labels that were taken out of the call: the cross-entropy of the batch all the same, or none and the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
)

from ko_cpt_callbacks import KoCPTCallback

pytestmark = pytest.mark.both_versions

ROWS = tiny.uneven_rows(8)
VOCABULARY = len(tiny.byte_level_tokenizer())
EXACT = 1e-5


def _row(model: nn.Module, folder: Path, rows: list[dict[str, Any]] = ROWS, **settings: Any) -> dict[str, Any]:
    """The row of ``evaluate()`` in ``log_history``."""
    trainer = tiny.trainer(model, folder, None, rows, callbacks=[KoCPTCallback(outputs=[])], **settings)
    trainer.evaluate()
    return dict(trainer.state.log_history[-1])


def _assert_exact(row: dict[str, Any], reference: float) -> None:
    if "eval_exact_loss_absent" in row:
        pytest.fail(row["eval_exact_loss_absent"])
    assert row["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)
    assert row["eval_exact_loss_se"] > 0


def _assert_absent(row: dict[str, Any], reason: str) -> None:
    assert "eval_exact_loss" not in row and "eval_ppl" not in row
    assert reason in row["eval_exact_loss_absent"]


def _third(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    logits = outputs["logits"][:, :-1].float()
    return 0.3 * F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())


class _Pops(Trainer):  # type: ignore[misc]
    """A loss of the user's own, far from the cross-entropy."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        labels = inputs.pop("labels")
        outputs = self.call(model, inputs)
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs
        loss = logits.float().mean() + 0.0 * labels.sum()
        return (loss, outputs) if return_outputs else loss

    def call(self, model: Any, inputs: Any) -> Any:
        return model(**inputs)


class _ByPosition(_Pops):
    def call(self, model: Any, inputs: Any) -> Any:
        return model(inputs["input_ids"], inputs["attention_mask"])


class _Copies(_Pops):
    def call(self, model: Any, inputs: Any) -> Any:
        return model(**{name: value.clone() for name, value in inputs.items()})


class _OtherTokens(_Pops):
    def call(self, model: Any, inputs: Any) -> Any:
        return model(**{**inputs, "input_ids": inputs["input_ids"].flip(0)})


class _OtherOrder(_Pops):
    def call(self, model: Any, inputs: Any) -> Any:
        return model(**{name: value.flip(0) for name, value in inputs.items()})


class _FirstRow(_Pops):
    def call(self, model: Any, inputs: Any) -> Any:
        return model(**{name: value[:1] for name, value in inputs.items()})


class _OwnStep(Trainer):  # type: ignore[misc]
    """A prediction step that hands nothing on to transformers' own."""

    def prediction_step(self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None) -> Any:
        labels = inputs["labels"]
        with torch.no_grad():
            outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        return outputs.logits.mean() + 0.0 * labels.sum(), None, None


def test_label_smoothing(tmp_path: Path) -> None:
    """Label smoothing: the plain cross-entropy of the labels, not the smoothed one, with its error bar and bytes."""
    model = tiny.llama(VOCABULARY)
    reference = tiny.exact_loss(model, ROWS)
    row = _row(model, tmp_path, label_smoothing_factor=0.3)
    _assert_exact(row, reference)
    assert row["eval_rows"] == len(ROWS) and row["eval_bits_per_byte"] > 0 and row["eval_fingerprint"]
    plain = _row(model, tmp_path / "plain")
    assert row["eval_fingerprint"] == plain["eval_fingerprint"] and row["eval_bytes"] == plain["eval_bytes"]


def test_loss_function_of_the_trainer(tmp_path: Path) -> None:
    """compute_loss_func of a third of the cross-entropy: the exact loss is the whole of it."""
    model = tiny.llama(VOCABULARY)
    reference = tiny.exact_loss(model, ROWS)
    row = _row(model, tmp_path, compute_loss_func=_third)
    _assert_exact(row, reference)
    assert row["eval_loss"] < 0.5 * reference


@pytest.mark.parametrize("trainer_class", [_Pops, _ByPosition, _Copies, _OwnStep])
def test_loss_of_a_trainer_of_ones_own(trainer_class: type[Trainer], tmp_path: Path) -> None:
    """compute_loss that pops the labels, names no argument or copies them, and a prediction step of one's own."""
    model = tiny.llama(VOCABULARY)
    reference = tiny.exact_loss(model, ROWS)
    _assert_exact(_row(model, tmp_path, trainer_class=trainer_class), reference)


def test_labels_of_other_tokens(tmp_path: Path) -> None:
    """A loss that gives the model other tokens than the batch's: its labels are not theirs, and the reason says so."""
    row = _row(tiny.llama(VOCABULARY), tmp_path, trainer_class=_OtherTokens)
    _assert_absent(row, "do not belong to the tokens")


def test_mask_of_other_rows(tmp_path: Path) -> None:
    """Rows in another order than the batch's: its labels lie on their pads, and no padding is said to be trained on."""
    callback = KoCPTCallback(outputs=[])
    trainer = tiny.trainer(
        tiny.llama(VOCABULARY), tmp_path, None, ROWS, callbacks=[callback], trainer_class=_OtherOrder
    )
    trainer.evaluate()
    _assert_absent(trainer.state.log_history[-1], "do not belong to the tokens of that call")
    assert "padding-in-loss" not in {finding.code for finding in callback.findings}


def test_a_part_of_the_batch(tmp_path: Path) -> None:
    """A loss over the first row alone is not the batch's."""
    rows = ROWS[:6]  # two whole batches: a batch of one row would be its own first row
    _assert_absent(_row(tiny.llama(VOCABULARY), tmp_path, rows, trainer_class=_FirstRow), "no labels of shape")


def test_labels_that_are_a_text_of_their_own(tmp_path: Path) -> None:
    """Labels beside the input (a response beside its prompt), popped: a causal model's loss of them is not guessed."""
    rows = [{"input_ids": row["input_ids"], "labels": row["input_ids"][::-1]} for row in ROWS]
    _assert_absent(_row(tiny.llama(VOCABULARY), tmp_path, rows, trainer_class=_Pops), "do not belong to the tokens")


@pytest.mark.parametrize("shifted", [True, False])
def test_labels_given_with_the_call_that_are_other_tokens(shifted: bool, tmp_path: Path) -> None:
    """Shifted once before the model shifts them, or a text of their own: the loss is of no text, and says so."""
    rows = [
        {"input_ids": ids, "labels": [*ids[1:], -100] if shifted else ids[::-1]}
        for ids in (row["input_ids"] for row in ROWS)
    ]
    _assert_absent(_row(tiny.llama(VOCABULARY), tmp_path, rows), "not the tokens of the model's input")


def test_a_label_where_the_mask_hides_the_input(tmp_path: Path) -> None:
    """The end of a text, labeled on the first pad behind it: no token sees what stands there, and the loss is exact."""

    def collate(features: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = tiny.collate(features)
        return {**batch, "attention_mask": (batch["input_ids"] != 2).long()}

    end = tiny.byte_level_tokenizer().eos_token_id
    rows = [{"input_ids": [*row["input_ids"], 2], "labels": [*row["input_ids"], end]} for row in ROWS]
    row = _row(tiny.llama(VOCABULARY), tmp_path, rows, data_collator=collate)
    assert "eval_exact_loss_absent" not in row, row["eval_exact_loss_absent"]
    assert row["eval_tokens"] == sum(len(item["input_ids"]) - 1 for item in rows)


def test_prompts_left_out(tmp_path: Path) -> None:
    """Labels that leave a prompt out, popped: only the rest is scored."""
    rows = [
        {"input_ids": row["input_ids"], "labels": [-100] * 3 + list(row["input_ids"][3:])} for row in ROWS
    ]
    model = tiny.llama(VOCABULARY)
    reference = tiny.exact_loss(model, rows)
    row = _row(model, tmp_path, rows, label_smoothing_factor=0.1)
    _assert_exact(row, reference)
    assert row["eval_tokens"] == sum(len(item["input_ids"]) - 3 for item in rows)


def test_adapter(tmp_path: Path) -> None:
    """LoRA with trained embeddings, under label smoothing."""
    model = tiny.lora(tiny.llama(VOCABULARY))
    reference = tiny.exact_loss(model, ROWS)
    _assert_exact(_row(model, tmp_path, label_smoothing_factor=0.1), reference)


def test_prompt_tuning(tmp_path: Path) -> None:
    """Virtual tokens in front of every row: the first token is predicted too."""
    from peft import PromptTuningConfig, get_peft_model

    torch.manual_seed(1)
    settings = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = get_peft_model(tiny.llama(VOCABULARY), settings).eval()
    total, tokens = 0.0, 0
    for item in ROWS:
        ids = torch.tensor([item["input_ids"]])
        with torch.no_grad():
            log_probs = torch.log_softmax(model(input_ids=ids, attention_mask=ids * 0 + 1).logits.double()[0], -1)
        total -= float(log_probs[2:-1].gather(-1, ids[0, :, None]).sum())
        tokens += ids.shape[1]
    row = _row(model, tmp_path, compute_loss_func=lambda outputs, labels, **_: outputs["logits"].mean())
    _assert_exact(row, total / tokens)
    assert row["eval_tokens"] == tokens


def test_masked_model(tmp_path: Path) -> None:
    """A masked model under label smoothing: labels are not shifted, and are not the tokens either."""
    torch.manual_seed(0)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        )
    )
    rows = [
        {
            "input_ids": [7 if at % 3 == 1 else token for at, token in enumerate(row["input_ids"])],
            "labels": [token if at % 3 == 1 else -100 for at, token in enumerate(row["input_ids"])],
        }
        for row in ROWS
    ]
    reference = tiny.exact_loss(model, rows, shift=0)
    _assert_exact(_row(model, tmp_path, rows, label_smoothing_factor=0.1), reference)


def test_sequence_to_sequence(tmp_path: Path) -> None:
    """T5 under label smoothing, its decoder's tokens made by the collator: the loss of the labels."""
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
    rows = [
        {"input_ids": row["input_ids"], "labels": other["input_ids"][1:]}
        for row, other in zip(ROWS, reversed(ROWS), strict=True)
    ]

    def collate(features: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = tiny.collate(features)
        batch["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
        return batch

    reference = tiny.exact_loss(model, rows, shift=0)
    row = _row(model, tmp_path, rows, label_smoothing_factor=0.1, data_collator=collate)
    _assert_exact(row, reference)


class _NoLoss(LlamaForCausalLM):
    """A model that leaves the loss to others."""

    bare: bool

    def forward(self, *args: Any, labels: Any = None, **kwargs: Any) -> Any:
        kwargs.pop("num_items_in_batch", None)
        logits = super().forward(*args, **kwargs).logits
        return (logits,) if self.bare else {"logits": logits}


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("pops", [False, True])
def test_model_without_a_loss(bare: bool, pops: bool, tmp_path: Path) -> None:
    """Logits and no loss, in a mapping or alone, with the labels in the call or out of it."""
    plain = tiny.llama(VOCABULARY)
    model = _NoLoss(plain.config)
    model.load_state_dict(plain.state_dict())
    model.bare = bare

    class Own(Trainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            labels = inputs.pop("labels") if pops else inputs["labels"]
            outputs = model(**inputs)
            logits = outputs[0] if bare else outputs["logits"]
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
            return (loss, {"loss": loss, "logits": logits}) if return_outputs else loss

    reference = tiny.exact_loss(plain, ROWS)
    _assert_exact(_row(model, tmp_path, trainer_class=Own), reference)


class _Against(Trainer):  # type: ignore[misc]
    """Each batch twice: with the adapter and without it, as preference losses and KL penalties do."""

    labelled = True

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        call = inputs if self.labelled else {name: item for name, item in inputs.items() if name != "labels"}
        outputs = model(**call)
        with torch.no_grad(), self.model.disable_adapter():
            other = model(**call)
        loss = (outputs.logits - other.logits).float().pow(2).mean()
        return (loss, outputs) if return_outputs else loss


class _AgainstUnlabelled(_Against):
    labelled = False


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("trainer_class", [_Against, _AgainstUnlabelled])
def test_a_reference_model_in_the_same_step(trainer_class: type[Trainer], new: bool, tmp_path: Path) -> None:
    """Two passes over the same labels, one without the adapter: neither is taken for the loss, new as it may be."""
    model = tiny.lora(tiny.llama(VOCABULARY), init_lora_weights=new)
    _assert_absent(_row(model, tmp_path, trainer_class=trainer_class), "with different results")


def test_the_same_pass_twice(tmp_path: Path) -> None:
    """Two passes with equal results (dropout is off in evaluation) count once."""

    class Twice(_Pops):
        def call(self, model: Any, inputs: Any) -> Any:
            model(**inputs)
            return model(**inputs)

    model = tiny.llama(VOCABULARY)
    reference = tiny.exact_loss(model, ROWS)
    row = _row(model, tmp_path, trainer_class=Twice)
    _assert_exact(row, reference)
    assert row["eval_rows"] == len(ROWS)


def test_generation_beside_popped_labels(tmp_path: Path) -> None:
    """Text generated from the batch's own tokens within the step adds nothing and hides nothing."""

    class Generates(_Pops):
        def call(self, model: Any, inputs: Any) -> Any:
            outputs = model(**inputs)
            model.generate(**inputs, max_new_tokens=2, do_sample=False, pad_token_id=2)
            return outputs

    model = tiny.llama(VOCABULARY)
    reference = tiny.exact_loss(model, ROWS)
    _assert_exact(_row(model, tmp_path, trainer_class=Generates), reference)


def test_two_labelled_passes_of_which_one_has_none(tmp_path: Path) -> None:
    """A pass with labels in its call counts before one that the same step makes without."""

    class Both(Trainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            with torch.no_grad(), self.model.disable_adapter():
                model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
            outputs = model(**inputs)
            return (outputs.loss, outputs) if return_outputs else outputs.loss

    model = tiny.lora(tiny.llama(VOCABULARY), init_lora_weights=False)
    reference = tiny.exact_loss(model, ROWS)
    _assert_exact(_row(model, tmp_path, trainer_class=Both), reference)


def test_a_pass_outside_a_prediction_step(tmp_path: Path) -> None:
    """The same tokens between evaluations, in evaluation mode and without labels: nobody's."""
    model = tiny.llama(VOCABULARY)
    trainer = tiny.trainer(
        model, tmp_path, None, ROWS, callbacks=[KoCPTCallback(outputs=[])], label_smoothing_factor=0.1
    )
    reference = tiny.exact_loss(model, ROWS)
    model.eval()
    with torch.no_grad():
        model(**{name: item for name, item in tiny.collate(ROWS[:3]).items() if name != "labels"})
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)


def test_no_labels_anywhere(tmp_path: Path) -> None:
    """Batches without labels: that is the reason, and neither label smoothing nor compute_loss_func is blamed."""

    def collate(features: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {name: item for name, item in tiny.collate(features).items() if name != "labels"}

    class Own(Trainer):  # type: ignore[misc]
        def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            with torch.no_grad():
                return model(**inputs).logits.mean(), None, None

    row = _row(tiny.llama(VOCABULARY), tmp_path, trainer_class=Own, data_collator=collate)
    _assert_absent(row, "no labels of shape (rows, length)")
    assert "smoothing" not in row["eval_exact_loss_absent"] and "func" not in row["eval_exact_loss_absent"]


def test_another_model(tmp_path: Path) -> None:
    """A step that never calls the Trainer's model says so."""
    other = tiny.llama(VOCABULARY, seed=5)

    class Own(_Pops):
        def call(self, model: Any, inputs: Any) -> Any:
            return other(**inputs)

    row = _row(tiny.llama(VOCABULARY), tmp_path, trainer_class=Own)
    _assert_absent(row, "no forward pass of the model")


def test_memory_of_a_batch_is_let_go(tmp_path: Path) -> None:
    """Nothing keeps a batch alive once its step is over: at most the one at hand and the ones that wait."""
    import gc
    import weakref

    seen: list[weakref.ref[Tensor]] = []

    class Own(_Pops):
        def call(self, model: Any, inputs: Any) -> Any:
            outputs = model(**inputs)
            seen.append(weakref.ref(outputs["logits"]))
            gc.collect()
            assert sum(item() is not None for item in seen) <= 2
            return outputs

    rows = [row for _ in range(5) for row in ROWS]
    _row(tiny.llama(VOCABULARY), tmp_path, rows, trainer_class=Own)
    assert len(seen) == 14 and sum(item() is not None for item in seen) == 0
