"""B: 8-bit LoRA without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

pytestmark = [pytest.mark.both_versions, pytest.mark.filterwarnings("ignore:MatMul8bitLt")]


def test_b1_eight_bit_lora_trains_and_evaluates_on_cpu(tmp_path: Path) -> None:
    """bitsandbytes in 8 bits, LoRA and trained embeddings: steps move the adapter, evaluation gives a finite loss."""
    model = tiny.lora(tiny.eight_bit(tiny.llama(len(tiny.byte_level_tokenizer()), layers=1), tmp_path / "base"))
    assert model.get_base_model().is_loaded_in_8bit
    adapter = next(weight for name, weight in model.named_parameters() if "lora_B" in name)
    before = adapter.detach().clone()
    rows = tiny.uneven_rows(4)
    trainer = tiny.trainer(model, tmp_path / "run", rows, rows, max_steps=2, learning_rate=0.01)
    trainer.train()
    assert 0.0 < trainer.evaluate()["eval_loss"] < 20.0
    assert not torch.equal(before, adapter)
