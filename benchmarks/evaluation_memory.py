"""What an evaluation takes more of memory with the callback: vocabulary 256k, batches of 2 rows of 1,024 tokens.

    python benchmarks/evaluation_memory.py                  # the table; exit 1 when a bar is missed
    python benchmarks/evaluation_memory.py --device cuda    # the allocator's peak instead of the process's

Bar: the peak of the Trainer's own evaluation and 256 MB. Cases: the model's own loss; labels taken out of the call
(label smoothing); logits without a loss; a fused loss that never makes the logits, where hidden states times head are
computed by the callback. Each peak is a process of its own; the smallest of some is taken, as a peak is only ever
blurred upwards.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

VOCABULARY, ROWS, LENGTH, BATCHES, HIDDEN = 256_000, 2, 1024, 2, 32
BAR_MB = 256
CASES = ("own loss", "label smoothing", "no loss", "fused loss")


def build(case: str, device: str, folder: Path) -> Any:
    """A Trainer without the callback."""
    import tiny
    import torch
    from overhead import tokenizer
    from transformers import Trainer, TrainingArguments

    model = tiny.llama(VOCABULARY, hidden=HIDDEN, layers=1, seed=0)
    model.config.max_position_embeddings = LENGTH
    trainer_class = Trainer
    if case == "no loss":

        class Own(Trainer):  # type: ignore[misc]
            """Evaluates nothing that would need a copy of the logits."""

            def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
                inputs.pop("labels")
                outputs = model(**inputs)
                loss = outputs["logits"].mean()
                return (loss, outputs) if return_outputs else loss

        trainer_class = Own
    if case == "fused loss":
        fuse(model)
    rows = torch.randint(3, VOCABULARY, (ROWS * BATCHES, LENGTH))
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_eval_batch_size=ROWS,
        report_to="none",
        disable_tqdm=True,
        use_cpu=device == "cpu",
        label_smoothing_factor=0.1 if case == "label smoothing" else 0.0,
    )
    data = [{"input_ids": row, "labels": row} for row in rows]
    return trainer_class(model=model, args=args, eval_dataset=data, processing_class=tokenizer(VOCABULARY))


def fuse(model: Any) -> None:
    """Give the model a loss over pieces of its hidden states, without logits, as fused kernels have."""
    import torch
    import torch.nn.functional as F
    from transformers.modeling_outputs import CausalLMOutputWithPast

    plain = model.forward

    def forward(input_ids: Any = None, labels: Any = None, num_items_in_batch: Any = None, **kwargs: Any) -> Any:
        if labels is None:
            return plain(input_ids=input_ids, **kwargs)
        states = model.model(input_ids=input_ids, **kwargs).last_hidden_state[:, :-1].flatten(0, 1)
        targets, total = labels[:, 1:].flatten(), torch.zeros((), device=labels.device)
        for start in range(0, len(targets), 16):
            part = slice(start, start + 16)
            total = total + F.cross_entropy(model.lm_head(states[part]).float(), targets[part], reduction="sum")
        return CausalLMOutputWithPast(loss=total / (len(targets) if num_items_in_batch is None else num_items_in_batch))

    model.forward = forward


def peak(case: str, device: str, with_callback: bool) -> None:
    """Evaluate once and print the peak memory in bytes, and the exact loss where there is the callback."""
    import resource

    import torch

    from ko_cpt_callbacks import KoCPTCallback

    with tempfile.TemporaryDirectory() as folder:
        trainer = build(case, device, Path(folder))
        if with_callback:
            KoCPTCallback(outputs=["files"]).attach(trainer)
        metrics = trainer.evaluate()
        used = torch.cuda.max_memory_allocated() if device == "cuda" else 0
        found = {"peak": used or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
        print("PEAK", json.dumps({**found, "exact": metrics.get("eval_exact_loss"), "loss": metrics["eval_loss"]}))


def lowest(case: str, device: str, with_callback: bool, repeats: int) -> dict[str, Any]:
    """The process with the lowest peak."""
    command = [sys.executable, __file__, "--peak", json.dumps([case, device, with_callback])]
    seen = []
    for _ in range(repeats):
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        seen.append(json.loads(text.split("PEAK ")[1].splitlines()[0]))
    return min(seen, key=lambda item: int(item["peak"]))


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    if options.peak:
        peak(*json.loads(options.peak))
        return 0
    missed = []
    print(f"{'evaluation':16s} {'without':>10s} {'with':>10s} {'added':>9s} {'bar':>7s}  verdict")
    for case in CASES:
        plain, watched = (lowest(case, options.device, flag, options.repeats) for flag in (False, True))
        added = (watched["peak"] - plain["peak"]) / 1e6
        held = added <= BAR_MB and watched["exact"] is not None
        word = "held" if held else "missed" if watched["exact"] is not None else "no exact loss"
        sizes = f"{plain['peak'] / 1e6:7,.0f} MB {watched['peak'] / 1e6:7,.0f} MB {added:6,.0f} MB {BAR_MB:4d} MB"
        print(f"{case:16s} {sizes}  {word}", flush=True)
        missed += [] if held else [case]
    print("missed: " + "; ".join(missed) if missed else "no bar missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
