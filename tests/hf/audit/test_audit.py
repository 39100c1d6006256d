"""The audit in a real Trainer: every mistake is found in a set-up that has it, and not in the corrected one."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoTokenizer, BitsAndBytesConfig, LlamaForCausalLM, Trainer

from ko_cpt_callbacks import ConfigurationError, Finding, KoCPTCallback
from ko_cpt_callbacks.hf.audit import data as audit_data
from ko_cpt_callbacks.hf.audit import model as audit_model
from ko_cpt_callbacks.hf.audit.run import retention_mistakes
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.watch.spec import WatchSpec

pytestmark = pytest.mark.both_versions

VOCABULARY = len(tiny.byte_level_tokenizer())
TEXTS = tiny.korean()
ROWS = [row for row in tiny.rows(TEXTS, tiny.byte_level_tokenizer(), 60) if len(row["input_ids"]) > 40]
TRAIN, EVAL = ROWS[:12], ROWS[12:20]
AUDIT = {
    "no-trainable-parameters", "adapters-frozen", "embeddings-frozen", "embeddings-untied", "half-precision-modules",
    "prompt-in-loss", "worst-model-kept", "eval-in-training", "note",
}  # fmt: skip


def _llama(**config: Any) -> LlamaForCausalLM:
    return tiny.llama(VOCABULARY, layers=1, **config)


def _lora(model: Any, **settings: Any) -> Any:
    return get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", **settings))


def _findings(
    model: Any,
    folder: Path,
    told: dict[str, Any] | None = None,
    rows: Any = None,
    evaluation: Any = None,
    trains: bool = False,
    **settings: Any,
) -> dict[str, Finding]:
    """The audit's findings of a training of one step, by code.

    Args:
        model: What is trained; where nothing requires a gradient, training must die in its first backward pass.
        folder: ``output_dir``.
        told: For the callback.
        rows: To train on.
        evaluation: To evaluate.
        trains: Whether it trains although nothing requires a gradient.
        settings: For the Trainer.
    """
    callback = KoCPTCallback(outputs=[], **(told or {}))
    trainer = tiny.trainer(
        model, folder, TRAIN if rows is None else rows, evaluation, callbacks=[callback], **{"max_steps": 1, **settings}
    )
    dies = not any(parameter.requires_grad for parameter in trainer.model.parameters())
    with pytest.raises(RuntimeError, match="does not require grad") if dies and not trains else nullcontext():
        trainer.train()
    found = [finding for finding in callback.findings if finding.code in AUDIT]
    assert len({finding.code for finding in found}) == len(found)
    return {finding.code: finding for finding in found}


def _frozen(model: Any) -> Any:
    return model.requires_grad_(False)


# -- the model ----


def test_nothing_trainable(tmp_path: Path) -> None:
    """Everything frozen: an error before the first backward pass dies; one trainable norm is enough to be silent."""
    found = _findings(_frozen(_llama()), tmp_path)
    assert list(found) == ["no-trainable-parameters"]
    assert found["no-trainable-parameters"].severity == "error" and found["no-trainable-parameters"].asks_to_stop
    model = _frozen(_llama())
    model.model.norm.requires_grad_(True)
    assert _findings(model, tmp_path) == {}


def test_nothing_trainable_with_gradients_of_the_inputs(tmp_path: Path) -> None:
    """As with gradient checkpointing on adapters: the Trainer trains nothing without a word; the audit says so."""
    model = _frozen(_llama())
    model.enable_input_require_grads()
    before = copy.deepcopy(model.state_dict())
    assert list(_findings(model, tmp_path, trains=True)) == ["no-trainable-parameters"]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_adapters_loaded_for_inference(tmp_path: Path) -> None:
    """Adapters loaded without ``is_trainable``: an error, and only this one; loaded to be trained: silent."""
    _lora(_llama()).save_pretrained(str(tmp_path / "adapter"))
    found = _findings(PeftModel.from_pretrained(_llama(), str(tmp_path / "adapter")), tmp_path)
    assert list(found) == ["adapters-frozen"]
    assert found["adapters-frozen"].variant == "nothing-trained"
    trainable = PeftModel.from_pretrained(_llama(), str(tmp_path / "adapter"), is_trainable=True)
    assert _findings(trainable, tmp_path) == {}


def test_adapters_frozen_beside_trained_modules(tmp_path: Path) -> None:
    """Adapters frozen while modules saved beside them are trained, as in a stage of embeddings: a note; while
    something of the base is trained too: an error that says that others are."""
    model = _lora(_llama(), modules_to_save=["embed_tokens", "lm_head"])
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.requires_grad_(False)
    found = _findings(model, tmp_path)["adapters-frozen"]
    assert (found.variant, found.severity, found.asks_to_stop) == ("beside-trained", Severity.INFO, False)
    assert found.values["trainable_parameters"] == 2 * VOCABULARY * 32
    model.get_base_model().model.norm.requires_grad_(True)
    found = _findings(model, tmp_path)["adapters-frozen"]
    assert (found.variant, found.severity, found.asks_to_stop) == ("others-trained", Severity.ERROR, True)
    assert found.values["trainable_parameters"] == 2 * VOCABULARY * 32 + 32
    assert _findings(_lora(_llama(), modules_to_save=["embed_tokens", "lm_head"]), tmp_path) == {}


def test_a_second_adapter_may_be_frozen(tmp_path: Path) -> None:
    """A frozen adapter beside a trained one (a reference to compare with) is no mistake."""
    model = _lora(_llama())
    model.add_adapter("reference", LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    assert _findings(model, tmp_path) == {}


EXTRA = [f"새말{number}" for number in range(20)]


def _extended() -> Any:
    tokenizer = copy.deepcopy(tiny.byte_level_tokenizer())
    tokenizer.add_tokens(EXTRA)
    return tokenizer


def _resized(mean_resizing: bool = True, **config: Any) -> LlamaForCausalLM:
    model = _llama(**config)
    model.resize_token_embeddings(VOCABULARY + len(EXTRA), mean_resizing=mean_resizing)
    return model


@pytest.mark.parametrize("tied", [False, True])
def test_new_tokens_that_cannot_learn(tied: bool, tmp_path: Path) -> None:
    """LoRA on a model with 20 new tokens, embeddings frozen: a warning with the line that trains them; then silent."""
    found = _findings(_lora(_resized(tie_word_embeddings=tied)), tmp_path, processing_class=_extended())
    assert list(found) == ["embeddings-frozen"]
    finding = found["embeddings-frozen"]
    assert (finding.severity, finding.variant, finding.values["new_tokens"]) == ("warning", "untrained", 20)
    both = ["embed_tokens", "lm_head"]
    settings: dict[str, Any] = (
        {"modules_to_save": both[:1], "ensure_weight_tying": True} if tied else {"modules_to_save": both}
    )
    text = "modules_to_save=['embed_tokens'], ensure_weight_tying=True" if tied else f"modules_to_save={both}"
    assert text in str(finding.values["fix"])
    corrected = _lora(_resized(tie_word_embeddings=tied), **settings)
    assert _findings(corrected, tmp_path, processing_class=_extended()) == {}


def test_new_tokens_of_which_one_side_is_frozen(tmp_path: Path) -> None:
    """Full training with the head frozen: the finding names the head and the call that unfreezes it."""
    model = _resized()
    model.lm_head.requires_grad_(False)
    finding = _findings(model, tmp_path, processing_class=_extended())["embeddings-frozen"]
    assert finding.values["frozen"] == ["lm_head"]
    assert "model.get_output_embeddings().requires_grad_(True)." in str(finding.values["fix"])
    assert _findings(_resized(), tmp_path, processing_class=_extended()) == {}


def test_new_tokens_trained_by_their_rows(tmp_path: Path) -> None:
    """``trainable_token_indices`` trains the new rows: silent."""
    new = list(range(VOCABULARY, VOCABULARY + len(EXTRA)))
    model = _lora(_resized(), trainable_token_indices={"embed_tokens": new, "lm_head": new})
    assert _findings(model, tmp_path, processing_class=_extended()) == {}


def test_new_tokens_that_an_earlier_stage_trained(tmp_path: Path) -> None:
    """New rows that differ as trained rows do: an info, because a stage may freeze them on purpose."""
    model = _resized()
    _findings(model, tmp_path, processing_class=_extended(), max_steps=2)
    with torch.no_grad():  # what many steps on all new tokens would do
        model.model.embed_tokens.weight[VOCABULARY:] += 0.01 * torch.randn(len(EXTRA), 32)
        model.lm_head.weight[VOCABULARY:] += 0.01 * torch.randn(len(EXTRA), 32)
    model.model.embed_tokens.requires_grad_(False)
    model.lm_head.requires_grad_(False)
    finding = _findings(model, tmp_path, processing_class=_extended())["embeddings-frozen"]
    assert (finding.severity, finding.variant) == ("info", "maybe-trained")


def test_growth_is_seen_by_the_checkpoint(tmp_path: Path) -> None:
    """A model whose inner number was set anew is known by the configuration on disk, without a network."""
    _llama().save_pretrained(str(tmp_path / "base"))
    model = LlamaForCausalLM.from_pretrained(str(tmp_path / "base"))
    model.resize_token_embeddings(VOCABULARY + len(EXTRA))
    model.model.vocab_size = VOCABULARY + len(EXTRA)
    assert list(_findings(_lora(model), tmp_path, processing_class=_extended())) == ["embeddings-frozen"]


def _again(model: Any, folder: Path, **settings: Any) -> LlamaForCausalLM:
    """Saved by one script, loaded by the next: the configuration has one number, and the model was built with it."""
    model.save_pretrained(str(folder))
    return LlamaForCausalLM.from_pretrained(str(folder), **settings)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_resize_that_an_earlier_script_saved(tied: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    """The second of two scripts sees no growth, only twenty rows that are still what the resize made of them: a warning
    that names the twenty; trained in this run, or by an earlier one, silent."""
    model = _resized(tie_word_embeddings=tied)
    found = _findings(_lora(_again(model, tmp_path / "m", dtype=dtype)), tmp_path, processing_class=_extended())
    assert list(found) == ["embeddings-frozen"]
    finding = found["embeddings-frozen"]
    assert (finding.severity, finding.variant, finding.values["new_tokens"]) == ("warning", "alike", 20)
    assert finding.values["frozen"] == (["model.embed_tokens"] if tied else ["model.embed_tokens", "lm_head"])
    trains = {"modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": tied}
    assert _findings(_lora(_again(model, tmp_path / "m"), **trains), tmp_path, processing_class=_extended()) == {}
    with torch.no_grad():  # what many steps on all new tokens would do
        for part in (model.model.embed_tokens, model.lm_head):
            part.weight[VOCABULARY:] += 0.01 * torch.randn(len(EXTRA), 32)
    assert _findings(_lora(_again(model, tmp_path / "t")), tmp_path, processing_class=_extended()) == {}


def test_a_saved_resize_under_eight_bits(tmp_path: Path) -> None:
    """The second script loads the resized model in 8 bits and trains LoRA: its embeddings tell all the same."""
    eight_bit = {"quantization_config": BitsAndBytesConfig(load_in_8bit=True), "device_map": "cpu"}
    model = prepare_model_for_kbit_training(
        _again(_resized(), tmp_path / "m", **eight_bit), use_gradient_checkpointing=False
    )
    finding = _findings(_lora(model), tmp_path, processing_class=_extended())["embeddings-frozen"]
    assert (finding.variant, finding.values["new_tokens"]) == ("alike", 20)


@pytest.mark.parametrize("frozen", ["model.embed_tokens", "lm_head"])
def test_one_side_that_an_earlier_script_trained(frozen: str, tmp_path: Path) -> None:
    """Rows that are alike in one matrix and trained in the other: only the first is named."""
    model = _resized()
    with torch.no_grad():
        trained = model.lm_head if frozen == "model.embed_tokens" else model.model.embed_tokens
        trained.weight[VOCABULARY:] += 0.01 * torch.randn(len(EXTRA), 32)
    found = _findings(_lora(_again(model, tmp_path / "m")), tmp_path, processing_class=_extended())
    assert found["embeddings-frozen"].values["frozen"] == [frozen]


def test_growth_that_cannot_be_seen_is_silent(tmp_path: Path) -> None:
    """Saved after a resize that draws new rows as the first ones were drawn: unknown, and nothing is said."""
    model = _again(_resized(mean_resizing=False), tmp_path / "resized")
    assert _findings(_lora(model), tmp_path, processing_class=_extended()) == {}


def test_rows_that_a_publisher_keeps_free_are_no_new_tokens(tmp_path: Path) -> None:
    """Alike rows of special tokens, of reserved names, or of no token at all are the base model's own."""
    for name, told in (("<spare{}>", {}), ("unused{}", {}), ("새말{}", {"special_tokens": True})):
        tokenizer = copy.deepcopy(tiny.byte_level_tokenizer())
        tokenizer.add_tokens([name.format(number) for number in range(20)], **told)
        model = _again(_resized(), tmp_path / "resized")
        assert _findings(_lora(model), tmp_path, processing_class=tokenizer) == {}
    assert _findings(_lora(_again(_resized(), tmp_path / "resized")), tmp_path) == {}


