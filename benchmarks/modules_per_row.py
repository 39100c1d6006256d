"""How many modules of the package does one training row enter on its way through ``on_log``?

``python benchmarks/modules_per_row.py`` trains a tiny model and prints, for the median of its rows by that count, each
module entered, how many functions of it ran and how many calls that were; then the count (bar: 25 modules).
``tests/contract/test_modules_per_row.py`` holds the bar.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

PACKAGE = ROOT / "ko_cpt_callbacks"
BAR = 25
STEPS = 141
FIRST = 121
"""Before it most rows are ones to look at the whole run again: forty times while it doubles."""


def entered() -> dict[int, Counter[tuple[str, str]]]:
    """Calls of the package's functions at each training row from `FIRST` on, by module and qualified name."""
    import tiny
    import torch
    from transformers import Trainer, TrainingArguments

    from ko_cpt_callbacks import KoCPTCallback

    calls: dict[int, Counter[tuple[str, str]]] = {}
    now: Counter[tuple[str, str]] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            now[(path.relative_to(PACKAGE).as_posix(), frame.f_code.co_qualname)] += 1

    class Traced(KoCPTCallback):
        def on_log(self, args: Any, state: Any, *rest: Any, **kwargs: Any) -> Any:
            if state.global_step < FIRST:
                return super().on_log(args, state, *rest, **kwargs)
            now.clear()
            sys.setprofile(count)
            try:
                return super().on_log(args, state, *rest, **kwargs)
            finally:
                sys.setprofile(None)
                if "loss" in state.log_history[-1]:
                    calls[state.global_step] = now.copy()

    torch.manual_seed(0)
    rows = torch.randint(3, 60, (300, 8))
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            max_steps=STEPS,
            per_device_train_batch_size=2,
            logging_steps=1,
            eval_strategy="steps",
            eval_steps=70,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        data = [{"input_ids": row, "labels": row} for row in rows]
        trainer = Trainer(model=tiny.llama(64), args=args, train_dataset=data, eval_dataset=data[:8])
        Traced(targets=["loss<1"], patience=3, outputs=["files", "console"]).attach(trainer)
        trainer.train()
    return calls


def main() -> int:
    """Print the table; 1 when the bar is missed."""
    rows = entered()
    count = {step: len({path for path, _ in calls}) for step, calls in rows.items()}
    step = sorted(count, key=lambda one: (count[one], one))[len(count) // 2]
    modules: dict[str, list[int]] = {}
    for (path, _), many in rows[step].items():
        modules.setdefault(path, []).append(many)
    for path, counts in sorted(modules.items()):
        print(f"{path:40s} {len(counts):3d} functions {sum(counts):5d} calls")
    print(
        f"{len(modules)} modules at the median row (bar {BAR}), "
        f"{min(count.values())} to {max(count.values())} at others"
    )
    return int(len(modules) > BAR)


if __name__ == "__main__":
    sys.exit(main())
