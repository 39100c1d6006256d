"""LLaMA-Factory itself, on CPU: a page with a ``ko_cpt:`` block, and ``run_exp`` with the callback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import made
import pytest
from reference import loss_of

pytestmark = pytest.mark.framework
pytest.importorskip("llamafactory")

HERE = Path(__file__).parent
BLOCK = 64
# The reference is taken of the trained model in the training's own process: 8-bit weights are not saved as they are.
RUN_EXP = """
import json, sys
from llamafactory.train.tuner import run_exp
from reference import loss_of
from transformers import TrainerCallback
from ko_cpt_callbacks import KoCPTCallback

class Reference(TrainerCallback):
    def on_train_end(self, args, state, control, model=None, **kwargs):
        print("RESULT", json.dumps({name: loss_of(model, rows) for name, rows in json.load(open(sys.argv[2])).items()}))

run_exp(json.load(open(sys.argv[1])), callbacks=[KoCPTCallback(), Reference()])
"""
LORA = {"finetuning_type": "lora", "quantization_bit": 8, "lora_rank": 4, "lora_target": "q_proj,v_proj"}


def _page(folder: Path, **changes: Any) -> dict[str, Any]:
    files = {f"{name}_eval" if name != "train" else name: file for name, file in made.text_files(folder).items()}
    about = {name: {"file_name": file.name, "columns": {"prompt": "text"}} for name, file in files.items()}
    (folder / "dataset_info.json").write_text(json.dumps(about), "utf-8")
    return {
        "model_name_or_path": str(made.model_folder(folder)),
        "stage": "pt",
        "do_train": True,
        "finetuning_type": "full",
        "dataset": "train",
        "dataset_dir": str(folder),
        "eval_dataset": "ko_eval,en_eval",
        "eval_on_each_dataset": True,
        "template": "default",
        "cutoff_len": BLOCK,
        "output_dir": str(folder / "out"),
        "logging_steps": 1,
        "max_steps": 6,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 3,
        "learning_rate": 2e-3,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        **changes,
    }


def _run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    places = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": places}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def _rows(folder: Path, name: str, *, packed: bool = True) -> list[dict[str, list[int]]]:
    """What LLaMA-Factory makes of texts: joined by the end token and cut into whole blocks; or one by one."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    lines = (folder / f"{name}.jsonl").read_text("utf-8").splitlines()
    texts = [
        tokenizer(json.loads(line)["text"] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        for line in lines
    ]
    if packed:
        stream = [token for text in texts for token in text]
        texts = [stream[start : start + BLOCK] for start in range(0, len(stream) - BLOCK + 1, BLOCK)]
    return [{"input_ids": text[:BLOCK], "labels": text[:BLOCK]} for text in texts]


def _check(folder: Path, references: dict[str, tuple[float, int]]) -> None:
    """The last evaluation of each set is its reference, to 1e-5, over as many tokens."""
    history = json.loads((folder / "out" / "trainer_state.json").read_text("utf-8"))["log_history"]
    assert set(references) == {"ko", "en"}
    for name, (loss, tokens) in references.items():
        prefix = f"eval_{name}_eval"
        last = [row for row in history if f"{prefix}_exact_loss" in row][-1]
        assert last[f"{prefix}_tokens"] == tokens
        assert abs(last[f"{prefix}_exact_loss"] - loss) <= 1e-5


def _saved(folder: Path) -> dict[str, tuple[float, int]]:
    """References of the model as it was saved."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "out")
    return {name: loss_of(model, _rows(folder, name)) for name in ("ko", "en")}


def _codes(folder: Path) -> list[str]:
    lines = (folder / "out" / "ko_cpt" / "findings.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["code"] for line in lines]


def _told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "ko_cpt" / "run.json").read_text("utf-8"))


def _write(folder: Path, page: dict[str, Any], text: str = "") -> Path:
    """A page of YAML (JSON values are YAML) that begins with a text of its own."""
    own = {line.partition(":")[0] for line in text.splitlines()}
    file = folder / "page.yaml"
    lines = (f"{key}: {json.dumps(value)}\n" for key, value in page.items() if key not in own)
    file.write_text(text + "".join(lines), "utf-8")
    return file


def test_a_page_with_a_block(tmp_path: Path) -> None:
    """`ko-cpt llamafactory train page.yaml` measures exactly, and the block's targets are judged."""
    block = {"targets": ["eval_ko_eval_exact_loss<9@end"], "retention": ["en<50%"]}
    file = _write(tmp_path, _page(tmp_path, ko_cpt=block))
    done = _run("-m", "ko_cpt_callbacks", "llamafactory", "train", str(file), "seed=3", folder=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    _check(tmp_path, _saved(tmp_path))
    assert "target-met" in _codes(tmp_path)


def test_the_page_of_the_guide(tmp_path: Path) -> None:
    """The three lines of docs/frameworks.md, as they stand there: both sets are measured, and the target is judged."""
    file = _write(tmp_path, _page(tmp_path), made.guide_page("LLaMA-Factory"))
    done = _run("-m", "ko_cpt_callbacks", "llamafactory", "train", str(file), folder=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    _check(tmp_path, _saved(tmp_path))
    assert "target-missed" in _codes(tmp_path)
    assert _told(tmp_path)["watch"]["retention"] == ["en"]


@pytest.mark.parametrize(
    ("changes", "packed"), [({"packing": False}, False), ({}, True), (LORA, True)], ids=["plain", "packed", "lora-8bit"]
)
def test_run_exp_with_the_callback(tmp_path: Path, changes: dict[str, Any], packed: bool) -> None:
    """Lines of Python around its own function: texts one by one, blocks of them, and adapters of an 8-bit model."""
    (tmp_path / "page.json").write_text(json.dumps(_page(tmp_path, **changes)), "utf-8")
    rows = {name: _rows(tmp_path, name, packed=packed) for name in ("ko", "en")}
    (tmp_path / "rows.json").write_text(json.dumps(rows), "utf-8")
    done = _run("-c", RUN_EXP, str(tmp_path / "page.json"), str(tmp_path / "rows.json"), folder=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    (result,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    _check(tmp_path, json.loads(result.removeprefix("RESULT ")))
    assert (_told(tmp_path)["model"]["quantization"] == "8-bit") == (changes is LORA)