def test_new_tokens_between_special_ones(tmp_path: Path) -> None:
    """Special tokens added behind the text do not hide it, and are not counted."""
    tokenizer = _extended()
    tokenizer.add_tokens([f"<role{number}>" for number in range(4)], special_tokens=True)
    model = _llama()
    model.resize_token_embeddings(len(tokenizer))
    finding = _findings(_lora(_again(model, tmp_path / "m")), tmp_path, processing_class=tokenizer)["embeddings-frozen"]
    assert finding.values["new_tokens"] == 20


def _spare(fill: float | None) -> LlamaForCausalLM:
    """A base model with more rows than tokens, as Qwen has; drawn like the others, or all the same."""
    model = tiny.llama(704, layers=1)
    if fill is not None:
        with torch.no_grad():
            for part in (model.model.embed_tokens, model.lm_head):
                part.weight[VOCABULARY:] = fill
    return model


@pytest.mark.parametrize("fill", [0.0, 1e-3])
@pytest.mark.parametrize("saved", [False, True])
def test_new_tokens_in_spare_rows(fill: float, saved: bool, tmp_path: Path) -> None:
    """No resize is needed, and none is seen: the tokens fall into rows that nothing has trained, in this script or an
    earlier one."""
    tiny.byte_level_tokenizer().save_pretrained(str(tmp_path / "tokenizer"))
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "tokenizer"))
    assert _findings(_lora(_spare(fill)), tmp_path / "base", processing_class=tokenizer) == {}
    tokenizer.add_tokens(EXTRA)
    if saved:
        tokenizer.save_pretrained(str(tmp_path / "grown"))
        tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "grown"))
    model = _again(_spare(fill), tmp_path / "m") if saved else _spare(fill)
    finding = _findings(_lora(model), tmp_path, processing_class=tokenizer)["embeddings-frozen"]
    assert (finding.severity, finding.values["new_tokens"]) == ("warning", 20)
    whole = _lora(_spare(fill), modules_to_save=["embed_tokens", "lm_head"])
    assert _findings(whole, tmp_path, processing_class=tokenizer) == {}


