"""A real 8-bit LoRA on CPU, trained embeddings and head, under the plain Trainer and TRL's SFTTrainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import forked
import pytest
from e2e import job_quantized, run_files


def _check(result: dict[str, Any], folder: Path, evidence: str) -> None:
    assert result["linear_dtype"] == "torch.int8", "this test is about a quantised model"
    assert result["trainable_parts"] == ["embed_tokens", "lm_head", "lora_A", "lora_B"]
    model = run_files.run(folder)["model"]
    assert model["quantization"] == "8-bit"
    assert model["adapter"] == "LORA"
    assert model["parameters"] == result["parameters"]
    assert model["trainable_parameters"] == result["trainable"]
    assert model["trainable_share"] == pytest.approx(result["trainable"] / result["parameters"])
    assert 0 < model["trainable_share"] < 1
    evaluation = run_files.run(folder)["evaluations"]["eval"]
    assert (evaluation["evidence"], evaluation["error_bar"]) == (evidence, True)
    rows = [row for row in result["log_history"] if "eval_loss" in row]
    assert [row["step"] for row in rows] == [4, 8, 12]
    for row in rows:
        assert row["eval_exact_loss"] == pytest.approx(row["eval_loss"], rel=0.05)
        assert {"eval_exact_loss_se", "eval_ppl", "eval_bits_per_byte", "eval_fingerprint"} <= row.keys()
        assert row["eval_nonfinite_batches"] == 0
    assert rows[-1]["eval_exact_loss"] < rows[0]["eval_exact_loss"], "it should learn"
    assert [item["variant"] for item in result["findings"]] == ["no-first-evaluation"]
    assert run_files.findings(folder) == result["findings"]
    assert run_files.double(run_files.rows(folder)) == []


@pytest.mark.both_versions
def test_plain_trainer(tmp_path: Path) -> None:
    """run.json says 8-bit, LoRA, and the share of parameters that train; every evaluation is measured from logits,
    with an error bar; of a healthy run it is said only that it was not evaluated before the first step."""
    folder = tmp_path / "run"
    result = forked.value(forked.run(job_quantized.train, str(folder), folder=tmp_path))
    _check(result, folder, "logits")


def test_sft_trainer(tmp_path: Path) -> None:
    """The same under SFTTrainer of the installed TRL, whose fused head returns log-probabilities and no logits."""
    folder = tmp_path / "run"
    result = forked.value(forked.run(job_quantized.sft, str(folder), folder=tmp_path, timeout=90))
    _check(result, folder, "log_probs")
