"""Stores of the runner, damaged: what it kept to go on from is what it wrote, or one line says what to delete.

One tiny run is trained, copies of it are damaged and gone on with. Some cases an ordinary day, all of them with
``KO_CPT_DAMAGE=1``.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app

ARGUMENTS: Final = {
    "max_steps": 2, "save_steps": 1, "logging_steps": 1, "per_device_train_batch_size": 2, "learning_rate": 1e-2,
    "eval_strategy": "no", "report_to": "none", "use_cpu": True,
}  # fmt: skip
LORA: Final = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
RECIPE: Final[dict[str, Any]] = {
    "id": "tiny",
    "title": "Tiny \u202e\x1b[31m",
    "base": {
        "build": {
            "family": "llama", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "tokenizer": {"algorithm": "byte-level-bpe", "vocab_size": 300, "sources": ["ko"]},
        },
        "dtype": "float32",
        "quantization": "none",
    },
    "data": {
        "sequence_length": 32, "packing": False, "held_out": 0.5,
        "sources": {"ko": {"language": "ko", "bundled": ["ko_udhr.txt"]}}, "mix": {"ko": 1},
    },
    "eval": {"ko": {"source": "ko", "max_documents": 4}},
    "stages": {
        "embedding": {"trains": {"input": "all", "output": "all"}, "arguments": ARGUMENTS},
        "lora": {"trains": {"layers": "all"}, "lora": LORA, "arguments": ARGUMENTS},
    },
    "source": dict.fromkeys(["base", "data", "eval", "stages"], "made up for a test"),
}  # fmt: skip

Damage = Callable[[Path], None]


def _flip(path: Path) -> None:
    """One bit of the last quarter, where the numbers are, is another."""
    data = bytearray(path.read_bytes())
    data[-max(1, len(data) // 8)] ^= 4
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _deep(path: Path) -> None:
    path.write_bytes(b"[" * 100_000 + b"]" * 100_000)


DAMAGES: Final[dict[str, Damage]] = {
    "flipped": _flip, "cut": _cut, "emptied": _empty, "zeroed": _zero, "deleted": Path.unlink,
}  # fmt: skip
STORES: Final = {
    "rows": "data/*/rows.arrow",
    "report": "data/*/report.json",
    "base": "base/model/model.safetensors",
    "base configuration": "base/model/config.json",
    "base tokenizer": "base/tokenizer/tokenizer.json",
    "stage weights": "stages/01-embedding/model/model.safetensors",
    "last weights": "stages/02-lora/model/model.safetensors",
    "adapter": "stages/02-lora/adapter/adapter_model.safetensors",
    "plan": "ko_cpt/plan.json",
    "checksums": "stages/01-embedding/model/sha256.json",
}
CASES: Final = [
    *((store, damage) for store in STORES for damage in DAMAGES if (store, damage) != ("checksums", "deleted")),
    *((store, "deep") for store in ("report", "base configuration", "plan", "checksums")),
]
EVERY_DAY: Final = [
    ("rows", "cut"), ("rows", "flipped"), ("report", "deep"), ("base", "flipped"), ("base", "cut"),
    ("stage weights", "flipped"), ("stage weights", "cut"), ("adapter", "flipped"), ("last weights", "deleted"),
    ("plan", "deep"), ("plan", "flipped"), ("plan", "emptied"), ("checksums", "zeroed"),
]  # fmt: skip
CHOSEN: Final = CASES if os.environ.get("KO_CPT_DAMAGE") else EVERY_DAY


def _train(recipe: Path, folder: Path, *more: str) -> Any:
    result = CliRunner().invoke(app, ["train", str(recipe), "--output", str(folder), *more])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(json.dumps(RECIPE), "utf-8")
    return path


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of it that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = _train(recipe, folder)
    assert result.exit_code == 0, result.output
    # The title, and all else that is printed, cannot move the terminal.
    assert result.stdout.splitlines()[0] == "Tiny \\u202e\\x1b[31m"
    assert all(line.isprintable() for line in result.stdout.split("\n"))
    return folder


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "stages" / "02-lora" / "model" / "model.safetensors"))


def _assert_same(run: Path, other: Path) -> None:
    ours, theirs = _weights(run), _weights(other)
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], atol=1e-6, rtol=0)


def _refused(result: Any) -> str:
    """The one line of a refusal, with its remedy."""
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("ko-cpt train: ") and line.isprintable()
    remedies = r"; (delete .* and go on with --resume: |put a copy of it back, or name another|name another one with)"
    assert re.search(remedies, line)
    return str(line)


@pytest.mark.parametrize(("store", "damage"), CHOSEN, ids=lambda word: word.replace(" ", "-"))
def test_a_damaged_store_is_told_with_the_remedy(
    recipe: Path, whole: Path, tmp_path: Path, store: str, damage: str
) -> None:
    """One line names the file and what to delete; that done, --resume ends where the whole run did."""
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    path = sorted(run.glob(STORES[store]))[0]
    {**DAMAGES, "deep": _deep}[damage](path)
    line = _refused(_train(recipe, run, "--resume"))
    if store == "plan":
        shutil.copy(whole / STORES["plan"], path)
    else:
        assert str(path) in line
        told = re.search(r"; delete (.*) and go on with --resume", line)
        assert told is not None
        for place in told[1].split(" and "):
            shutil.rmtree(place)
    result = _train(recipe, run, "--resume")
    assert result.exit_code == 0, result.output
    _assert_same(run, whole)


@pytest.mark.parametrize("store", ["rows", "stage weights"])
def test_a_run_that_is_not_finished(recipe: Path, whole: Path, tmp_path: Path, store: str) -> None:
    """The same where a stage is still to be trained: it is not begun from damaged bytes."""
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    shutil.rmtree(run / "stages" / "02-lora")
    path = sorted(run.glob(STORES[store]))[0]
    _flip(path)
    assert str(path) in _refused(_train(recipe, run, "--resume"))
    assert not (run / "stages" / "02-lora").exists()


def test_a_folder_from_before_there_were_checksums(recipe: Path, whole: Path, tmp_path: Path) -> None:
    """It is gone on with as it is; rows or weights in it that cannot be read are told in one line all the same."""
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    for sums in run.rglob("sha256.json"):
        sums.unlink()
    plan = json.loads((run / "ko_cpt" / "plan.json").read_text("utf-8"))
    plan.pop("sha256")
    plan["finished"] = False
    (run / "ko_cpt" / "plan.json").write_text(json.dumps(plan), "utf-8")
    shutil.rmtree(run / "stages" / "02-lora")
    for store in ("rows", "stage weights"):
        broken = Path(shutil.copytree(run, tmp_path / store))
        for path in broken.glob(STORES[store]):
            _cut(path)
        result = _train(recipe, broken, "--resume")
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert _train(recipe, run, "--resume").exit_code == 0
    _assert_same(run, whole)


def test_every_bit_counts(whole: Path, recipe: Path, tmp_path: Path) -> None:
    """Ten bits at random places of the weights, one after the other: each is seen."""
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    path = run / STORES["stage weights"]
    right, draw = path.read_bytes(), random.Random(0)
    for _ in range(10):
        data = bytearray(right)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        assert "found other bytes" in _refused(_train(recipe, run, "--resume"))
    path.write_bytes(right)
    assert _train(recipe, run, "--resume").exit_code == 0