def test_new_tokens_in_spare_rows_that_tell_nothing(tmp_path: Path) -> None:
    """Spare rows drawn like all others: an info where the tokenizer shows that it has grown since it was read, and
    silence where it does not."""
    tiny.byte_level_tokenizer().save_pretrained(str(tmp_path / "tokenizer"))
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "tokenizer"))
    tells = bool(tokenizer.init_kwargs.get("added_tokens_decoder"))  # since transformers 5
    tokenizer.add_tokens(EXTRA)
    found = _findings(_lora(_spare(None)), tmp_path, processing_class=tokenizer)
    assert [(item.severity, item.variant) for item in found.values()] == [("info", "maybe-trained")] * tells
    tokenizer.save_pretrained(str(tmp_path / "grown"))
    again = AutoTokenizer.from_pretrained(str(tmp_path / "grown"))
    assert _findings(_lora(_spare(None)), tmp_path, processing_class=again) == {}


def test_a_vocabulary_of_no_round_size(tmp_path: Path) -> None:
    """600 rows became 620: an info with the size that would be one; padded to it, or never resized, silent."""

    def sizes(model: Any) -> list[Any]:
        callback = KoCPTCallback(outputs=[])
        tiny.trainer(
            model, tmp_path, TRAIN, None, callbacks=[callback], max_steps=1, processing_class=_extended()
        ).train()
        return [(i.severity, i.values["rows"], i.values["padded_rows"])
                for i in callback.findings if i.code == "embeddings-not-padded"]  # fmt: skip

    assert sizes(_resized()) == [("info", 620, 640)]
    assert sizes(_lora(_again(_resized(), tmp_path / "m"))) == [("info", 620, 640)]
    padded = _llama()
    padded.resize_token_embeddings(VOCABULARY + len(EXTRA), pad_to_multiple_of=64)
    assert sizes(padded) == []
    assert sizes(tiny.llama(VOCABULARY + len(EXTRA), layers=1)) == []


