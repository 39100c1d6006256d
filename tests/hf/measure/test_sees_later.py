"""Models with a causal head that see the tokens after a position: no exact loss, and the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertLMHeadModel, LlamaConfig, LlamaForCausalLM

from ko_cpt_callbacks import KoCPTCallback

pytestmark = pytest.mark.both_versions

ROWS = tiny.uneven_rows(8)
VOCABULARY = len(tiny.byte_level_tokenizer())


def _bert(**settings: Any) -> nn.Module:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return BertLMHeadModel(BertConfig(vocab_size=VOCABULARY, **sizes, **settings))


def _llama(**settings: Any) -> nn.Module:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **sizes, **settings))


MODELS = [
    (_bert, {}, True), (_bert, {"is_decoder": True}, False), (_llama, {}, False), (_llama, {"is_causal": False}, True),
    (_llama, {"use_bidirectional_attention": True}, True),
]  # fmt: skip


@pytest.mark.parametrize(("made", "settings", "sees"), MODELS, ids=lambda one: getattr(one, "__name__", str(one)))
def test_no_exact_loss_of_what_sees_later_tokens(
    made: Any, settings: dict[str, Any], sees: bool, tmp_path: Path
) -> None:
    """The one that has an exact loss gives the same logits whatever comes later."""
    torch.manual_seed(0)
    model = made(**settings)
    trainer = tiny.trainer(model, tmp_path, None, ROWS, callbacks=[KoCPTCallback(outputs=[])])
    trainer.evaluate()
    row = dict(trainer.state.log_history[-1])
    if sees:
        assert "eval_exact_loss" not in row and "eval_ppl" not in row
        assert "attends to the tokens after each position" in row["eval_exact_loss_absent"]
        return
    assert row["eval_exact_loss"] > 0
    ids = torch.randint(5, VOCABULARY, (1, 12))
    other = ids.clone()
    other[0, 8:] = 3
    model.eval()
    with torch.no_grad():
        first, second = (model(input_ids=one).logits[0, :8] for one in (ids, other))
    assert torch.allclose(first, second, atol=1e-5)


class _OwnClass(LlamaForCausalLM):
    """A class of the user's own, as causal as the one it extends."""


class _BothWays(LlamaForCausalLM):
    """Sees all of a row, which its configuration does not say."""

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **kwargs: Any) -> Any:
        """See the class."""
        length = input_ids.shape[1]
        seen = attention_mask[:, None, None, :].bool().expand(-1, 1, length, length)
        return super().forward(input_ids=input_ids, attention_mask=_additive(seen), **kwargs)


def _additive(seen: Tensor) -> Tensor:
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min)


def _row(model: Any, folder: Path, **settings: Any) -> dict[str, Any]:
    trainer = tiny.trainer(model, folder, None, ROWS, callbacks=[KoCPTCallback(outputs=[])], **settings)
    trainer.evaluate()
    return dict(trainer.state.log_history[-1])


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("made", "sees"), [(_OwnClass, False), (_BothWays, True)])
def test_a_class_of_the_users_own_is_asked(made: Any, sees: bool, half: bool, tmp_path: Path) -> None:
    """By two short passes an evaluation, which draw no random numbers; one that reads from left to right is exact."""
    model = made(tiny.llama(VOCABULARY).config)
    exact = tiny.exact_loss(model, ROWS)
    passes: list[int] = []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    row = _row(model.bfloat16() if half else model, tmp_path)
    assert len(passes) == 2 + 3
    if sees:
        assert "eval_exact_loss" not in row and "eval_ppl" not in row
        assert "change with the tokens after them" in row["eval_exact_loss_absent"]
    else:
        assert row["eval_exact_loss"] == pytest.approx(exact, rel=1e-2 if half else 1e-5)


def test_a_class_of_transformers_is_not_asked(tmp_path: Path) -> None:
    """No forward pass but those of the batches."""
    model, passes = tiny.llama(VOCABULARY), list[int]()
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    assert _row(model, tmp_path)["eval_exact_loss"] > 0
    assert len(passes) == 3


def test_attention_that_was_changed(tmp_path: Path) -> None:
    """What makes an encoder of a Llama sets this on its attention; no configuration says it."""
    model = tiny.llama(VOCABULARY, attn_implementation="sdpa")
    for layer in model.model.layers:
        layer.self_attn.is_causal = False
    asked = list[int]()
    model.register_forward_pre_hook(lambda *_: asked.append(1))
    row = _row(model, tmp_path)
    ids = torch.arange(12)[None] + 5
    with torch.no_grad():
        first, second = (model(input_ids=one).logits[0, :8] for one in (ids, ids.where(torch.arange(12) < 8, 3)))
    assert ("eval_exact_loss" in row) == bool(torch.allclose(first, second, atol=1e-5))
    assert len(asked) == 2 + 3 + 2


def _masked(prefix: int, *, scored: bool) -> Any:
    """A collator whose mask per pair of tokens has a prefix that sees all of itself."""

    def collate(features: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = tiny.collate(features)
        places = torch.arange(batch["input_ids"].shape[1])
        inside = (places[:, None] < prefix) & (places[None] < prefix)
        seen = (places[:, None] >= places[None]) | inside
        batch["attention_mask"] = _additive((seen[None] & batch["attention_mask"].bool()[:, None])[:, None])
        if not scored:
            batch["labels"][:, :prefix] = -100
        return batch

    return collate


@pytest.mark.parametrize(
    ("prefix", "scored", "sees"),
    [(1, True, False), (3, False, False), (2, True, True), (3, True, True), (99, True, True)],
)
def test_a_mask_that_shows_targets(prefix: int, scored: bool, sees: bool, tmp_path: Path) -> None:
    """A prefix may see all of itself where none of it is a target; where one is, the loss is none of a text."""
    row = _row(tiny.llama(VOCABULARY), tmp_path, data_collator=_masked(prefix, scored=scored))
    assert ("eval_exact_loss" in row) is not sees
    if sees:
        assert row["eval_exact_loss_absent"] == "the attention mask lets tokens see later ones that are targets"
