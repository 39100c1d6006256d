"""``ko-cpt measure`` against float64, with two processes, in 8 bits, and beside lm-evaluation-harness.

``python benchmarks/measure.py [--lm-eval PYTHON]``

Four tiny models with tokenizers of different kinds on the bundled prose, a document a row. PYTHON has
``pip install lm_eval`` (0.4.13 was measured); without it that column is left out. Its ``loglikelihood_rolling`` scores
the same tokens: the first one behind the token that begins texts, or the one that ends them where there is none, and a
document of more tokens than the window is cut otherwise, so that each fits. ByT5's tokenizer ends a text with ``</s>``,
which the harness scores and ``ko-cpt measure`` does not: 0.048 bits per byte here, and taken into account.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
WINDOW = 512
_LN2 = math.log(2.0)

HARNESS = """
import json, sys
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
folder, texts = sys.argv[1], json.load(open(sys.argv[2]))
model = HFLM(pretrained=folder, device="cpu", dtype="float32", batch_size=1, max_length=int(sys.argv[3]))
requests = [Instance("loglikelihood_rolling", {}, (text,), at) for at, text in enumerate(texts)]
print("FOUND", json.dumps(model.loglikelihood_rolling(requests, disable_tqdm=True)))
"""


def tokenizers() -> dict[str, Any]:
    """One of each kind."""
    import tiny
    from transformers import ByT5Tokenizer

    extended = tiny.byte_level_tokenizer.__wrapped__(500)
    extended.add_tokens(["사람", "마음", "하늘"])
    return {
        "byte-level": tiny.byte_level_tokenizer(),
        "sentencepiece": tiny.metaspace_tokenizer(),
        "extended": extended,
        "bytes": ByT5Tokenizer(),
    }


def measured(model: Path, text: Path, folder: Path, size: int, quantization: str = "none") -> float:
    """Bits per byte as they are measured in this process."""
    from ko_cpt_callbacks.measure.model import ModelChoice
    from ko_cpt_callbacks.measure.run import MeasureSettings, measure_model
    from ko_cpt_callbacks.measure.text import read_text_sets

    choice = ModelChoice(str(model), quantization=quantization, device="cpu")
    settings = MeasureSettings(folder, window=WINDOW, batch_size=size)
    found = measure_model(choice, read_text_sets([str(text)]), settings).sets[0].number("bits_per_byte")
    assert found is not None
    return found


def two_processes(model: Path, text: Path, folder: Path) -> float:
    """The same by the command, in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29611", "-m"]
    command += ["ko_cpt_callbacks", "measure", str(model), "--text", str(text), "-o", str(folder)]
    command += ["--window", str(WINDOW), "--device", "cpu", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if found.returncode:
        raise SystemExit(found.stderr)
    bits: float = json.loads(found.stdout)["models"][0]["sets"][0]["bits_per_byte"]
    return bits


def reference(folder: Path, texts: list[str], *, ends: bool = False) -> float:
    """Bits per byte in float64, over the bytes of the texts; ``ends``: with the end tokens that a tokenizer adds."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder).double()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    front = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    nats = 0.0
    for text in texts:
        row = torch.tensor([[front, *tokenizer(text, add_special_tokens=ends)["input_ids"]]])
        with torch.no_grad():
            scores = torch.log_softmax(model(row).logits[0, :-1], dim=-1)
        nats -= float(scores.gather(1, row[0, 1:, None]).sum())
    return nats / _LN2 / sum(len(text.encode()) for text in texts)


def harness(python: str, folder: Path, texts: list[str], scratch: Path) -> float:
    """Bits per byte by lm-evaluation-harness."""
    file = scratch / "texts.json"
    file.write_text(json.dumps(texts), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [python, "-c", HARNESS, str(folder), str(file), str(WINDOW - 1)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = [line for line in found.stdout.splitlines() if line.startswith("FOUND ")]
    if not lines:
        raise SystemExit(found.stderr[-2000:])
    return -sum(json.loads(lines[0].removeprefix("FOUND "))) / _LN2 / sum(len(text.encode()) for text in texts)


def main(arguments: list[str]) -> int:
    """Print a row a tokenizer; 1 where one is too far off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm-eval", metavar="PYTHON", help="An interpreter that has lm_eval.")
    asked = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    import tiny

    wrong = 0
    print(f"{'tokenizer':14}{'bits/byte':>11}{'batch 1, 3, 8':>15}{'2 processes':>13}{'8-bit again':>13}", end="")
    print(f"{'8-bit batch 8':>15}{'lm_eval':>11}")
    texts = [text[:140] for text in tiny.korean()[:12]]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        file = scratch / "ko.jsonl"
        file.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
        for seed, (kind, tokenizer) in enumerate(tokenizers().items()):
            model = scratch / kind
            tiny.llama(len(tokenizer), seed=seed, hidden=64, initializer_range=0.4).save_pretrained(model)
            tokenizer.save_pretrained(model)
            wanted = reference(model, texts)
            found = {size: measured(model, file, scratch / f"{kind}{size}", size) for size in (1, 3, 8)}
            off = max(abs(bits - wanted) for bits in found.values())
            both = two_processes(model, file, scratch / f"{kind}-two") - wanted
            eight = [
                measured(model, file, scratch / f"{kind}-8-{at}", size, "8-bit") for at, size in enumerate((1, 1, 8))
            ]
            again, batch = (abs(one - eight[0]) for one in eight[1:])
            row = [off, abs(both), again, batch]
            if asked.lm_eval:
                row.append(abs(harness(asked.lm_eval, model, texts, scratch) - reference(model, texts, ends=True)))
            print(f"{kind:14}{wanted:11.6f}", end="")
            print("".join(f"{value:>{width}.1e}" for value, width in zip(row, (15, 13, 13, 15, 11), strict=False)))
            limits = (1e-6, 1e-6, 0.0, 1e-3, 1e-5)
            wrong += any(value > limit for value, limit in zip(row, limits, strict=False))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
