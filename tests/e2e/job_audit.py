"""What the tests of the audit on two ranks do in processes of their own."""

from __future__ import annotations

import os
from typing import Any

from e2e import job

from ko_cpt_callbacks import ConfigurationError, KoCPTCallback


def train(folder: str, target: str = "eval_ppl<1000", fault: str = "", metric: str = "loss") -> dict[str, Any]:
    """A run of two steps as one rank of several, two of its evaluation rows among those it trains on.

    Args:
        folder: ``output_dir``.
        target: What it must reach.
        metric: What the best model is chosen by.
        fault: A key of `job.FAULTS` or of `FAULTS`; empty for none.
    """
    rank = int(os.environ["RANK"])
    extra = {**job.FAULTS, **FAULTS}[fault](rank, folder) if fault else {}
    callback = KoCPTCallback(targets=[extra.pop("target", target)], outputs=["files"])
    callbacks = [] if extra.get("without_callback") else [callback]
    trainer = job.build(folder, callbacks, max_steps=2, save_strategy="no", metric_for_best_model=metric)
    trainer.train_dataset = [*trainer.train_dataset, *trainer.eval_dataset[:2]]
    said = None
    try:
        trainer.train()
    except (ConfigurationError, KeyError) as error:
        said = str(error)
    return {**job.report(trainer, callback), "said": said}


def _another_target_on_rank_1(rank: int, folder: str) -> dict[str, Any]:
    """Rank 1 alone is told of a set that does not exist."""
    return {"target": "eval_kr_ppl<1000"} if rank == 1 else {}


FAULTS = {
    "look raises on rank 0": job._replace("ko_cpt_callbacks.hf.audit.run:data_mistakes", 0),
    "look raises on rank 1": job._replace("ko_cpt_callbacks.hf.audit.run:data_mistakes", 1),
    "sets unknown on rank 0": job._replace("ko_cpt_callbacks.hf.trainer_access:eval_sets", 0),
    "target of rank 1": _another_target_on_rank_1,
}