def test_a_pad_token_or_spare_rows_are_no_new_tokens(tmp_path: Path) -> None:
    """One added pad token, and rows up to a multiple of 64 without a token: nothing needs to learn."""
    tokenizer = copy.deepcopy(tiny.byte_level_tokenizer())
    tokenizer.add_special_tokens({"pad_token": "<fill>"})
    model = _llama()
    model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    assert model.config.vocab_size > len(tokenizer) > VOCABULARY
    assert _findings(_lora(model), tmp_path, processing_class=tokenizer) == {}


def test_untied_in_silence(tmp_path: Path) -> None:
    """Copies of both sides of a tied model: a warning; each of its two corrections is silent."""
    both = {"modules_to_save": ["embed_tokens", "lm_head"]}
    found = _findings(_lora(_llama(tie_word_embeddings=True), **both), tmp_path)
    assert list(found) == ["embeddings-untied"]
    assert found["embeddings-untied"].values["trained"] == ["model.embed_tokens", "lm_head"]
    assert _findings(_lora(_llama(tie_word_embeddings=True), **both, ensure_weight_tying=True), tmp_path) == {}
    told = _lora(_llama(tie_word_embeddings=True), **both)
    told.config.tie_word_embeddings = False
    assert _findings(told, tmp_path) == {}


@pytest.mark.parametrize(
    "settings",
    [{}, {"trainable_token_indices": {"embed_tokens": [5, 6]}}, {"trainable_token_indices": [5, 6]}],
    ids=["frozen", "rows of a name", "rows"],
)
def test_tied_and_kept_so_is_silent(settings: dict[str, Any], tmp_path: Path) -> None:
    """A tied model with frozen embeddings, or with single rows that PEFT keeps tied, is one matrix still."""
    assert _findings(_lora(_llama(tie_word_embeddings=True), **settings), tmp_path) == {}


def test_lora_on_one_side_of_tied_embeddings(tmp_path: Path) -> None:
    """LoRA on ``embed_tokens`` alone changes the input and not the output: untied too."""
    config = {"r": 4, "target_modules": ["q_proj", "embed_tokens"], "task_type": "CAUSAL_LM"}
    model = get_peft_model(_llama(tie_word_embeddings=True), LoraConfig(**config))
    found = _findings(model, tmp_path)
    assert found["embeddings-untied"].values["trained"] == ["model.embed_tokens"]
    tied = get_peft_model(_llama(tie_word_embeddings=True), LoraConfig(**config, ensure_weight_tying=True))
    assert _findings(tied, tmp_path) == {}


def test_half_precision_under_eight_bits(tmp_path: Path) -> None:
    """An 8-bit model whose embeddings are trained in fp16: a warning; after PEFT's preparation, or in bf16, silent."""
    both = ["embed_tokens", "lm_head"]

    def loaded(dtype: torch.dtype) -> Any:
        _llama().save_pretrained(str(tmp_path / "base"))
        eight_bit = BitsAndBytesConfig(load_in_8bit=True)
        return LlamaForCausalLM.from_pretrained(
            str(tmp_path / "base"), quantization_config=eight_bit, device_map="cpu", dtype=dtype
        )

    found = _findings(_lora(loaded(torch.float16), modules_to_save=both), tmp_path)
    assert list(found) == ["half-precision-modules"]
    finding = found["half-precision-modules"]
    assert finding.variant == "quantized" and finding.values["quantization"] == "8-bit"
    assert "model = prepare_model_for_kbit_training(model)" in str(finding.values["fix"])
    prepared = prepare_model_for_kbit_training(loaded(torch.float16), use_gradient_checkpointing=False)
    assert _findings(_lora(prepared, modules_to_save=both), tmp_path) == {}
    assert _findings(_lora(loaded(torch.bfloat16), modules_to_save=both), tmp_path) == {}


def test_half_precision_without_quantisation(tmp_path: Path) -> None:
    """A model trained in pure fp16: a warning that names bf16; frozen fp16 weights under fp32 adapters are silent."""
    found = _findings(_llama().half(), tmp_path)
    assert list(found) == ["half-precision-modules"]
    assert found["half-precision-modules"].variant == "plain"
    assert "…" in found["half-precision-modules"].values["modules"]
    assert _findings(_llama().to(torch.bfloat16), tmp_path) == {}
    assert _findings(_lora(_llama().half()), tmp_path) == {}


