"""One Axolotl training in a process of its own: ``job_axolotl.py PAGE`` prints what was measured and the reference."""

from __future__ import annotations

import json
import sys

from axolotl.cli.config import load_cfg
from axolotl.common.datasets import load_datasets
from axolotl.train import train
from reference import loss_of

from ko_cpt_callbacks import KoCPTCallback

if __name__ == "__main__":
    cfg = load_cfg(sys.argv[1])
    model, _, trainer = train(cfg=cfg, dataset_meta=load_datasets(cfg=cfg))
    callback = trainer.callback_handler.callbacks[0]
    sets = trainer.eval_dataset if isinstance(trainer.eval_dataset, dict) else {"": trainer.eval_dataset}
    found = {}
    for name, rows in sets.items():
        prefix = f"eval_{name}" if name else "eval"
        whole = len(rows) // trainer.args.eval_batch_size * trainer.args.eval_batch_size  # packing drops the rest
        last = [row for row in trainer.state.log_history if f"{prefix}_runtime" in row][-1]
        found[prefix] = {
            "exact": last.get(f"{prefix}_exact_loss"),
            "why": last.get(f"{prefix}_exact_loss_absent"),
            "tokens": last.get(f"{prefix}_tokens"),
            "trainer": last.get(f"{prefix}_loss"),
            "reference": loss_of(model, rows.select(range(whole)) if trainer.args.dataloader_drop_last else rows),
        }
    print("RESULT", json.dumps({"first": isinstance(callback, KoCPTCallback), "sets": found}))
