"""What the tracker tests do in processes of their own: train with trackers on, read back what they stored."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import tiny
import torch
from e2e import job
from torch.utils.data import SequentialSampler
from transformers import LlamaForCausalLM, Trainer

from ko_cpt_callbacks import KoCPTCallback


def tensorboard(folder: str) -> dict[str, Any]:
    """A run that reports to TensorBoard: steps and values of its event file's scalars, and its texts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    job.build(folder, [KoCPTCallback(targets=["eval_exact_loss<9@end"])], report_to=["tensorboard"]).train()
    (events,) = Path(folder).rglob("events.out.tfevents.*")
    reader = EventAccumulator(str(events.parent))
    reader.Reload()
    tags = reader.Tags()
    scalars = {tag: {str(point.step): point.value for point in reader.Scalars(tag)} for tag in tags["scalars"]}
    texts = {tag: reader.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in tags["tensors"]}
    return {"scalars": scalars, "texts": texts}


def trackio(folder: str) -> dict[str, Any]:
    """A run that reports to a local trackio database: its rows and configuration, as trackio's own API gives them."""
    os.environ.update(TRACKIO_DIR=f"{folder}/trackio", HF_HUB_DISABLE_TELEMETRY="1")
    job.build(
        folder,
        [KoCPTCallback(targets=["eval_exact_loss<9@end"])],
        report_to=["trackio"],
        project="ko",
        run_name="run",
        trackio_static_space_id=False,
    ).train()
    from trackio.sqlite_storage import SQLiteStorage

    return {"rows": list(SQLiteStorage.get_logs("ko", "run")), "config": SQLiteStorage.get_run_config("ko", "run")}


class _Ordered(Trainer):
    """Sees the training rows in their order."""

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        return SequentialSampler(self.train_dataset)


def best_model(folder: str) -> dict[str, Any]:
    """Trains first on long rows, then on one short row, and keeps the best checkpoint by the exact loss.

    The evaluation has one long row and many short ones, in batches of one: the Trainer's loss, a mean over rows,
    goes on falling while the loss over tokens rises.
    """
    tokenizer = tiny.byte_level_tokenizer()
    long = tiny.rows(tiny.korean(), tokenizer, 200)
    long = [row for row in long if len(row["input_ids"]) >= 100][:8]
    short = {"input_ids": tokenizer.encode("<s>가나다</s>", add_special_tokens=False)}
    callback = KoCPTCallback()
    trainer = job.build(
        folder,
        [callback],
        trainer_class=_Ordered,
        max_steps=24,
        logging_steps=4,
        eval_steps=4,
        save_steps=4,
        learning_rate=2e-2,
        lr_scheduler_type="constant",
        per_device_train_batch_size=1,
        per_device_eval_batch_size=1,
        metric_for_best_model="eval_exact_loss",
        load_best_model_at_end=True,
    )
    trainer.train_dataset = long + [short] * 16
    trainer.eval_dataset = [long[0]] + [short] * 12
    trainer.train()
    evaluations = [row for row in trainer.state.log_history if "eval_loss" in row]
    checkpoints = {step: LlamaForCausalLM.from_pretrained(f"{folder}/checkpoint-{step}") for step in range(4, 25, 4)}
    loaded = trainer.model.state_dict()
    return {
        "best_model_checkpoint": trainer.state.best_model_checkpoint,
        "best": callback.best,
        "trainer": {str(row["step"]): row["eval_loss"] for row in evaluations},
        "exact": {str(row["step"]): row["eval_exact_loss"] for row in evaluations},
        "reference": {str(step): _loss(model, trainer.eval_dataset) for step, model in checkpoints.items()},
        "loaded": [
            step
            for step, model in checkpoints.items()
            if all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())
        ],
    }


def _loss(model: LlamaForCausalLM, rows: list[dict[str, Any]]) -> float:
    """Mean over all target tokens of all rows, one row at a time, in float64."""
    total, count = 0.0, 0
    model.eval()
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row["input_ids"]])
            logits = model(input_ids=ids).logits[0, :-1].double()
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            count += ids.shape[1] - 1
    return total / count