def test_a_model_without_data_is_audited(tmp_path: Path) -> None:
    """On the meta device there is no number to look at: the flags are judged all the same, and nothing raises."""
    with torch.device("meta"):
        model = _lora(_resized(False, tie_word_embeddings=True), modules_to_save=["embed_tokens", "lm_head"])
    arguments = tiny.trainer(_llama(), tmp_path).args
    kinds = [kind for kind, _ in audit_model.model_mistakes(model, _extended(), arguments)]
    assert kinds == ["embeddings-untied", "embeddings-not-padded"]
    with torch.device("meta"):
        frozen = _lora(_resized(False))
    _, (kind, values) = audit_model.model_mistakes(frozen, _extended(), arguments)
    assert kind == "embeddings-frozen" and values["untrained"] is False


# -- labels and arguments ----


def _prompted(share: int) -> list[dict[str, Any]]:
    return [{**row, "labels": [-100] * share + row["input_ids"][share:]} for row in TRAIN]


def test_prompts_that_are_labelled(tmp_path: Path) -> None:
    """With task sft: all text labelled is a warning after the first step; masked prompts are silent, and so is cpt."""
    found = _findings(_llama(), tmp_path, {"task": "sft"})
    assert list(found) == ["prompt-in-loss"] and found["prompt-in-loss"].step == 1
    assert found["prompt-in-loss"].values["rows"] == 3
    assert _findings(_llama(), tmp_path, {"task": "sft"}, _prompted(9)) == {}
    assert _findings(_llama(), tmp_path) == {}


def test_one_masked_prompt_in_the_batch_is_enough(tmp_path: Path) -> None:
    """A batch in which one row has a masked prompt comes from a collator that knows of prompts."""
    rows = [*_prompted(9)[:1], *TRAIN[1:3]]
    assert _findings(_llama(), tmp_path, {"task": "sft"}, rows) == {}


@pytest.mark.parametrize(
    ("metric", "given", "keeps"),
    [
        ("eval_ppl", {}, "highest"),
        ("bits_per_byte", {}, "highest"),
        ("eval_ppl", {"greater_is_better": False}, None),
        ("eval_exact_loss", {}, None),
        ("eval_loss", {"greater_is_better": True}, "highest"),
        ("eval_accuracy", {"greater_is_better": False}, "lowest"),
        ("eval_accuracy", {}, None),
        ("eval_score", {"greater_is_better": False}, None),
    ],
)
def test_the_worst_model_is_kept(metric: str, given: dict[str, Any], keeps: str | None, tmp_path: Path) -> None:
    """A metric that is better the lower, taken for one that is better the higher, and the other way round."""
    saves = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 5, "save_steps": 5}
    found = _findings(
        _llama(), tmp_path, evaluation=EVAL, metric_for_best_model=metric, load_best_model_at_end=True, **saves,
        eval_on_start=True, **given, compute_metrics=lambda _: {"accuracy": 0.5, "score": 0.5},
    )  # fmt: skip
    assert list(found) == ([] if keeps is None else ["worst-model-kept"])
    if keeps is not None:
        assert found["worst-model-kept"].variant == keeps


def test_the_worst_model_is_what_the_trainer_keeps(tmp_path: Path) -> None:
    """The fact behind the finding: with ``eval_ppl`` the best checkpoint is the one with the highest perplexity."""
    callback = KoCPTCallback(outputs=[])
    trainer = tiny.trainer(
        _llama(), tmp_path, TRAIN, EVAL, callbacks=[callback], max_steps=4, metric_for_best_model="eval_ppl",
        eval_strategy="steps", save_strategy="steps", eval_steps=2, save_steps=2,
    )  # fmt: skip
    trainer.train()
    levels = {row["step"]: row["eval_ppl"] for row in trainer.state.log_history if "eval_ppl" in row}
    assert trainer.state.best_global_step == max(levels, key=levels.__getitem__) != min(levels, key=levels.__getitem__)
    assert [item.code for item in callback.findings if item.severity != "info"] == ["worst-model-kept"]


