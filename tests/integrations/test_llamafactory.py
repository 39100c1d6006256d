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
RUN_EXP = """
import json, sys
from llamafactory.train.tuner import run_exp
from ko_cpt_callbacks import KoCPTCallback
run_exp(json.load(open(sys.argv[1])), callbacks=[KoCPTCallback()])
"""


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
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(HERE.parents[1])}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def _rows(folder: Path, name: str) -> list[dict[str, list[int]]]:
    """Blocks of text as LLaMA-Factory makes them: texts joined by the end token, and the rest dropped."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    lines = (folder / f"{name}.jsonl").read_text("utf-8").splitlines()
    stream = [
        token
        for line in lines
        for token in tokenizer(json.loads(line)["text"] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
    ]
    starts = range(0, len(stream) - BLOCK + 1, BLOCK)
    return [{"input_ids": stream[s : s + BLOCK], "labels": stream[s : s + BLOCK]} for s in starts]


def _check(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "out")
    history = json.loads((folder / "out" / "trainer_state.json").read_text("utf-8"))["log_history"]
    for name in ("ko", "en"):
        prefix = f"eval_{name}_eval"
        last = [row for row in history if f"{prefix}_exact_loss" in row][-1]
        loss, tokens = loss_of(model, _rows(folder, name))
        assert last[f"{prefix}_tokens"] == tokens
        assert abs(last[f"{prefix}_exact_loss"] - loss) <= 1e-5


def test_a_page_with_a_block(tmp_path: Path) -> None:
    """`ko-cpt llamafactory train page.yaml` measures exactly, and the block's targets are judged."""
    page = _page(tmp_path, ko_cpt={"targets": ["eval_ko_eval_exact_loss<9@end"], "retention": ["en<50%"]})
    file = tmp_path / "page.yaml"
    file.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in page.items()), "utf-8")
    done = _run("-m", "ko_cpt_callbacks", "llamafactory", "train", str(file), "seed=3", folder=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    _check(tmp_path)
    codes = [
        json.loads(line)["code"] for line in (tmp_path / "out/ko_cpt/findings.jsonl").read_text("utf-8").splitlines()
    ]
    assert "target-met" in codes


def test_run_exp_with_the_callback(tmp_path: Path) -> None:
    """Three lines of Python around its own function do the same."""
    (tmp_path / "page.json").write_text(json.dumps(_page(tmp_path)), "utf-8")
    done = _run("-c", RUN_EXP, str(tmp_path / "page.json"), folder=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    _check(tmp_path)
