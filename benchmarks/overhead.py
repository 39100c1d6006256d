"""What the callback costs: the same run with and without it, alternating in one process.

    python benchmarks/overhead.py            # exit 1 when a bar is missed

Bars: training at most 1 % slower, evaluation at most 2 % slower, peak memory at most 1 % higher. A pair is one
measurement with the callback and one without, next to each other (every other step of one training; every other
evaluation), so that a slow moment of the machine hits both. The figure is the median of the pairs' ratios of wall time
with the half-width of its 95 % interval; a bar is missed when the whole interval is above it. Peak memory is that of
processes of their own (CPU) or of the allocator (CUDA).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

SPECIAL = ["<s>", "</s>", "<pad>"]
TRAINING, EVALUATION, MEMORY = 1.01, 1.02, 1.01

CASES: dict[str, dict[str, Any]] = {
    "body of 8 layers, 8k vocabulary": {"vocab": 8_000, "hidden": 256, "layers": 8, "batch": 6, "length": 192},
    "tiny body, 256k vocabulary": {"vocab": 256_000, "hidden": 32, "layers": 1, "batch": 2, "length": 128},
}


def build(case: dict[str, Any], device: str, folder: Path) -> tuple[Any, Any]:
    """A Trainer without our callback, and its evaluation rows."""
    import tiny
    import torch
    from transformers import Trainer, TrainingArguments

    torch.manual_seed(0)
    model = tiny.llama(case["vocab"], hidden=case["hidden"], layers=case["layers"])
    if device == "cuda":
        model = tiny.lora(tiny.eight_bit(model, folder / "base"))
    rows = torch.randint(3, case["vocab"], (case["batch"] * 6, case["length"]))
    data = [{"input_ids": row, "labels": row} for row in rows]
    args = TrainingArguments(
        output_dir=str(folder / "run"),
        per_device_train_batch_size=case["batch"],
        per_device_eval_batch_size=case["batch"],
        max_steps=10,
        logging_steps=1,  # more often than anybody logs: the dearest case
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=device == "cpu",
        optim="sgd",
    )
    return Trainer(model=model, args=args, train_dataset=data, processing_class=tokenizer(case["vocab"])), data


def tokenizer(vocab: int) -> Any:
    """A byte-level vocabulary of the wanted size; beyond the bytes its tokens are made up."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*SPECIAL, *alphabet, *(f"x{index}" for index in range(vocab - len(alphabet) - len(SPECIAL)))]
    inner = Tokenizer(models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def timed(work: Any) -> float:
    """Seconds of wall time."""
    import torch

    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def ratios(trainer: Any, data: Any, pairs: int) -> dict[str, list[float]]:
    """Ratios with / without, pair by pair, for training and evaluation; and the plain seconds per step and batch."""
    from ko_cpt_callbacks import KoCPTCallback

    callback = KoCPTCallback(outputs=["files"])
    found: dict[str, list[float]] = {"training": [], "evaluation": [], "step": [], "batch": []}
    for index in range(pairs + 1):  # the first pair warms up
        took = {}
        for flag in (True, False) if index % 2 else (False, True):
            if flag:
                callback.attach(trainer)
            took[flag] = timed(lambda: trainer.evaluate(data))
            if flag:
                trainer.pop_callback(callback)
        if index:
            found["evaluation"].append(took[True] / took[False])
            found["batch"].append(took[False] / (len(data) // trainer.args.per_device_eval_batch_size))
    trainer.args.max_steps = 4 * pairs + 4
    steps = step_times(trainer, callback)
    callback.attach(trainer)
    trainer.add_callback(steps)
    trainer.train()
    with_it, without = steps.seconds[True][1:], steps.seconds[False][1:]
    found["training"] = [one / other for one, other in zip(with_it, without, strict=False)]
    found["step"] = without
    return found


def step_times(trainer: Any, callback: Any) -> Any:
    """A callback that takes ours out at every other step and times each step, logging included."""
    from transformers import TrainerCallback

    class Steps(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.seconds: dict[bool, list[float]] = {True: [], False: []}
            self._present, self._last, self._step = True, 0.0, -1

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == self._step:  # called again because the list grew in front
                return
            self._step = state.global_step
            if self._last:
                self.seconds[self._present].append(time.perf_counter() - self._last)
            self._present = not self._present
            if self._present:
                callback.attach(trainer)
            else:
                trainer.pop_callback(callback)
            self._last = time.perf_counter()

    return Steps()


def verdict(values: list[float], bar: float) -> tuple[str, str]:
    """Median of ratios with the half-width of its 95 % interval, and whether the bar is held."""
    middle = statistics.median(values)
    low, _, high = statistics.quantiles(values, n=4)
    # The notch of a box plot: McGill, Tukey and Larsen 1978.
    half = 1.57 * (high - low) / len(values) ** 0.5
    word = "held" if middle <= bar else "missed" if middle - half > bar else "too noisy to tell"
    return f"{middle:.4f} ± {half:.4f}", word


def peak(case: dict[str, Any], device: str, with_callback: bool) -> None:
    """Run a training and an evaluation, print the peak memory in bytes."""
    import resource

    import torch

    from ko_cpt_callbacks import KoCPTCallback

    with tempfile.TemporaryDirectory() as folder:
        trainer, data = build(case, device, Path(folder))
        if with_callback:
            KoCPTCallback(outputs=["files"]).attach(trainer)
        trainer.train()
        trainer.evaluate(data)
        if device == "cuda":
            print("PEAK", torch.cuda.max_memory_allocated())
        else:
            print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def peak_ratio(name: str, device: str, repeats: int = 3) -> float:
    """Ratio of the smallest peaks of ``repeats`` processes each: a peak is only ever blurred upwards."""
    lowest = {}
    for flag in (False, True):
        command = [sys.executable, __file__, "--peak", json.dumps([name, device, flag])]
        seen = []
        for _ in range(repeats):
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seen.append(int(text.split("PEAK ")[1].split()[0]))
        lowest[flag] = min(seen)
    return lowest[True] / lowest[False]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    if options.peak:
        name, device, flag = json.loads(options.peak)
        peak(CASES[name], device, flag)
        return 0
    missed = []
    print(f"{'case':34s} {'what':11s} {'without':>13s} {'ratio':>17s} {'bar':>5s}  verdict")
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            trainer, data = build(case, options.device, Path(folder))
            found = ratios(trainer, data, options.pairs)
        for what, unit, bar in (("training", "step", TRAINING), ("evaluation", "batch", EVALUATION)):
            shown, word = verdict(found[what], bar)
            plain = f"{1000 * statistics.median(found[unit]):.0f} ms/{unit}"
            print(f"{name:34s} {what:11s} {plain:>13s} {shown:>17s} {bar:5.2f}  {word}", flush=True)
            missed += [f"{name}: {what}"] if word == "missed" else []
        ratio = peak_ratio(name, options.device)
        word = "held" if ratio <= MEMORY else "missed"
        print(f"{name:34s} {'peak memory':11s} {'':>13s} {ratio:17.4f} {MEMORY:5.2f}  {word}", flush=True)
        missed += [f"{name}: peak memory"] if ratio > MEMORY else []
    print("missed: " + "; ".join(missed) if missed else "no bar missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