class Worse(Trainer):
    """Scales the head up after every step, so that every evaluation is worse than the last."""

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Train, then spoil."""
        loss = super().training_step(model, *args, **kwargs)
        with torch.no_grad():
            model.lm_head.weight.mul_(3)
        return loss


@pytest.mark.parametrize(
    ("strategies", "lost"),
    [(("epoch", "best"), True), (("epoch", "epoch"), False), (("steps", "best"), False)],
    ids=str,
)
def test_a_stop_that_is_not_saved(strategies: tuple[str, str], lost: bool, tmp_path: Path) -> None:
    """``save_strategy="best"`` with evaluations by the epoch: a stop leaves no checkpoint, and the audit says so."""
    callback = KoCPTCallback(outputs=[], patience=1)
    evaluates, saves = strategies
    often = {"eval_steps": 2} if evaluates == "steps" else {}
    trainer = tiny.trainer(
        _llama(), tmp_path, TRAIN[:6], EVAL, callbacks=[callback], max_steps=20, eval_strategy=evaluates, **often,
        save_strategy=saves, metric_for_best_model="eval_loss", trainer_class=Worse, eval_on_start=False,
    )  # fmt: skip
    trainer.train()
    stopped = callback.stop_reason
    assert stopped is not None and stopped.code == "no-improvement" and trainer.state.global_step < 20
    assert (not (tmp_path / f"checkpoint-{stopped.step}").exists()) is lost
    assert [item.variant for item in callback.findings if item.code == "worst-model-kept"] == ["stop-unsaved"] * lost
    assert "worst-model-kept" not in _findings(
        _llama(), tmp_path / "b", evaluation=EVAL, eval_strategy=evaluates, **often, save_strategy=saves,
        metric_for_best_model="eval_loss",
    )  # fmt: skip


def test_no_evaluation_at_the_start(tmp_path: Path) -> None:
    """Evaluation without ``eval_on_start``: an info; with it, with an own ``evaluate`` before, or without any, none."""
    steps = {"eval_strategy": "steps", "eval_steps": 5}
    found = _findings(_llama(), tmp_path, evaluation=EVAL, **steps)
    assert [(item.topic, item.severity) for item in found.values()] == [("no-first-evaluation", "info")]
    assert _findings(_llama(), tmp_path, evaluation=EVAL, eval_on_start=True, **steps) == {}
    assert _findings(_llama(), tmp_path, evaluation=EVAL) == {}
    callback = KoCPTCallback(outputs=["files"])
    trainer = tiny.trainer(_llama(), tmp_path, TRAIN, EVAL, callbacks=[callback], max_steps=1, **steps)
    trainer.evaluate()
    trainer.train()
    assert "no-first-evaluation" not in {item.topic for item in callback.findings}


SETS = {"ko": EVAL, "news": EVAL[:3]}


@pytest.mark.parametrize(
    ("sets", "retention", "task", "missing"),
    [
        (SETS, ("old", "ko"), "sft", ["old"]),
        (EVAL, ("old<5%",), "cpt", ["old"]),
        (SETS, ("en",), "cpt", ["en"]),
        (SETS, ("en",), "sft", None),
        (SETS, ("en", "news"), "cpt", None),
        (EVAL, ("en",), "cpt", None),
        ({"ko_eval": EVAL, "en_eval": EVAL}, ("en",), "cpt", None),
        (SETS, ("eval_news",), "cpt", None),
    ],
)
def test_retention_names_that_are_no_sets(sets: Any, retention: tuple[str, ...], task: str, missing: Any) -> None:
    """A name of one's own that no set has; a usual name only where several sets are pretrained on and none is kept."""
    trainer, args = SimpleNamespace(eval_dataset=sets), SimpleNamespace(eval_strategy="steps")
    watch = WatchSpec(retention=retention, task=task)
    noted = list(retention_mistakes(watch, args, trainer))  # type: ignore[arg-type]
    shown = list(sets) if isinstance(sets, dict) else ["eval"]
    assert noted == ([("retention-not-evaluated", {"names": missing, "sets": shown})] if missing else [])
    args.eval_strategy = "no"
    assert list(retention_mistakes(watch, args, trainer)) == []  # type: ignore[arg-type]


def test_a_retention_name_that_is_no_set_is_said(tmp_path: Path) -> None:
    """In a training: one info with the name and the sets."""
    settings = {"eval_strategy": "steps", "eval_steps": 5, "eval_on_start": True}
    found = _findings(_llama(), tmp_path, {"retention": ["old"]}, evaluation={"ko": EVAL}, **settings)
    assert [(item.severity, item.topic) for item in found.values()] == [("info", "retention-not-evaluated")]


@pytest.mark.parametrize("strategy", ["no", "epoch"])
def test_steps_that_are_ignored(strategy: str, tmp_path: Path) -> None:
    """``eval_steps`` without ``eval_strategy="steps"``: an info that names both; without, or with it, none."""
    known = {"evaluation": EVAL, "eval_on_start": True}
    found = _findings(_llama(), tmp_path, **known, eval_strategy=strategy, eval_steps=50)
    assert [(item.severity, item.topic) for item in found.values()] == [("info", "eval-steps-ignored")]
    assert dict(found["note"].values) == {"eval_steps": 50, "eval_strategy": strategy}
    assert _findings(_llama(), tmp_path, **known, eval_strategy=strategy) == {}
    assert _findings(_llama(), tmp_path, **known, eval_strategy="steps", eval_steps=50) == {}


def test_a_filter_that_hides_nan(tmp_path: Path) -> None:
    """Label smoothing keeps the loss from the callback: the filter is named once; without filter, or counted, not."""
    smoothed = {"label_smoothing_factor": 0.1, "max_steps": 3}
    found = _findings(_llama(), tmp_path, **smoothed)
    assert [(item.topic, item.step) for item in found.values()] == [("nan-filter-on", 1)]
    assert _findings(_llama(), tmp_path, logging_nan_inf_filter=False, **smoothed) == {}
    assert _findings(_llama(), tmp_path, max_steps=3) == {}


# -- data ----


def _dataset(rows: list[dict[str, Any]]) -> Any:
    import datasets

    return datasets.Dataset.from_list(rows)


