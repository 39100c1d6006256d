"""Trainers of the exactness table's kinds (``exactness_kind.py``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

Row = Mapping[str, Sequence[int]]
Rows = Sequence[Row]


def plain(model: Any, arguments: dict[str, Any], rows: Any, callback: Any, **more: Any) -> Any:
    """A Trainer, unless another class (``kind``) or other arguments are given."""
    import tiny
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    tokenizer = tiny.byte_level_tokenizer()
    kind = more.pop("kind", Trainer)
    collator = more.pop("data_collator", None) or DataCollatorForLanguageModeling(tokenizer, mlm=False)
    return kind(
        model=model,
        args=TrainingArguments(**arguments),
        train_dataset=more.pop("train", rows),
        eval_dataset=rows,
        data_collator=collator,
        processing_class=tokenizer,
        callbacks=[callback],
        **more,
    )


def _cross_entropy(logits: Any, labels: Any, count: Any) -> Any:
    total = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), reduction="sum")
    return total / ((labels[:, 1:] != -100).sum() if count is None else count)


def popped_labels(model: Any, arguments: dict[str, Any], rows: Rows, callback: Any) -> Any:
    """``compute_loss`` of the user's own, which takes the labels out of the call."""
    from transformers import Trainer

    class Popping(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            labels = inputs.pop("labels")
            output = model(**inputs)
            loss = _cross_entropy(output.logits, labels, kwargs.get("num_items_in_batch"))
            return (loss, output) if return_outputs else loss

    return plain(model, arguments, rows, callback, kind=Popping)


def loss_function(model: Any, arguments: dict[str, Any], rows: Rows, callback: Any) -> Any:
    """``compute_loss_func`` that trains on a third of the cross-entropy."""

    def third(output: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        return 0.3 * _cross_entropy(output["logits"], labels, num_items_in_batch)

    return plain(model, arguments, rows, callback, compute_loss_func=third)


def batch_metrics(model: Any, arguments: dict[str, Any], rows: Rows, callback: Any) -> Any:
    """Metrics computed batch by batch."""

    def count(_prediction: Any, compute_result: bool = False) -> dict[str, float]:
        return {"seen": 1.0} if compute_result else {}

    return plain(model, arguments, rows, callback, compute_metrics=count)


def streaming(model: Any, arguments: dict[str, Any], rows: Rows, callback: Any) -> Any:
    """A data set without a length. All rows in blocks of one length: dispatched batches must have one shape."""

    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield from ({"input_ids": list(row["input_ids"])} for row in rows)

    return plain(model, arguments, Stream(), callback, train=rows)


def packed_lines(model: Any, arguments: dict[str, Any], rows: Rows, callback: Any) -> Any:
    """Three documents a line, several lines a batch, positions that begin again; starts are no targets."""
    lines = [rows[at : at + 3] for at in range(0, len(rows), 3)]

    def collate(features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        batch: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "position_ids": []}
        for feature in features:
            documents = [list(row) for row in feature["documents"]]
            batch["input_ids"].append([token for row in documents for token in row])
            batch["labels"].append([token if at else -100 for row in documents for at, token in enumerate(row)])
            batch["position_ids"].append([at for row in documents for at in range(len(row))])
        length = max(map(len, batch["input_ids"]))
        fill = {"input_ids": 2, "labels": -100, "position_ids": 0}
        return {
            name: torch.tensor([line + [fill[name]] * (length - len(line)) for line in found])
            for name, found in batch.items()
        }

    packed = [{"documents": [list(row["input_ids"]) for row in line]} for line in lines]
    return plain(model, {**arguments, "remove_unused_columns": False}, packed, callback, data_collator=collate)


def by_hand(model: Any, arguments: dict[str, Any], rows: Rows, callback: Any) -> Any:
    """A model that is sharded already: accelerate, which knows no FSDP on CPU, must not wrap it."""
    from transformers import Trainer

    class Sharded(Trainer):
        def create_accelerator_and_postprocess(self) -> None:
            super().create_accelerator_and_postprocess()
            self.accelerator.prepare_model = lambda model, **_: model

    return plain(model, arguments, rows, callback, kind=Sharded)


def sft(**settings: Any) -> Callable[[Any, dict[str, Any], Rows, Any], Any]:
    """TRL's SFTTrainer on the same rows."""

    def make(model: Any, arguments: dict[str, Any], rows: Rows, callback: Any) -> Any:
        import tiny
        from datasets import Dataset
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        data = Dataset.from_list([{"input_ids": list(row["input_ids"])} for row in rows])
        shape = {"bf16": False, "gradient_checkpointing": False, "max_length": 96, **settings}
        return SFTTrainer(
            model=model,
            args=SFTConfig(**{**shape, **arguments}),
            train_dataset=data,
            eval_dataset=data,
            processing_class=tiny.byte_level_tokenizer(),
            callbacks=[callback],
        )

    return make


def _pairs(arguments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    import tiny
    from datasets import Dataset

    texts = tiny.korean()[:12]
    rows = {"prompt": [text[:6] for text in texts], "chosen": [text[6:20] for text in texts]}
    rows["rejected"] = [text[6:20][::-1] for text in texts]
    own = {"bf16": False, "gradient_checkpointing": False, "max_length": 64}
    return Dataset.from_dict(rows), {**own, **arguments}


def preference(module: str, name: str, **settings: Any) -> Callable[[Any, dict[str, Any], Rows, Any], Any]:
    """A Trainer of TRL that scores pairs, by the modules and names of its classes."""

    def make(model: Any, arguments: dict[str, Any], _rows: Rows, callback: Any) -> Any:
        import importlib

        import tiny

        pairs, known = _pairs(arguments)
        config = getattr(importlib.import_module(f"{module}_config"), f"{name}Config")
        trainer = getattr(importlib.import_module(f"{module}_trainer"), f"{name}Trainer")
        names = set(config.__dataclass_fields__)
        return trainer(
            model=model,
            args=config(**{key: value for key, value in {**known, **settings}.items() if key in names}),
            train_dataset=pairs,
            eval_dataset=pairs,
            processing_class=tiny.byte_level_tokenizer(),
            callbacks=[callback],
        )

    return make


def reinforcement(model: Any, arguments: dict[str, Any], _rows: Rows, callback: Any) -> Any:
    """GRPO: the loss is of texts that the model wrote itself."""
    import tiny
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    pairs, known = _pairs(arguments)
    own = {"num_generations": 2, "max_completion_length": 6, "beta": 0.0, "per_device_train_batch_size": 2}
    known.pop("max_length")
    batch = max(2, int(arguments["per_device_eval_batch_size"]))
    return GRPOTrainer(
        model=model,
        args=GRPOConfig(**{**known, **own, "per_device_eval_batch_size": batch}),
        reward_funcs=lambda completions, **_: [float(len(text)) for text in completions],
        train_dataset=pairs.select_columns(["prompt"]),
        eval_dataset=pairs.select_columns(["prompt"]).select(range(4)),
        processing_class=tiny.byte_level_tokenizer(),
        callbacks=[callback],
    )
