"""Outputs without logits, as fused losses give them: exact by other means, or absent with the reason of the case."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaForCausalLM, MixtralConfig, MixtralForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from ko_cpt_callbacks import KoCPTCallback
from ko_cpt_callbacks.hf.measure import head_scores

pytestmark = pytest.mark.both_versions

ROWS = tiny.uneven_rows(8)
VOCABULARY = len(tiny.byte_level_tokenizer())
EXACT = 1e-5


class EmptyLogits:
    """What Unsloth puts in the place of logits: everything that is asked of it raises, or prints, or is None."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return (lambda *args, **kwargs: None) if name == "to" else self._raise

    def __getitem__(self, item: Any) -> Any:
        self._raise()

    def __eq__(self, other: object) -> bool:
        return type(other).__name__ == "EmptyLogits"

    __hash__ = object.__hash__

    def _raise(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("Unsloth: Logits are empty from 2024.11 onwards.")


def _fused_loss(states: Tensor, head: nn.Linear, labels: Tensor, count: Any, cap: float | None, scale: float) -> Tensor:
    """Cross-entropy of hidden states, a few positions at a time, as the kernels do it; head never called."""
    wanted = F.pad(labels[:, 1:], (0, 1), value=-100).flatten()
    flat, total = states.reshape(-1, states.shape[-1]), states.new_zeros(())
    for start in range(0, len(wanted), 7):
        logits = F.linear(flat[start : start + 7], head.weight).float() * scale
        logits = logits if cap is None else torch.tanh(logits / cap) * cap
        total = total + F.cross_entropy(logits, wanted[start : start + 7], ignore_index=-100, reduction="sum")
    return total / ((wanted != -100).sum() if count is None else count)


def fuse(model: Any, change: Callable[..., Tensor] | None = None, *, logits: Any = None, hooks: bool = True) -> Any:
    """``model`` with the forward pass of a fused loss: a loss and no logits with labels, its own without.

    Args:
        change: What the model does to the loss and the labels: called with (loss of labels, labels, positions, count).
        logits: What stands in the logits' place.
        hooks: Whether the decoder is called as a module, so that hooks see its output.
    """
    plain, scale = model.forward, getattr(model.config, "logit_scale", None) or 1.0
    scale = scale / (getattr(model.config, "logits_scaling", None) or 1.0)
    cap = getattr(model.config, "final_logit_softcapping", None)

    def forward(
        input_ids: Any = None,
        attention_mask: Any = None,
        labels: Any = None,
        position_ids: Any = None,
        num_items_in_batch: Any = None,
        packed_seq_lengths: Any = None,
        **kwargs: Any,
    ) -> Any:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
        if labels is None:
            return plain(**inputs, **kwargs)
        decoder = model.model if hooks else model.model.forward
        states = decoder(**inputs, use_cache=False).last_hidden_state

        def loss_of(targets: Tensor, count: Any) -> Tensor:
            return _fused_loss(states, model.lm_head, targets, count, cap, scale)

        if packed_seq_lengths is not None:  # no token is predicted from the document before
            starts = packed_seq_lengths.cumsum(0)[:-1]
            labels = labels.flatten().index_fill(0, starts, -100).view(labels.shape)
        loss = loss_of(labels, num_items_in_batch)
        if change is not None:
            loss = change(loss_of, labels, position_ids, num_items_in_batch)
        return CausalLMOutputWithPast(loss=loss, logits=logits)

    model.forward = forward
    return model


def _plain_mean(loss_of: Any, labels: Tensor, positions: Any, count: Any) -> Tensor:
    return loss_of(labels, None)


def _scaled(loss_of: Any, labels: Tensor, positions: Any, count: Any) -> Tensor:
    return loss_of(labels, count) / 931.0


def _router(loss_of: Any, labels: Tensor, positions: Any, count: Any) -> Tensor:
    return loss_of(labels, count) + 1.0


def _without_starts(loss_of: Any, labels: Tensor, positions: Any, count: Any) -> Tensor:
    return loss_of(labels if positions is None else labels.masked_fill(positions == 0, -100), None)


def _row(model: nn.Module, folder: Path, rows: Any = ROWS, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row of ``evaluate()`` in ``log_history``, and what run.json says of the evaluation."""
    trainer = tiny.trainer(model, folder, None, rows, callbacks=[KoCPTCallback(outputs=["files"])], **settings)
    trainer.evaluate()
    run = json.loads((folder / "ko_cpt" / "run.json").read_text("utf-8"))
    return dict(trainer.state.log_history[-1]), run["evaluations"]["eval"]


def _assert_exact(row: dict[str, Any], reference: float) -> None:
    if "eval_exact_loss_absent" in row:
        pytest.fail(row["eval_exact_loss_absent"])
    assert row["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)


CHANGES = {"fused": None, "plain-mean": _plain_mean, "scaled": _scaled, "router": _router}


@pytest.mark.parametrize("change", CHANGES)
def test_hidden_states(change: str, tmp_path: Path) -> None:
    """Whatever the fused loss is, hidden states times head are the model's logits: exact, with everything on top."""
    model = tiny.llama(VOCABULARY)
    plain, _ = _row(tiny.llama(VOCABULARY), tmp_path / "plain")
    reference = tiny.exact_loss(model, ROWS)
    row, noted = _row(fuse(model, CHANGES[change]), tmp_path / "fused")
    _assert_exact(row, reference)
    assert noted["evidence"] == "hidden_states" and noted["error_bar"] is True
    for name in ("eval_fingerprint", "eval_bytes", "eval_rows", "eval_tokens"):
        assert row[name] == plain[name]
    for name in ("eval_exact_loss_se", "eval_bits_per_byte", "eval_bits_per_byte_se"):
        assert row[name] == pytest.approx(plain[name], rel=1e-4)


@pytest.mark.parametrize("stand_in", [EmptyLogits(), torch.empty(0)], ids=["raises", "no-elements"])
def test_stand_in_for_logits(stand_in: Any, tmp_path: Path) -> None:
    """Unsloth's two kinds of empty logits: exact, and nothing raises."""
    model = tiny.llama(VOCABULARY)
    reference = tiny.exact_loss(model, ROWS)
    _assert_exact(_row(fuse(model, logits=stand_in), tmp_path)[0], reference)


def test_packed_rows_of_unsloth(tmp_path: Path) -> None:
    """Its collator gives the lengths of the documents, and its loss leaves out what the document before predicts."""
    rows = [row["input_ids"][:9] for row in ROWS[:6]]
    packed = [[*rows[start], *rows[start + 1], *rows[start + 2]] for start in (0, 3)]
    lengths = torch.tensor([len(row) for row in rows])

    def collate(features: Any) -> dict[str, Any]:
        ids = torch.tensor([feature["input_ids"] for feature in features])
        return {"input_ids": ids, "labels": ids.clone(), "packed_seq_lengths": lengths}

    model = tiny.llama(VOCABULARY)
    ids = torch.tensor(packed)
    labels = ids.clone()
    for line in (0, 1):
        labels[line, lengths[3 * line :][:2].cumsum(0)] = -100  # where a further document begins
    with torch.no_grad():
        scores = model(input_ids=ids).logits.float()
    reference = torch.nn.functional.cross_entropy(scores[:, :-1].flatten(0, 1), labels[:, 1:].flatten()).item()
    settings = {"data_collator": collate, "per_device_eval_batch_size": 2}
    features = [{"input_ids": ids} for ids in packed]
    row, noted = _row(fuse(model, logits=EmptyLogits()), tmp_path, features, **settings)
    assert noted["evidence"] == "hidden_states"
    assert row["eval_tokens"] == sum(len(ids) - 1 for ids in rows)
    assert row["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)


def test_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the pieces: the same loss."""
    monkeypatch.setattr(head_scores, "_CHUNK_BYTES", 4 * VOCABULARY * 5)
    model = tiny.llama(VOCABULARY)
    reference = tiny.exact_loss(model, ROWS)
    _assert_exact(_row(fuse(model), tmp_path)[0], reference)


def test_half_precision(tmp_path: Path) -> None:
    """A bfloat16 model: exact with respect to the logits that it would have given."""
    model = tiny.llama(VOCABULARY).to(torch.bfloat16)
    reference = tiny.exact_loss(model, ROWS)
    row, noted = _row(fuse(model), tmp_path)
    assert noted["evidence"] == "hidden_states"
    assert row["eval_exact_loss"] == pytest.approx(reference, rel=1e-4)


def test_mixed_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16=True: the head runs in the precision that the model itself runs it in."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # the arguments write it for every later Trainer
    plain, _ = _row(tiny.llama(VOCABULARY), tmp_path / "plain", bf16=True)
    row, noted = _row(fuse(tiny.llama(VOCABULARY)), tmp_path / "fused", bf16=True)
    assert noted["evidence"] == "hidden_states"
    assert row["eval_exact_loss"] == pytest.approx(plain["eval_exact_loss"], rel=1e-5)


def test_adapter_on_the_head(tmp_path: Path) -> None:
    """LoRA with a trained copy of embeddings and head: the copy is the head."""
    model = fuse(tiny.llama(VOCABULARY))
    adapted = tiny.lora(model)
    with torch.no_grad():
        adapted.base_model.model.lm_head.modules_to_save["default"].weight.mul_(1.5)
    reference = tiny.exact_loss(adapted, ROWS)
    _assert_exact(_row(adapted, tmp_path)[0], reference)


def test_prompt_tuning(tmp_path: Path) -> None:
    """Virtual tokens in front of the hidden states: every token of a row is predicted."""
    from peft import PromptTuningConfig, get_peft_model

    torch.manual_seed(1)
    settings = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    base = tiny.llama(VOCABULARY)
    plain, _ = _row(get_peft_model(base, settings), tmp_path / "plain")

    class Fused(LlamaForCausalLM):
        """PEFT hands embeddings in, not tokens."""

        def forward(self, labels: Any = None, num_items_in_batch: Any = None, **kwargs: Any) -> Any:
            if labels is None:
                return super().forward(**kwargs)
            states = self.model(**kwargs).last_hidden_state
            return CausalLMOutputWithPast(
                loss=_fused_loss(states, self.lm_head, labels, num_items_in_batch, None, 1.0), logits=None
            )

    torch.manual_seed(1)
    own = Fused(base.config)
    own.load_state_dict(base.state_dict())
    model = get_peft_model(own, settings)
    model.prompt_encoder.load_state_dict(get_peft_model(tiny.llama(VOCABULARY), settings).prompt_encoder.state_dict())
    with torch.no_grad():
        first = get_peft_model(tiny.llama(VOCABULARY), settings)
        model.prompt_encoder.default.embedding.weight.copy_(first.prompt_encoder.default.embedding.weight)
    plain, _ = _row(first, tmp_path / "first")
    row, noted = _row(model, tmp_path / "fused")
    assert noted["evidence"] == "hidden_states"
    _assert_exact(row, plain["eval_exact_loss"])
    assert row["eval_tokens"] == plain["eval_tokens"]


def _gemma() -> Any:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        final_logit_softcapping=2.0,
        attn_implementation="eager",
    )
    return Gemma2ForCausalLM(config)


def _cohere() -> Any:
    from transformers import CohereConfig, CohereForCausalLM

    config = CohereConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        logit_scale=0.0625,
    )
    return CohereForCausalLM(config)


def _granite() -> Any:
    from transformers import GraniteConfig, GraniteForCausalLM

    config = GraniteConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        logits_scaling=0.5,
    )
    return GraniteForCausalLM(config)


@pytest.mark.parametrize("build", [_gemma, _cohere, _granite])
def test_what_models_do_to_their_logits(build: Callable[[], Any], tmp_path: Path) -> None:
    """A soft cap, a factor, a divisor on the logits: read from the model, shown by a pass of its own."""
    torch.manual_seed(0)
    model = build()
    with torch.no_grad():
        model.lm_head.weight.mul_(40)
    reference = tiny.exact_loss(model, ROWS)
    row, noted = _row(fuse(model), tmp_path)
    assert noted["evidence"] == "hidden_states"
    _assert_exact(row, reference)


class _Bent(LlamaForCausalLM):
    """A model that does to its logits what no configuration says, and shows them only without labels."""

    def forward(self, labels: Any = None, num_items_in_batch: Any = None, **kwargs: Any) -> Any:
        logits = F.linear(self.model(**kwargs).last_hidden_state, self.lm_head.weight).float()
        logits = logits + torch.arange(logits.shape[-1]) / 100
        if labels is None:
            return CausalLMOutputWithPast(logits=logits)
        wanted = labels[:, 1:].flatten()
        total = F.cross_entropy(logits[:, :-1].flatten(0, 1).double(), wanted, reduction="sum").float()
        count = (wanted != -100).sum() if num_items_in_batch is None else num_items_in_batch
        return CausalLMOutputWithPast(loss=total / count)


def test_logits_that_the_head_does_not_give(tmp_path: Path) -> None:
    """Hidden states times head are not the logits: they are left alone, and the loss, once checked, is taken."""
    model = _Bent(tiny.llama(VOCABULARY).config)
    sums = counts = 0.0
    for item in ROWS:
        ids = torch.tensor([item["input_ids"]])
        with torch.no_grad():
            log_probs = torch.log_softmax(model.eval()(input_ids=ids).logits.double(), -1)[0]
        sums -= float(log_probs[:-1].gather(-1, ids[0, 1:, None]).sum())
        counts += ids.shape[1] - 1
    row, noted = _row(model, tmp_path)
    assert noted["evidence"] == "loss"
    _assert_exact(row, sums / counts)


@pytest.mark.parametrize("change", [None, _plain_mean])
def test_loss_alone(change: Any, tmp_path: Path) -> None:
    """Neither logits nor hidden states: a loss that was checked, whether or not it used the count; no error bar."""
    model = tiny.llama(VOCABULARY)
    plain, _ = _row(tiny.llama(VOCABULARY), tmp_path / "plain")
    reference = tiny.exact_loss(model, ROWS)
    row, noted = _row(fuse(model, change, hooks=False), tmp_path / "fused")
    _assert_exact(row, reference)
    assert noted["evidence"] == "loss" and noted["error_bar"] is False
    assert "no hidden states" in row["eval_error_bar_absent"]
    assert "eval_exact_loss_se" not in row and "eval_bits_per_byte_se" not in row
    for name in ("eval_fingerprint", "eval_bytes", "eval_rows", "eval_tokens"):
        assert row[name] == plain[name]
    assert row["eval_bits_per_byte"] == pytest.approx(plain["eval_bits_per_byte"], rel=EXACT)
    assert not list((tmp_path / "fused" / "ko_cpt").glob("eval_rows/*"))


@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize(("change", "exact"), [(None, True), (_router, False)])
def test_compiled(change: Any, exact: bool, tmp_path: Path) -> None:
    """A compiled forward pass is left whole, so there are no hidden states: its loss, checked, or none."""
    model = tiny.llama(VOCABULARY, layers=1, hidden=16)
    rows = [{"input_ids": row["input_ids"][:5]} for row in ROWS[:3]]  # one shape: one compilation
    reference = tiny.exact_loss(model, rows)
    row, noted = _row(fuse(model, change), tmp_path, rows, torch_compile=True, torch_compile_backend="eager")
    if exact:
        _assert_exact(row, reference)
        assert noted["evidence"] == "loss" and row["eval_bits_per_byte"] > 0
    else:
        assert "eval_exact_loss" not in row
        assert "not the cross-entropy of the labels" in row["eval_exact_loss_absent"]


@pytest.mark.parametrize("change", [_scaled, _router])
def test_loss_alone_of_another_quantity(change: Any, tmp_path: Path) -> None:
    """Neither logits nor hidden states, and a loss that is no cross-entropy: absent, with both numbers."""
    row, _ = _row(fuse(tiny.llama(VOCABULARY), change, hooks=False), tmp_path)
    assert "eval_exact_loss" not in row and "eval_ppl" not in row
    assert "the loss is not the cross-entropy of the labels" in row["eval_exact_loss_absent"]


def test_loss_alone_with_nothing_to_check_it(tmp_path: Path) -> None:
    """A model that shows no logits at all: its loss is not believed."""
    model = fuse(tiny.llama(VOCABULARY), hooks=False)
    fused = model.forward

    def forward(labels: Any = None, **kwargs: Any) -> Any:
        return CausalLMOutputWithPast() if labels is None else fused(labels=labels, **kwargs)

    model.forward = forward
    row, _ = _row(model, tmp_path)
    assert "eval_exact_loss" not in row
    assert "cannot be checked" in row["eval_exact_loss_absent"]


@pytest.mark.parametrize(("change", "exact"), [(None, True), (_plain_mean, True), (_scaled, False), (_router, False)])
def test_hidden_states_that_only_the_loss_can_confirm(change: Any, exact: bool, tmp_path: Path) -> None:
    """A model that shows no logits at all: hidden states times head are believed where its loss agrees."""
    model = tiny.llama(VOCABULARY)
    reference = tiny.exact_loss(model, ROWS)
    fused = fuse(model, change).forward

    def forward(labels: Any = None, **kwargs: Any) -> Any:
        return CausalLMOutputWithPast() if labels is None else fused(labels=labels, **kwargs)

    model.forward = forward
    row, noted = _row(model, tmp_path)
    assert noted["evidence"] == "hidden_states"
    if exact:
        _assert_exact(row, reference)
    else:
        assert "eval_exact_loss" not in row
        assert "not the cross-entropy of its hidden states" in row["eval_exact_loss_absent"]


def _packed() -> tuple[list[dict[str, Any]], Callable[..., Any]]:
    """Two documents a line, told by their positions alone; no label is left out."""
    lines = []
    for first, second in zip(ROWS[::2], ROWS[1::2], strict=True):
        ids = [*first["input_ids"][:9], *second["input_ids"][:9]]
        ids = (ids * 3)[:16]
        lines.append({"input_ids": ids, "position_ids": [*range(7), *range(9)]})

    def collate(features: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = {name: torch.tensor([item[name] for item in features]) for name in ("input_ids", "position_ids")}
        return {**batch, "labels": batch["input_ids"].clone()}

    return lines, collate


@pytest.mark.parametrize("hooks", [True, False])
def test_starts_of_documents_left_out_of_the_loss(hooks: bool, tmp_path: Path) -> None:
    """A loss that leaves out documents' first tokens, which the labels do not: measured without them, or refused."""
    lines, collate = _packed()
    model = tiny.llama(VOCABULARY).eval()
    total, tokens = 0.0, 0
    for part in (lines[:3], lines[3:]):  # a line alone is attended to document by document
        batch = collate(part)
        labels = batch.pop("labels")
        with torch.no_grad():
            log_probs = torch.log_softmax(model(**batch, use_cache=False).logits.double(), -1)
        scored = batch["position_ids"][:, 1:] != 0
        total -= float((log_probs[:, :-1].gather(-1, labels[:, 1:, None]).squeeze(-1) * scored).sum())
        tokens += int(scored.sum())
    reference = total / tokens
    row, _ = _row(fuse(model, _without_starts, hooks=hooks), tmp_path, lines, data_collator=collate)
    if hooks:
        _assert_exact(row, reference)
        assert row["eval_tokens"] == tokens
    else:
        assert "eval_exact_loss" not in row
        assert "not the cross-entropy of the labels" in row["eval_exact_loss_absent"]


def test_starts_of_documents_under_a_loss_alone(tmp_path: Path) -> None:
    """Labels score documents' first tokens and only the batches' losses are known: which of them count is not."""
    lines, collate = _packed()
    row, _ = _row(fuse(tiny.llama(VOCABULARY), hooks=False), tmp_path, lines, data_collator=collate)
    assert "eval_exact_loss" not in row
    assert "packed" in row["eval_exact_loss_absent"]


class _Mixture(MixtralForCausalLM):
    """A mixture of experts whose output names the router's loss or not, and never holds logits with labels."""

    named: bool
    hooked: bool

    def forward(self, labels: Any = None, num_items_in_batch: Any = None, **kwargs: Any) -> Any:
        kwargs.pop("output_router_logits", None)
        if labels is None:
            return super().forward(**kwargs, output_router_logits=False)
        decoder = self.model if self.hooked else self.model.forward
        outputs = decoder(**kwargs)
        loss = _fused_loss(outputs.last_hidden_state, self.lm_head, labels, num_items_in_batch, None, 1.0)
        router = outputs.last_hidden_state.float().pow(2).mean() * 10
        loss = loss + self.config.router_aux_loss_coef * router
        return {"loss": loss, "aux_loss": router} if self.named else {"loss": loss}


def _mixture(*, named: bool, hooked: bool) -> _Mixture:
    torch.manual_seed(0)
    model = _Mixture(
        MixtralConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            num_local_experts=2,
            router_aux_loss_coef=0.1,
        )
    )
    model.named, model.hooked = named, hooked
    return model


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("hooked", [True, False])
def test_mixture_of_experts(named: bool, hooked: bool, tmp_path: Path) -> None:
    """The router's loss is no part of the exact loss; where it is neither named nor shown apart, there is none."""
    model = _mixture(named=named, hooked=hooked)
    reference = tiny.exact_loss(model, ROWS)
    row, noted = _row(model, tmp_path)
    assert row["eval_loss"] > 1.05 * reference
    if named or hooked:
        assert noted["evidence"] == ("hidden_states" if hooked else "loss")
        _assert_exact(row, reference)
    else:
        assert "eval_exact_loss" not in row
        assert "not the cross-entropy of the labels" in row["eval_exact_loss_absent"]


class _Watched(LlamaForCausalLM):
    """A causal model that computes everything and keeps its logits to itself."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return {"loss": super().forward(*args, **kwargs).loss}


def test_logits_kept_to_itself(tmp_path: Path) -> None:
    """Logits that were made and not returned: the model's own losses per token were seen."""
    plain = tiny.llama(VOCABULARY)
    model = _Watched(plain.config)
    model.load_state_dict(plain.state_dict())
    reference = tiny.exact_loss(plain, ROWS)
    row, noted = _row(model, tmp_path)
    _assert_exact(row, reference)
    assert noted["evidence"] == "logits" and noted["error_bar"] is True


def test_popped_labels_and_no_logits(tmp_path: Path) -> None:
    """A loss of the Trainer's own over hidden states: exact through the head."""
    from transformers import Trainer

    plain = tiny.llama(VOCABULARY)

    class Bare(LlamaForCausalLM):
        with_logits = True

        def forward(self, **kwargs: Any) -> Any:
            kwargs.pop("num_items_in_batch", None)
            if set(kwargs) == {"input_ids", "attention_mask"} and len(kwargs["input_ids"]) == 1:
                return super().forward(**kwargs)  # what the short pass asks
            return {"last_hidden_state": self.model(**kwargs).last_hidden_state}

    class Own(Trainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            loss = _fused_loss(outputs["last_hidden_state"], model.lm_head, labels, None, None, 1.0)
            return (loss, outputs) if return_outputs else loss

    model = Bare(plain.config)
    model.load_state_dict(plain.state_dict())
    reference = tiny.exact_loss(plain, ROWS)
    row, noted = _row(model, tmp_path, trainer_class=Own)
    _assert_exact(row, reference)
    assert noted["evidence"] == "hidden_states"


def test_weights_spread_over_processes(tmp_path: Path) -> None:
    """Weights of which only a part is here: no pass of ours is made, and the loss has to confirm what is computed."""
    model = fuse(tiny.llama(VOCABULARY))
    reference = tiny.exact_loss(model, ROWS)
    passes = []
    model.model.register_forward_hook(lambda module, args, output: passes.append(1))
    model.model.layers[0].mlp.up_proj.weight.ds_id = 1  # as ZeRO-3 marks it
    row, noted = _row(model, tmp_path / "scores")
    _assert_exact(row, reference)
    assert noted["evidence"] == "hidden_states" and len(passes) == 3
    model = fuse(tiny.llama(VOCABULARY))
    model.lm_head.weight.ds_id = 1
    row, _ = _row(model, tmp_path / "head")
    assert "eval_exact_loss" not in row and "spread over processes" in row["eval_exact_loss_absent"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_losses_are_counted_without_an_exact_loss(value: float, tmp_path: Path) -> None:
    """A loss that is no number in a model without exact evidence: counted, and stop_on stops the run."""

    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, input_ids: Any, attention_mask: Any = None, labels: Any = None) -> dict[str, Tensor]:
            bad = not self.training and input_ids.shape[0] < 3  # the last, unequal batch
            return {"loss": self.weight.sum() * (value if bad else 1.0)}

    callback = KoCPTCallback(outputs=[], stop_on={"non-finite"}, task="other")
    trainer = tiny.trainer(
        Broken(), tmp_path, ROWS, ROWS, callbacks=[callback], max_steps=6, eval_strategy="steps", eval_steps=2
    )
    trainer.train()
    row = next(item for item in trainer.state.log_history if "eval_loss" in item)
    assert row["eval_nonfinite_batches"] == 1 and "eval_exact_loss" not in row
    assert trainer.state.global_step == 2
    assert callback.stop_reason is not None and callback.stop_reason.code == "non-finite"


def test_model_that_knows_no_embeddings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """get_input_embeddings raises NotImplementedError: nothing is said, and run.json has the other facts."""
    from transformers import PretrainedConfig, PreTrainedModel

    class Config(PretrainedConfig):
        model_type = "regression-of-tests"

    class Regression(PreTrainedModel):
        config_class = Config
        main_input_name = "x"

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.a = nn.Parameter(torch.ones(()))

        def _init_weights(self, module: nn.Module) -> None:
            pass

        def get_input_embeddings(self) -> nn.Module:
            raise NotImplementedError

        def forward(self, x: Any, labels: Any = None) -> Any:
            return (F.mse_loss(x * self.a, labels), x * self.a)

    rows = [{"x": float(at), "labels": 2.0 * at} for at in range(4)]
    trainer = tiny.trainer(
        Regression(Config()),
        tmp_path,
        rows,
        rows,
        callbacks=[KoCPTCallback(outputs=["files"], task="other")],
        data_collator=lambda items: {name: torch.tensor([item[name] for item in items]) for name in items[0]},
        processing_class=None,
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
    )
    trainer.train()
    assert not [line for line in caplog.messages if "met an error" in line]
    run = json.loads((tmp_path / "ko_cpt" / "run.json").read_text("utf-8"))
    assert run["model"]["class"] == "Regression" and run["model"]["parameters"] == 1
    row = next(item for item in trainer.state.log_history if "eval_loss" in item)
    assert "two-dimensional" in row["eval_exact_loss_absent"] and row["eval_nonfinite_batches"] == 0


class _LearnedScale(LlamaForCausalLM):
    """A scale of the logits that is learned and begins at 1; no logits with labels; draws numbers in evaluation too."""

    noise = 0.0

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(  # type: ignore[override]
        self, input_ids: Any, attention_mask: Any = None, labels: Any = None, num_items_in_batch: Any = None
    ) -> Any:
        states = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        if self.noise:
            states = states + self.noise * torch.randn_like(states)
        logits = F.linear(states, self.lm_head.weight) * self.scale
        if labels is None:
            return CausalLMOutputWithPast(logits=logits)
        wanted = labels[:, 1:]
        scores = logits[:, :-1].log_softmax(-1).gather(-1, wanted.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        scored = wanted != -100
        return CausalLMOutputWithPast(loss=-(scores * scored).sum() / scored.sum())


def test_scale_that_is_learned(tmp_path: Path) -> None:
    """What the model does to its logits is asked anew at every evaluation: it changes with the weights."""
    model = _LearnedScale(tiny.llama(VOCABULARY).config)
    trainer = tiny.trainer(model, tmp_path, ROWS, ROWS, callbacks=[KoCPTCallback(outputs=[])])
    trainer.evaluate()
    _assert_exact(trainer.state.log_history[-1], tiny.exact_loss(model, ROWS))
    with torch.no_grad():
        model.scale.fill_(1.3)
    trainer.evaluate()
    _assert_exact(trainer.state.log_history[-1], tiny.exact_loss(model, ROWS))


def test_random_numbers_are_left_alone(tmp_path: Path) -> None:
    """A model that draws random numbers in evaluation trains bit for bit as without the callback."""
    weights = []
    for number, callbacks in enumerate(([], [KoCPTCallback(outputs=[])])):
        torch.manual_seed(0)
        model = _LearnedScale(tiny.llama(VOCABULARY).config)
        model.noise = 0.01
        trainer = tiny.trainer(
            model, tmp_path / str(number), ROWS, ROWS, callbacks=callbacks, eval_strategy="steps", eval_steps=1
        )
        trainer.train()
        weights.append(torch.cat([item.detach().flatten() for item in model.parameters()]))
    assert torch.equal(*weights)


@pytest.mark.parametrize("logits", [True, False])
def test_labels_that_are_shifted_before(logits: bool, tmp_path: Path) -> None:
    """A class of one's own that leaves the shift to the data: its loss says so, and no shift is made twice."""

    class Shifted(_LearnedScale):
        def forward(self, input_ids: Any, attention_mask: Any = None, labels: Any = None) -> Any:  # type: ignore[override]
            scores = super().forward(input_ids, attention_mask).logits
            if labels is None:
                return CausalLMOutputWithPast(logits=scores)
            own = scores.log_softmax(-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
            scored = labels != -100
            return CausalLMOutputWithPast(loss=-(own * scored).sum() / scored.sum(), logits=scores if logits else None)

    def collate(features: Any) -> Any:
        batch = tiny.collate(features)
        return {**batch, "labels": F.pad(batch["labels"][:, 1:], (0, 1), value=-100)}

    row, _ = _row(Shifted(tiny.llama(VOCABULARY, seed=1).config), tmp_path, data_collator=collate)
    assert "eval_exact_loss" not in row and "other targets than its labels" in row["eval_exact_loss_absent"]


@pytest.mark.parametrize(("logits", "fused"), [(True, False), (False, False), (False, True)])
def test_loss_of_an_earlier_layer(logits: bool, fused: bool, tmp_path: Path) -> None:
    """Early exits scored by the same head against the same labels: the exact loss is that of the last layer."""

    class EarlyExit(LlamaForCausalLM):
        def forward(self, input_ids: Any, attention_mask: Any = None, labels: Any = None) -> Any:  # type: ignore[override]
            inner = self.model(
                input_ids=input_ids, attention_mask=attention_mask, use_cache=False, output_hidden_states=True
            )
            early, last = self.lm_head(inner.hidden_states[1]), self.lm_head(inner.last_hidden_state)
            if labels is None:
                return CausalLMOutputWithPast(logits=last)
            width = self.config.vocab_size
            items = (early,) if fused else (early, last)
            loss = sum(self.loss_function(logits=item, labels=labels, vocab_size=width) for item in items)
            if fused:
                loss = loss + _fused_loss(inner.last_hidden_state, self.lm_head, labels, None, None, 1.0)
            return CausalLMOutputWithPast(loss=loss, logits=last if logits else None)

    model = EarlyExit(tiny.llama(VOCABULARY).config)
    row, noted = _row(model, tmp_path)
    _assert_exact(row, tiny.exact_loss(model, ROWS))
    assert noted["error_bar"] is True


def test_loss_of_changed_logits(tmp_path: Path) -> None:
    """A model's own loss under a temperature, of logits that it returns without: that is no exact loss of theirs."""

    class Tempered(LlamaForCausalLM):
        def forward(self, input_ids: Any, attention_mask: Any = None, labels: Any = None) -> Any:  # type: ignore[override]
            states = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
            logits, loss = self.lm_head(states.last_hidden_state), None
            if labels is not None:
                loss = self.loss_function(logits=logits / 2, labels=labels, vocab_size=self.config.vocab_size)
            return CausalLMOutputWithPast(loss=loss, logits=logits)

    row, _ = _row(Tempered(tiny.llama(VOCABULARY).config), tmp_path)
    assert "eval_exact_loss" not in row and "from other logits" in row["eval_exact_loss_absent"]