KINDS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "list": list,
    "datasets": _dataset,
    "shuffled": lambda rows: _dataset(rows).shuffle(seed=1),
    "torch format": lambda rows: _dataset(rows).with_format("torch"),
    "subset": lambda rows: torch.utils.data.Subset(rows[::-1], list(range(len(rows)))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_rows_in_the_training_set(kind: str, tmp_path: Path) -> None:
    """Five of eight evaluation rows are trained on: a warning with how many of how many; with none, silent."""
    made = KINDS[kind]
    found = _findings(_llama(), tmp_path, rows=made([*TRAIN, *EVAL[:5]]), evaluation={"ko": made(EVAL)})
    assert list(found) == ["eval-in-training"]
    finding = found["eval-in-training"]
    assert (finding.split, finding.variant) == ("eval_ko", "whole")
    assert finding.values == {"found": 5, "compared": 8, "set_rows": 8, "train_compared": 17, "train_rows": 17}
    assert _findings(_llama(), tmp_path, rows=made(TRAIN), evaluation={"ko": made(EVAL)}) == {}


def test_each_set_has_its_own_finding(tmp_path: Path) -> None:
    """Two sets in the training set are two findings, the clean one between them none."""
    callback = KoCPTCallback(outputs=[])
    sets = {"a": EVAL[:3], "b": EVAL[3:6], "c": EVAL[6:]}
    tiny.trainer(_llama(), tmp_path, [*TRAIN, *EVAL[:3], *EVAL[6:]], sets, callbacks=[callback], max_steps=1).train()
    assert [item.split for item in callback.findings if item.code == "eval-in-training"] == ["eval_a", "eval_c"]


def _mistakes(train: Any, evaluation: Any) -> list[dict[str, Any]]:
    return [values for _, values in audit_data.data_mistakes(train, {"eval": evaluation})]


def test_texts_are_compared_where_there_are_no_tokens() -> None:
    """Rows of text, as before tokenisation; short ones repeat by chance and do not count."""
    texts = [{"text": text} for text in TEXTS if len(text) >= 64]
    assert _mistakes(texts, texts[:3])[0]["found"] == 3
    assert _mistakes(_dataset(texts), _dataset(texts[:3]))[0]["found"] == 3
    assert _mistakes([{"text": "네."}] * 50, [{"text": "네."}] * 5) == []
    assert _mistakes([{"input_ids": [1, 2, 3]}] * 50, [{"input_ids": [1, 2, 3]}] * 5) == []


def test_rows_that_may_repeat_by_chance() -> None:
    """Rows of 32 tokens, or of 64 characters, are compared; shorter by one they are not, in lists and datasets."""
    for count, found in ((31, 0), (32, 3)):
        rows = [{"input_ids": list(range(first, first + count))} for first in range(3)]
        for made in (list, _dataset):
            assert sum(item["found"] for item in _mistakes(made(rows), made(rows))) == found
    for count, found in ((63, 0), (64, 3)):
        rows = [{"text": mark * count} for mark in "가나다"]
        for made in (list, _dataset):
            assert sum(item["found"] for item in _mistakes(made(rows), made(rows))) == found


def test_rows_of_every_form_are_the_same_row() -> None:
    """Lists, arrays, tensors, a tokenizer's own rows and a dataset's are compared by their tokens."""
    ids = [row["input_ids"] for row in EVAL]
    from transformers import BatchEncoding

    forms: list[Any] = [
        [{"input_ids": np.array(row)} for row in ids],
        [{"input_ids": torch.tensor(row)} for row in ids],
        [BatchEncoding({"input_ids": row}) for row in ids],
        tuple({"input_ids": row} for row in ids),
        _dataset(EVAL).map(lambda row: {"length": len(row["input_ids"])}),
    ]
    for form in forms:
        assert _mistakes(form, EVAL)[0]["found"] == len(EVAL)


class Counting(torch.utils.data.Dataset[dict[str, Any]]):
    """A dataset of the user's own, which counts how often it is asked."""

    asked = 0

    def __len__(self) -> int:
        """As many as there are."""
        return len(EVAL)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Count."""
        self.asked += 1
        return EVAL[index]


def test_no_code_of_the_user_is_run() -> None:
    """Own datasets, transforms, streams and generators are not read, and nothing is said of them."""
    own = Counting()
    stream = _dataset(EVAL).to_iterable_dataset()
    called: list[int] = []
    transformed = _dataset(EVAL).with_transform(lambda batch: called.append(1) or batch)
    for data in (own, stream, transformed, (row for row in EVAL), None, [], [1, 2], torch.zeros(40, 40)):
        assert _mistakes(data, EVAL) == []
        assert _mistakes(EVAL, data) == []
    assert own.asked == 0 and called == []


def test_a_sample_is_bounded_and_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large set evenly spread rows are read, no more than told, and the numbers say so."""
    monkeypatch.setattr(audit_data, "_TRAIN_ROWS", 100)
    rows = [{"input_ids": [number] * 32} for number in range(1000)]
    (values,) = _mistakes(rows, rows[300:500])
    assert values == {
        "split": "eval", "found": 20, "compared": 200, "set_rows": 200, "train_compared": 100, "train_rows": 1000,
    }  # fmt: skip
    for size, most in ((1, 5), (7, 7), (1000, 100), (1000, 999), (64, 64), (65, 65)):
        seen: list[int] = []
        kept = audit_data._digests(lambda at, seen=seen: seen.extend(at) or [None] * len(at), size, most, 1e9)
        assert len(list(kept)) == len(seen)
        assert len(set(seen)) == len(seen) == min(size, most) and max(seen) < size


def test_time_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time is up the reading ends, and the row says how far it came."""
    clock = iter(range(10**6))
    monkeypatch.setattr(audit_data.time, "monotonic", lambda: float(next(clock)) / 8)
    rows = [{"input_ids": [number] * 32} for number in range(10_000)]
    (values,) = _mistakes(rows, rows[:500])
    assert values["compared"] < 500 and values["train_compared"] < 10_000


def test_random_state_and_order_are_untouched(tmp_path: Path) -> None:
    """Training with the audit sees the same batches, dropout and loss as without, for both kinds of data."""

    def losses(folder: Path, made: Callable[..., Any], callbacks: list[Any]) -> tuple[list[float], Any]:
        torch.manual_seed(0)
        trainer = tiny.trainer(
            _llama(attention_dropout=0.1), folder, made([*TRAIN, *EVAL]), made(EVAL), callbacks=callbacks, max_steps=6
        )
        trainer.train()
        state = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
        return [row["loss"] for row in trainer.state.log_history if "loss" in row], state

    for kind in ("list", "datasets"):
        with_audit = losses(tmp_path, KINDS[kind], [callback := KoCPTCallback(outputs=[])])
        assert "eval-in-training" in {item.code for item in callback.findings}
        assert with_audit == losses(tmp_path, KINDS[kind], [])


# -- targets ----


def _refused(folder: Path, target: str, evaluation: Any, **settings: Any) -> str | None:
    trainer = tiny.trainer(
        _llama(), folder, TRAIN, evaluation, callbacks=[KoCPTCallback(targets=[target])], max_steps=1, **settings
    )
    try:
        trainer.train()
    except ConfigurationError as error:
        assert trainer.state.global_step == 0 and not (folder / "ko_cpt").exists()
        return str(error)
    return None


def test_a_target_on_a_set_that_does_not_exist(tmp_path: Path) -> None:
    """An error before the first step, nothing written, with what was meant; the corrected target trains."""
    sets = {"ko": EVAL[:4], "en": EVAL[4:]}
    said = _refused(tmp_path / "a", "eval_kr_exact_loss<3", sets)
    assert said == (
        "target 'eval_kr_exact_loss<3.0@end': found the evaluation set 'eval_kr', expected one of the Trainer's "
        "(eval_dataset): eval_en, eval_ko; name one of them. Did you mean 'eval_ko_exact_loss<3.0@end'?"
    )
    assert _refused(tmp_path / "b", "eval_ko_exact_loss<3", sets) is None


@pytest.mark.parametrize(
    ("target", "sets", "meant"),
    [
        ("exact_loss<3", {"ko": EVAL}, "'eval_ko_exact_loss<3.0@end'"),
        ("eval_ko_ppl<20", EVAL, "'eval_ppl<20.0@end'"),
        ("ko_ppl<20", {"ko": EVAL[:4], "en": EVAL[4:]}, "'eval_ko_ppl<20.0@end'"),
        ("eval_ko_ppl<20", {"ko": EVAL}, None),
        ("test_ppl<20", {"ko": EVAL}, None),
        ("eval_ko_ppl<20", None, None),
    ],
)
def test_what_was_meant(target: str, sets: Any, meant: str | None, tmp_path: Path) -> None:
    """The one set there is, the set without its prefix; a set that an own ``evaluate`` may bring is left alone."""
    said = _refused(tmp_path, target, sets)
    assert (said is None) if meant is None else said is not None and said.endswith(f"Did you mean {meant}?")


def test_a_callback_that_joins_late_refuses_too(tmp_path: Path) -> None:
    """By ``add_callback`` and by ``attach`` it knows the Trainer as well."""
    for join in ("add", "attach"):
        trainer = tiny.trainer(_llama(), tmp_path, TRAIN, {"ko": EVAL}, max_steps=1)
        callback = KoCPTCallback(targets=["eval_kr_ppl<20"], outputs=[])
        trainer.add_callback(callback) if join == "add" else callback.attach(trainer)
        with pytest.raises(ConfigurationError, match="eval_ko"):
            trainer.train()


# -- all together ----


def test_a_stop_at_the_first_step(tmp_path: Path) -> None:
    """A finding of the audit in ``stop_on`` ends the run after one step."""
    callback = KoCPTCallback(outputs=[], stop_on=["eval-in-training"])
    trainer = tiny.trainer(_llama(), tmp_path, [*TRAIN, *EVAL], EVAL, callbacks=[callback], max_steps=9)
    trainer.train()
    assert trainer.state.global_step == 1
    assert callback.stop_reason is not None and callback.stop_reason.code == "eval-in-training"


def test_a_check_that_fails_is_reported_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect in one check is one warning; training goes on and the other checks speak."""
    from ko_cpt_callbacks.hf.audit import run as audit_run

    def broken(*args: Any) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(audit_run, "model_mistakes", broken)
    found = _findings(_llama(), tmp_path, rows=[*TRAIN, *EVAL], evaluation=EVAL)
    assert list(found) == ["eval-in-training"]
    assert sum("ZeroDivisionError" in record.getMessage() for record in caplog.records) == 1


def test_a_resumed_run_says_it_once(tmp_path: Path) -> None:
    """The mistake is still there at the resume: a second row, no second finding."""
    for resume in (None, True):
        callback = KoCPTCallback(outputs=["files"])
        trainer = tiny.trainer(
            _llama(), tmp_path, [*TRAIN, *EVAL], EVAL, callbacks=[callback], max_steps=4, save_strategy="steps",
            save_steps=2,
        )  # fmt: skip
        if resume is None:
            trainer.args.max_steps = 2
        trainer.train(resume_from_checkpoint=resume)
    rows = (tmp_path / "ko_cpt" / "rows.jsonl").read_text("utf-8")
    assert rows.count('"setup": "eval-in-training"') == 2
    assert [item.code for item in callback.findings].count("eval-in-training") == 1
