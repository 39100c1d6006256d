"""Axolotl itself, on CPU: the plugin joins its trainer, and mistakes of the block end before a model is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import made
import pytest

pytestmark = pytest.mark.framework
pytest.importorskip("axolotl")

HERE = Path(__file__).parent
PLUGIN = "ko_cpt_callbacks.integrations.axolotl.KoCPTPlugin"


def _page(folder: Path, **changes: Any) -> Path:
    """A page of YAML (JSON values are YAML) for a tiny model and two evaluation sets."""
    files = made.text_files(folder)

    def data(name: str, **more: Any) -> dict[str, Any]:
        return {"path": str(files[name]), "ds_type": "json", "type": "completion", "field": "text", **more}

    page = {
        "base_model": str(made.model_folder(folder)),
        "plugins": [PLUGIN],
        "ko_cpt": {"eval_sets": ["ko", "en"]},
        "datasets": [data("train")],
        "test_datasets": [data("ko", split="train"), data("en", split="train")],
        "dataset_prepared_path": str(folder / "prepared"),
        "output_dir": str(folder / "out"),
        "sequence_len": 64,
        "micro_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": 6,
        "eval_steps": 3,
        "logging_steps": 1,
        "optimizer": "adamw_torch",
        "lr_scheduler": "constant",
        "learning_rate": 2e-3,
        "save_strategy": "no",
        "bf16": False,
        "fp16": False,
        "tf32": False,
        "attn_implementation": "eager",
        "special_tokens": {"pad_token": "<pad>"},
        "val_set_size": 0,
        "use_wandb": False,
        **changes,
    }
    place = folder / "page.yaml"
    lines = (f"{key}: {json.dumps(value)}\n" for key, value in page.items() if value is not None)
    place.write_text("".join(lines), "utf-8")
    return place


def _run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "AXOLOTL_DO_NOT_TRACK": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE.parent), str(HERE)]),
    }
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


LORA = {
    "adapter": "lora",
    "load_in_8bit": True,
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_target_modules": ["q_proj", "v_proj"],
    "lora_mlp_kernel": False,
    "lora_qkv_kernel": False,
    "lora_o_kernel": False,
}


@pytest.mark.parametrize(
    "changes",
    [{}, {"sample_packing": True, "eval_sample_packing": False}, LORA],
    ids=["plain", "packed", "lora-8bit"],
)
def test_the_exact_loss_is_the_reference(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Sets by their names, the callback first, and a loss that a float64 sum over all tokens gives too."""
    done = _run(str(HERE / "job_axolotl.py"), str(_page(tmp_path, **changes)), folder=tmp_path)
    result = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    assert result is not None, done.stdout[-2000:] + done.stderr[-4000:]
    found = json.loads(result.removeprefix("RESULT "))
    assert found["first"]
    assert set(found["sets"]) == {"eval_ko", "eval_en"}
    for measured in found["sets"].values():
        loss, tokens = measured["reference"]
        assert measured["tokens"] == tokens, measured
        assert abs(measured["exact"] - loss) <= 1e-5, measured


WRONG: dict[str, Any] = {
    "unknown": ({"target": "eval_exact_loss<3"}, "ko_cpt.target: no argument of KoCPTCallback; did you mean targets?"),
    "alerts": ({"alerts": ["x"]}, "ko_cpt.alerts: a page is logged"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_block_is_axolotls_own_error(tmp_path: Path, name: str) -> None:
    """Its validation names the key and says our sentence; no model is loaded and the exit status is not 0."""
    block, sentence = WRONG[name]
    done = _run("-m", "axolotl.cli.train", str(_page(tmp_path, ko_cpt=block)), folder=tmp_path)
    assert done.returncode != 0
    assert sentence in done.stdout + done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.safetensors"))
