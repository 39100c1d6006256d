"""How many modules of the package does one training row enter on its way through ``on_log``?

``python benchmarks/modules_per_row.py`` trains a tiny model and prints, for a row in the middle of the run, each module
entered, how many functions of it ran and how many calls that were; then the count (bar: 25 modules).
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

PACKAGE = ROOT / "ko_cpt_callbacks"
BAR = 25
STEP = 20


def main() -> int:
    """Print the table; 1 when the bar is missed."""
    import tiny
    import torch
    from transformers import Trainer, TrainingArguments

    from ko_cpt_callbacks import KoCPTCallback

    entered: Counter[tuple[str, str]] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            entered[(frame.f_code.co_filename, frame.f_code.co_qualname)] += 1

    class Traced(KoCPTCallback):
        def on_log(self, args: Any, state: Any, *rest: Any, **kwargs: Any) -> Any:
            if state.global_step != STEP:
                return super().on_log(args, state, *rest, **kwargs)
            sys.setprofile(count)
            try:
                return super().on_log(args, state, *rest, **kwargs)
            finally:
                sys.setprofile(None)

    torch.manual_seed(0)
    rows = torch.randint(3, 60, (64, 16))
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            max_steps=30,
            logging_steps=1,
            eval_strategy="steps",
            eval_steps=7,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        data = [{"input_ids": row, "labels": row} for row in rows]
        trainer = Trainer(model=tiny.llama(64), args=args, train_dataset=data, eval_dataset=data[:8])
        Traced(targets=["loss<1"], patience=3, outputs=["files", "console"]).attach(trainer)
        trainer.train()

    modules: dict[str, list[int]] = {}
    for (path, _), calls in entered.items():
        modules.setdefault(path, []).append(calls)
    for path, calls in sorted(modules.items()):
        print(f"{Path(path).relative_to(PACKAGE)!s:40s} {len(calls):3d} functions {sum(calls):5d} calls")
    print(f"{len(modules)} modules (bar {BAR}), {sum(entered.values())} calls")
    return int(len(modules) > BAR)


if __name__ == "__main__":
    sys.exit(main())
