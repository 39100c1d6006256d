"""Models with a causal head that see the tokens after a position: no exact loss, and the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn
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
