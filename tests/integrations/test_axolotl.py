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
from test_block import WRONG

from ko_cpt_callbacks.run.observation import EvalObservation, TrainObservation
from ko_cpt_callbacks.run.reading import read_run

pytestmark = pytest.mark.framework
pytest.importorskip("axolotl")

HERE = Path(__file__).parent
WITHOUT_YAML = """
import runpy, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ruamel":
            raise ImportError("ruamel is not there")

sys.meta_path.insert(0, Refuse())
runpy.run_module("axolotl.cli.train", run_name="__main__")
"""
PLUGIN = "ko_cpt_callbacks.integrations.axolotl.KoCPTPlugin"


def _page(folder: Path, text: str = "", **changes: Any) -> Path:
    """A page of YAML (JSON values are YAML) for a tiny model and two evaluation sets, after a text of its own."""
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
    own = {line.partition(":")[0] for line in text.splitlines()}
    lines = (f"{key}: {json.dumps(value)}\n" for key, value in page.items() if value is not None and key not in own)
    place.write_text(text + "".join(lines), "utf-8")
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


def test_the_page_of_the_guide(tmp_path: Path) -> None:
    """The three lines of docs/frameworks.md, as they stand there, by `ko-cpt axolotl train`: the target on one of two
    sets is judged, and what Axolotl printed gives the rows of its own log."""
    page = _page(tmp_path, made.guide_page("Axolotl"), save_strategy="steps", save_steps=6)
    done = _run("-m", "ko_cpt_callbacks", "axolotl", "train", str(page), folder=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    lines = (tmp_path / "out" / "ko_cpt" / "findings.jsonl").read_text("utf-8").splitlines()
    assert "target-missed" in {json.loads(line)["code"] for line in lines}
    printed = tmp_path / "printed.log"
    printed.write_text(done.stderr + done.stdout, "utf-8")
    native, read = _losses(tmp_path / "out" / "checkpoint-6" / "trainer_state.json"), _losses(printed)
    assert [place for place, _ in read] == [place for place, _ in native]
    assert [loss for _, loss in read] == pytest.approx([loss for _, loss in native], rel=5e-4)  # as it was rounded


def _losses(log: Path) -> list[tuple[tuple[Any, ...], float]]:
    seen = [one for one in read_run(log).observations() if isinstance(one, (TrainObservation, EvalObservation))]
    return [((type(one), one.step, getattr(one, "split", None)), one.loss) for one in seen if one.loss is not None]


@pytest.mark.parametrize(("block", "sentence"), WRONG, ids=lambda part: str(part)[:32])
def test_a_wrong_block_is_axolotls_own_error(tmp_path: Path, block: Any, sentence: str) -> None:
    """Its reading of the page, which comes before a model is loaded, ends with the key and our sentence."""
    from axolotl.cli.config import load_cfg

    with pytest.raises(ValueError, match="ko_cpt") as caught:
        load_cfg(str(_page(tmp_path, ko_cpt=block)))
    key, _, said = sentence.partition(": ")
    assert key in str(caught.value) and said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "command", "sentence"),
    [
        ({"ko_cpt": {"target": "eval_exact_loss<3"}}, ["-m", "axolotl.cli.train"], "did you mean targets?"),
        ({"plugins": None}, ["-m", "ko_cpt_callbacks", "axolotl", "train"], "plugins: found [], expected [ko_cpt"),
        ({}, ["-c", WITHOUT_YAML], "ko_cpt_callbacks cannot be used here: ruamel is not there; install"),
    ],
    ids=["wrong block", "no plugin", "failing import"],
)
def test_what_would_train_unwatched_ends(tmp_path: Path, changes: Any, command: list[str], sentence: str) -> None:
    """Status is not 0, our sentence is in the output, and no model was loaded or trained."""
    done = _run(*command, str(_page(tmp_path, **changes)), folder=tmp_path)
    assert done.returncode != 0
    assert sentence in done.stdout + done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.safetensors"))
